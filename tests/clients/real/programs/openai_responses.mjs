// OpenAI's SDK on responses: a streamed tool loop that replays whole output items.
import OpenAI from "openai";
import { check, MODEL, perform, PROMPT, TOOLS, V1 } from "./task.mjs";

const client = new OpenAI({ baseURL: V1, apiKey: "any-key", maxRetries: 0 });
const input = [{ role: "user", content: PROMPT }];
const tools = TOOLS.map((tool) => ({ type: "function", strict: false, ...tool }));
let answer;
for (let turn = 0; turn < 3; turn += 1) {
  const stream = client.responses.stream({
    model: MODEL,
    input,
    tools,
    store: false,
    include: ["reasoning.encrypted_content"],
  });
  answer = await stream.finalResponse();
  check(answer.usage?.total_tokens > 0, "no usage");
  input.push(...answer.output);
  const calls = answer.output.filter((item) => item.type === "function_call");
  if (!calls.length) break;
  for (const call of calls) {
    const output = perform(call.name, JSON.parse(call.arguments));
    input.push({ type: "function_call_output", call_id: call.call_id, output });
  }
}
console.log(answer.output_text);
