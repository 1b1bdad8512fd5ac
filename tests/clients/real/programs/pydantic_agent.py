"""pydantic-ai: an agent with two tools, not streamed and streamed, on the wire that WIRE names."""

import asyncio
from collections.abc import AsyncIterable

import task
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

openai = OpenAIProvider(base_url=task.V1, api_key="any-key")
match task.WIRE:
    case "messages":
        provider = AnthropicProvider(base_url=task.GATEWAY, api_key="any-key")
        model = AnthropicModel(task.MODEL, provider=provider)
    case "responses":
        model = OpenAIResponsesModel(task.MODEL, provider=openai)
    case _:
        model = OpenAIChatModel(task.MODEL, provider=openai)
agent = Agent(model, tools=[task.read_file, task.write_file], retries=0)


async def watch(_context: object, events: AsyncIterable[object]) -> None:
    async for _event in events:
        pass


async def main() -> None:
    whole = await agent.run("Hello")
    assert whole.output == "You said: Hello", whole.output
    streamed = await agent.run(task.PROMPT, event_stream_handler=watch)
    assert streamed.usage.total_tokens > 0
    print(streamed.output)


asyncio.run(main())
