"""LiteLLM as a library: a streamed tool loop on the wire that WIRE names."""

import json

import litellm
import task

litellm.telemetry = False
provider = {"chat": "openai", "messages": "anthropic", "responses": "openai/responses"}[task.WIRE]
base = task.GATEWAY if task.WIRE == "messages" else task.V1
messages = [{"role": "user", "content": task.PROMPT}]
tools = [{"type": "function", "function": tool} for tool in task.TOOLS]
for _ in range(3):
    chunks = list(
        litellm.completion(
            model=f"{provider}/{task.MODEL}",
            api_base=base,
            api_key="any-key",
            messages=messages,
            tools=tools,
            stream=True,
            stream_options={"include_usage": True},
            max_tokens=2000,
            num_retries=0,
        )
    )
    answer = litellm.stream_chunk_builder(chunks, messages=messages)
    assert answer.usage.total_tokens > 0
    message = answer.choices[0].message
    messages.append(message.model_dump(exclude_none=True))
    if not message.tool_calls:
        break
    for call in message.tool_calls:
        said = task.perform(call.function.name, json.loads(call.function.arguments))
        messages.append({"role": "tool", "tool_call_id": call.id, "content": said})
print(message.content)
