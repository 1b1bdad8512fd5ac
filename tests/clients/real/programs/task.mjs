// The task of every library: read the note and write the file, through two tools of its own.
import { readFileSync, writeFileSync } from "node:fs";

export const { GATEWAY, MODEL, NOTE, MADE, WIRE } = process.env;
export const V1 = `${GATEWAY}/v1`;
export const PROMPT =
  `call read_file ${JSON.stringify({ path: NOTE })} ` +
  `call write_file ${JSON.stringify({ path: MADE, content: "hello" })}`;
const path = { type: "string" };
export const TOOLS = [
  {
    name: "read_file",
    description: "Read a file.",
    parameters: { type: "object", properties: { path }, required: ["path"] },
  },
  {
    name: "write_file",
    description: "Write a file.",
    parameters: {
      type: "object",
      properties: { path, content: { type: "string" } },
      required: ["path", "content"],
    },
  },
];

export function perform(name, given) {
  if (name === "read_file") return readFileSync(given.path, "utf8");
  writeFileSync(given.path, given.content);
  return "written";
}

export function check(isTrue, what) {
  if (!isTrue) throw new Error(what);
}
