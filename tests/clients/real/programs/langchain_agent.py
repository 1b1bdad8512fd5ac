"""LangChain's chat models: a tool loop through `bind_tools`, on the wire that WIRE names."""

import task
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

match task.WIRE:
    case "messages":
        model = ChatAnthropic(
            model=task.MODEL, base_url=task.GATEWAY, api_key="any-key", max_retries=0
        )
    case wire:
        model = ChatOpenAI(
            model=task.MODEL,
            base_url=task.V1,
            api_key="any-key",
            max_retries=0,
            use_responses_api=wire == "responses",
            stream_usage=True,
        )
bound = model.bind_tools([tool(task.read_file), tool(task.write_file)])
messages = [HumanMessage(task.PROMPT)]
for _ in range(3):
    answer = None
    for chunk in bound.stream(messages):
        answer = chunk if answer is None else answer + chunk
    assert answer is not None
    assert answer.usage_metadata["total_tokens"] > 0, answer
    messages.append(answer)
    if not answer.tool_calls:
        break
    for call in answer.tool_calls:
        said = task.perform(call["name"], call["args"])
        messages.append(ToolMessage(said, tool_call_id=call["id"]))
print(answer.text)
