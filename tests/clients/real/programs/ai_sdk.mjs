// Vercel's AI SDK: `streamText` with two tools, on the wire that WIRE names.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { jsonSchema, stepCountIs, streamText, tool } from "ai";
import { check, MODEL, perform, PROMPT, TOOLS, V1, WIRE } from "./task.mjs";

const options = { baseURL: V1, apiKey: "any-key" };
const model = {
  chat: () => createOpenAICompatible({ ...options, name: "gateway", includeUsage: true })(MODEL),
  messages: () => createAnthropic(options)(MODEL),
  responses: () => createOpenAI(options).responses(MODEL),
}[WIRE]();
const tools = {};
for (const { name, description, parameters } of TOOLS) {
  const execute = async (given) => perform(name, given);
  tools[name] = tool({ description, inputSchema: jsonSchema(parameters), execute });
}
const providerOptions = { openai: { store: false } };
const result = streamText({
  model,
  tools,
  providerOptions,
  prompt: PROMPT,
  stopWhen: stepCountIs(3),
  maxRetries: 0,
  onError: ({ error }) => {
    throw error;
  },
});
let said = "";
for await (const part of result.textStream) said += part;
check((await result.totalUsage).totalTokens > 0, "no usage");
console.log(said);
