"""generateContent as Google's SDKs and Gemini CLI read it."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from copilot_site.compat.scenarios import HELLO, NO_MODEL, WEATHER, Models, Scenario
from copilot_site.compat.wire import Body, Client, expect, parsed

TOOL: Body = {
    "functionDeclarations": [
        {
            "name": "get_weather",
            "description": "The weather",
            "parameters": {
                "type": "OBJECT",
                "properties": {"city": {"type": "STRING"}},
                "required": ["city"],
            },
        }
    ]
}
FORCED: Body = {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["get_weather"]}}
REASONS = ("STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER")


def scenarios() -> Iterator[Scenario]:
    for target in ("chat", "messages", "responses"):
        for name, run in (("text", text), ("stream", stream), ("tools", tools)):
            yield Scenario(f"gemini: {name}, model on {target}", partial(run, target=target))
    yield Scenario("gemini: models and countTokens", lists)
    yield Scenario("gemini: errors", errors)


def path(model: str, method: str) -> str:
    return f"/v1beta/models/{model}:{method}"


def asked(said: str = HELLO, **more: Any) -> Body:
    return {"contents": [{"role": "user", "parts": [{"text": said}]}], **more}


def text(client: Client, models: Models, *, target: str) -> None:
    body = client.post(path(models.of(target), "generateContent"), asked()).ok().json()
    parts, reason = _checked(body)
    expect(reason in REASONS, f"finishReason is {reason!r}")
    expect("".join(part.get("text", "") for part in parts), "the answer has no text")
    _check_usage(body)


def _checked(body: Body) -> tuple[list[Body], Any]:
    """Parts and finish reason of the one candidate."""
    expect("error" not in body, f"the answer says: {body.get('error')}")
    candidates = body.get("candidates")
    expect(isinstance(candidates, list) and len(candidates or []) == 1, "there is no candidate")
    candidate = (candidates or [{}])[0]
    content = candidate.get("content") or {}
    expect(not content or content.get("role") == "model", "role is not 'model'")
    return list(content.get("parts") or []), candidate.get("finishReason")


def _check_usage(body: Body) -> None:
    usage = body.get("usageMetadata") or {}
    for name in ("promptTokenCount", "totalTokenCount"):
        expect(isinstance(usage.get(name), int), f"usageMetadata.{name} is missing")


def stream(client: Client, models: Models, *, target: str) -> None:
    answer = client.post(path(models.of(target), "streamGenerateContent") + "?alt=sse", asked())
    frames = answer.frames()
    lines = answer.raw.decode().splitlines()
    # Gemini CLI stops at comments, event names and [DONE].
    expect(all(line.startswith("data: {") for line in lines if line), "a line is no data line")
    bodies = [frame.json() for frame in frames]
    said = [part.get("text", "") for body in bodies for part in _checked(body)[0]]
    expect("".join(said), "the stream says nothing")
    reasons = [reason for body in bodies if (reason := _checked(body)[1])]
    expect(len(reasons) == 1 and reasons[0] in REASONS, f"finish reasons are {reasons}")
    expect(_checked(bodies[-1])[1], "the last frame has no finishReason")
    _check_usage(bodies[-1])


def tools(client: Client, models: Models, *, target: str) -> None:
    model = models.of(target)
    body = asked(WEATHER, tools=[TOOL], toolConfig=FORCED)
    parts, _ = _checked(client.post(path(model, "generateContent"), body).ok().json())
    calls = [part["functionCall"] for part in parts if "functionCall" in part]
    expect(calls, "no tool was called")
    expect(calls[0].get("name") == "get_weather", f"the call's name is {calls[0].get('name')!r}")
    expect("city" in (calls[0].get("args") or {}), f"the arguments are {calls[0].get('args')}")
    results = [
        {
            "functionResponse": {
                **({"id": call["id"]} if "id" in call else {}),
                "name": call["name"],
                "response": {"output": "rain, 12 C"},
            }
        }
        for call in calls
    ]
    history = [
        *body["contents"],
        {"role": "model", "parts": parts},
        {"role": "user", "parts": results},
    ]
    after = client.post(path(model, "generateContent"), {"contents": history, "tools": [TOOL]})
    told, _ = _checked(after.ok().json())
    expect(any(part.get("text") for part in told), "nothing is said after the tool's result")


def lists(client: Client, models: Models) -> None:
    listed = client.get("/v1beta/models").ok().json().get("models")
    expect(isinstance(listed, list) and listed, "the list is empty")
    expect(all(str(m.get("name")).startswith("models/") for m in listed), "a name lacks models/")
    counted = client.post(path(models.of("chat"), "countTokens"), asked()).ok().json()
    expect(isinstance(counted.get("totalTokens"), int), "totalTokens is missing")


def errors(client: Client, models: Models) -> None:
    for answer, status in (
        (client.post(path(NO_MODEL, "generateContent"), asked()), 404),
        (client.post(path(models.of("chat"), "generateContent"), {}), 400),
    ):
        expect(answer.status == status, f"status {answer.status} instead of {status}")
        error = parsed(answer.raw.decode()).get("error") or {}
        expect(error.get("code") == status, "error.code is not the status")
        expect(error.get("message") and error.get("status"), "the error lacks message or status")
