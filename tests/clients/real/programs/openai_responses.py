"""OpenAI's SDK on responses: a streamed tool loop that replays whole output items."""

import json

import task
from openai import OpenAI

client = OpenAI(base_url=task.V1, api_key="any-key", max_retries=0)
items = [{"role": "user", "content": task.PROMPT}]
tools = [{"type": "function", "strict": False, **tool} for tool in task.TOOLS]
for _ in range(3):
    with client.responses.stream(
        model=task.MODEL,
        input=items,
        tools=tools,
        store=False,
        reasoning={"effort": "low", "summary": "auto"} if task.MODEL != "gpt-4.1" else None,
        include=["reasoning.encrypted_content"],
    ) as stream:
        for _event in stream:
            pass
        answer = stream.get_final_response()
    assert answer.usage is not None
    assert answer.usage.total_tokens > 0
    items += [item.model_dump() for item in answer.output]
    calls = [item for item in answer.output if item.type == "function_call"]
    if not calls:
        break
    for call in calls:
        said = task.perform(call.name, json.loads(call.arguments))
        items.append({"type": "function_call_output", "call_id": call.call_id, "output": said})
print(answer.output_text)
