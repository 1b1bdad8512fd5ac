"""Anthropic's SDK: a streamed tool loop with thinking."""

import task
from anthropic import Anthropic

client = Anthropic(base_url=task.GATEWAY, api_key="any-key", max_retries=0)
messages = [{"role": "user", "content": task.PROMPT}]
tools = [
    {"name": t["name"], "description": t["description"], "input_schema": t["parameters"]}
    for t in task.TOOLS
]
asked = {"model": task.MODEL, "tools": tools}
assert client.messages.count_tokens(messages=messages, **asked).input_tokens > 10
for _ in range(3):
    with client.messages.stream(
        max_tokens=4000,
        messages=messages,
        thinking={"type": "enabled", "budget_tokens": 2000},
        **asked,
    ) as stream:
        for _event in stream:
            pass
        answer = stream.get_final_message()
    assert answer.usage.output_tokens > 0
    messages.append({"role": "assistant", "content": [b.model_dump() for b in answer.content]})
    calls = [block for block in answer.content if block.type == "tool_use"]
    if not calls:
        break
    results = [
        {"type": "tool_result", "tool_use_id": c.id, "content": task.perform(c.name, c.input)}
        for c in calls
    ]
    messages.append({"role": "user", "content": results})
print("".join(block.text for block in answer.content if block.type == "text"))
