"""OpenAI's SDK on chat completions: a streamed tool loop."""

import json

import task
from openai import OpenAI

client = OpenAI(base_url=task.V1, api_key="any-key", max_retries=0)
messages = [{"role": "user", "content": task.PROMPT}]
tools = [{"type": "function", "function": tool} for tool in task.TOOLS]
for _ in range(3):
    with client.chat.completions.stream(
        model=task.MODEL, messages=messages, tools=tools, stream_options={"include_usage": True}
    ) as stream:
        for _event in stream:
            pass
        answer = stream.get_final_completion()
    assert answer.usage is not None
    assert answer.usage.total_tokens > 0
    message = answer.choices[0].message
    messages.append(message.model_dump())
    if not message.tool_calls:
        break
    for call in message.tool_calls:
        said = task.perform(call.function.name, json.loads(call.function.arguments))
        messages.append({"role": "tool", "tool_call_id": call.id, "content": said})
print(message.content)
