// Anthropic's SDK: a streamed tool loop with thinking.
import Anthropic from "@anthropic-ai/sdk";
import { check, GATEWAY, MODEL, perform, PROMPT, TOOLS } from "./task.mjs";

const client = new Anthropic({ baseURL: GATEWAY, apiKey: "any-key", maxRetries: 0 });
const messages = [{ role: "user", content: PROMPT }];
const tools = TOOLS.map(({ parameters, ...tool }) => ({ ...tool, input_schema: parameters }));
const asked = { model: MODEL, tools };
const counted = await client.messages.countTokens({ messages, ...asked });
check(counted.input_tokens > 10, "nothing counted");
let answer;
for (let turn = 0; turn < 3; turn += 1) {
  const stream = client.messages.stream({
    ...asked,
    max_tokens: 4000,
    messages,
    thinking: { type: "enabled", budget_tokens: 2000 },
  });
  answer = await stream.finalMessage();
  check(answer.usage.output_tokens > 0, "no usage");
  messages.push({ role: "assistant", content: answer.content });
  const calls = answer.content.filter((block) => block.type === "tool_use");
  if (!calls.length) break;
  const content = calls.map((call) => ({
    type: "tool_result",
    tool_use_id: call.id,
    content: perform(call.name, call.input),
  }));
  messages.push({ role: "user", content });
}
console.log(answer.content.filter((b) => b.type === "text").map((b) => b.text).join(""));
