// OpenAI's SDK on chat completions: a streamed tool loop.
import OpenAI from "openai";
import { check, MODEL, perform, PROMPT, TOOLS, V1 } from "./task.mjs";

const client = new OpenAI({ baseURL: V1, apiKey: "any-key", maxRetries: 0 });
const messages = [{ role: "user", content: PROMPT }];
const tools = TOOLS.map((tool) => ({ type: "function", function: tool }));
let message;
for (let turn = 0; turn < 3; turn += 1) {
  const stream = client.chat.completions.stream({
    model: MODEL,
    messages,
    tools,
    stream_options: { include_usage: true },
  });
  const answer = await stream.finalChatCompletion();
  check(answer.usage?.total_tokens > 0, "no usage");
  message = answer.choices[0].message;
  messages.push(message);
  if (!message.tool_calls?.length) break;
  for (const call of message.tool_calls) {
    const content = perform(call.function.name, JSON.parse(call.function.arguments));
    messages.push({ role: "tool", tool_call_id: call.id, content });
  }
}
console.log(message.content);
