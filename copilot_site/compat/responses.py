"""Responses as the OpenAI SDKs and Codex read it."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from copilot_site.compat.chat import check_error
from copilot_site.compat.scenarios import HELLO, NO_MODEL, SCHEMA, WEATHER, Models, Scenario
from copilot_site.compat.wire import Body, Client, Frame, expect, parsed

PATH = "/v1/responses"
TOOL: Body = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather",
    "parameters": SCHEMA,
    "strict": True,
}
ENDS = ("response.completed", "response.incomplete")
# A delta, the event that says it whole, and the field there.
WHOLES = {
    "response.output_text.delta": ("response.output_text.done", "text"),
    "response.function_call_arguments.delta": (
        "response.function_call_arguments.done",
        "arguments",
    ),
}


def scenarios() -> Iterator[Scenario]:
    for target in ("responses", "messages", "chat"):
        for name, run in (("text", text), ("stream", stream), ("tools", tools)):
            yield Scenario(
                f"openai: responses {name}, model on {target}", partial(run, target=target)
            )
    yield Scenario("openai: responses tool stream", tool_stream)
    yield Scenario("openai: responses input_tokens", input_tokens)
    yield Scenario("openai: responses compaction", compaction)
    yield Scenario("openai: responses errors", errors)


def asked(model: str, said: str = HELLO, **more: Any) -> Body:
    return {"model": model, "input": [{"role": "user", "content": said}], "store": False, **more}


def text(client: Client, models: Models, *, target: str) -> None:
    response = _checked(client.post(PATH, asked(models.of(target))).ok().json())
    expect(_said(response), "the output has no text")


def _checked(response: Body) -> Body:
    expect(response.get("object") == "response", "object is not 'response'")
    expect(
        response.get("status") in ("completed", "incomplete"), f"status {response.get('status')}"
    )
    for name, kind in (("id", str), ("model", str), ("output", list), ("tools", list)):
        expect(isinstance(response.get(name), kind), f"{name} is missing")
    expect(isinstance(response.get("created_at"), int | float), "created_at is missing")
    for name in ("parallel_tool_calls", "tool_choice"):
        expect(name in response, f"{name} is missing")
    for name in ("input_tokens", "output_tokens", "total_tokens"):
        expect(isinstance((response.get("usage") or {}).get(name), int), f"usage.{name} is missing")
    for item in response["output"]:
        expect(isinstance(item.get("id"), str) and item["id"], f"{item.get('type')} has no id")
    return response


def _said(response: Body) -> str:
    parts = [p for i in response["output"] if i["type"] == "message" for p in i["content"]]
    expect(all("annotations" in p for p in parts if p["type"] == "output_text"), "no annotations")
    return "".join(p.get("text", "") for p in parts)


def stream(client: Client, models: Models, *, target: str) -> None:
    final = _final(client.post(PATH, asked(models.of(target), stream=True)).frames())
    expect(_said(final), "the output has no text")


def _final(frames: list[Frame]) -> Body:
    """The last event's response, after everything before it was checked against each other."""
    events: list[Body] = [frame.json() for frame in frames]
    kinds = [event.get("type") for event in events]
    for frame, kind in zip(frames, kinds, strict=True):
        expect(frame.event == kind, f"event {frame.event!r} holds the type {kind!r}")
    failed = next((e for e in events if e["type"] in ("error", "response.failed")), None)
    expect(failed is None, f"the stream says: {failed}")
    expect(kinds[:1] == ["response.created"], "the stream does not begin with response.created")
    expect(kinds[-1] in ENDS, f"the stream ends with {kinds[-1]}")
    numbers = [event.get("sequence_number") for event in events]
    expect(numbers == list(range(len(events))), "the sequence numbers have gaps")
    ids = {event["response"]["id"] for event in events if "response" in event}
    expect(len(ids) == 1, f"the response has {len(ids)} ids")
    _check_items(events)
    return _checked(events[-1]["response"])


def _check_items(events: list[Body]) -> None:
    own: dict[int, str] = {}
    pieces: dict[tuple[str, int], str] = {}
    done: dict[int, Body] = {}
    for event in events:
        index, kind = event.get("output_index"), event["type"]
        if not isinstance(index, int):
            continue
        if kind == "response.output_item.added":
            expect(index not in own, f"output {index} is added twice")
            own[index] = event["item"]["id"]
        expect(index in own, f"{kind} before output {index} was added")
        seen = event.get("item_id") or (event.get("item") or {}).get("id")
        expect(seen == own[index], f"output {index} has another id in {kind}")
        if whole := WHOLES.get(kind):
            key = (whole[0], index)
            pieces[key] = pieces.get(key, "") + event["delta"]
        elif (kind, index) in pieces:
            field = next(name for event_kind, name in WHOLES.values() if event_kind == kind)
            expect(pieces.pop((kind, index)) == event[field], f"{kind} differs from its deltas")
        if kind == "response.output_item.done":
            done[index] = event["item"]
    expect(not pieces, "deltas without their done event")
    expect(set(done) == set(own), "an output item is never done")
    final = events[-1]["response"]["output"]
    expect(
        [item["id"] for item in final] == [own[i] for i in sorted(own)], "the final output differs"
    )


def tools(client: Client, models: Models, *, target: str) -> None:
    choice = {"type": "function", "name": "get_weather"}
    body = asked(models.of(target), WEATHER, tools=[TOOL], tool_choice=choice)
    response = _checked(client.post(PATH, body).ok().json())
    calls = _calls(response)
    results = [
        {"type": "function_call_output", "call_id": call["call_id"], "output": "rain, 12 C"}
        for call in calls
    ]
    history = [*body["input"], *response["output"], *results]
    after = {"model": body["model"], "input": history, "tools": [TOOL], "store": False}
    told = _checked(client.post(PATH, after).ok().json())
    expect(_said(told), "nothing is said after the tool's result")


def _calls(response: Body) -> list[Body]:
    calls = [item for item in response["output"] if item["type"] == "function_call"]
    expect(calls, "no tool was called")
    for call in calls:
        expect(isinstance(call.get("call_id"), str) and call["call_id"], "the call has no call_id")
        expect(call.get("name") == "get_weather", f"the call's name is {call.get('name')!r}")
        expect("city" in parsed(str(call.get("arguments"))), "the arguments lack the city")
    return calls


def tool_stream(client: Client, models: Models) -> None:
    choice = {"type": "function", "name": "get_weather"}
    model = models.of("messages" if models.messages else "responses")
    body = asked(model, WEATHER, tools=[TOOL], tool_choice=choice, stream=True)
    _calls(_final(client.post(PATH, body).frames()))


def input_tokens(client: Client, models: Models) -> None:
    body = {"model": models.of("responses"), "input": HELLO}
    counted = client.post(f"{PATH}/input_tokens", body).ok().json()
    expect(counted.get("object") == "response.input_tokens", "object is wrong")
    expect(isinstance(counted.get("input_tokens"), int), "input_tokens is missing")


def compaction(client: Client, models: Models) -> None:
    """Codex's remote compaction: one item, which a later turn can be given."""
    body = asked(models.of("responses"), "Remember the word swordfish.")
    body["input"].append({"type": "compaction_trigger"})
    response = _final(client.post(PATH, {**body, "stream": True}).frames())
    kinds = [item["type"] for item in response["output"]]
    expect(kinds == ["compaction"], f"the output holds {kinds}, not one compaction item")
    item = response["output"][0]
    expect(isinstance(item.get("encrypted_content"), str), "the item is empty")
    after = {**body, "input": [item, {"role": "user", "content": HELLO}]}
    expect(_said(_checked(client.post(PATH, after).ok().json())), "nothing is said afterwards")


def errors(client: Client, models: Models) -> None:
    check_error(client.post(PATH, asked(NO_MODEL)), 404)
    check_error(client.post(PATH, {"model": models.of("responses")}), 400)
    check_error(client.send("POST", PATH, b"{broken"), 400)
    earlier = asked(models.of("responses"), previous_response_id="resp_unknown")
    answer = client.post(PATH, earlier)
    check_error(answer, 400)
    code = answer.json()["error"]["code"]
    expect(code == "previous_response_not_found", f"the code is {code!r}")
    check_error(client.get(f"{PATH}/resp_unknown"), 404)
