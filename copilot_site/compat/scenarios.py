"""What is replayed: which scenario, in whose words, with which of the gateway's models."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from copilot_site.compat.wire import Body, Client, expect

HELLO = "Reply with the one word: pong"
WEATHER = "What is the weather in Paris? Use the tool."
SCHEMA: Body = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
NO_MODEL = "no-such-model-anywhere"
# Words in the ids of models that cost little; only a matter of thrift.
CHEAP = ("mini", "nano", "haiku", "flash", "lite", "luna", "4.1", "4o", "fast")
DEAR = ("opus", "pro", "fable", "sol")


class Skipped(Exception):
    """The scenario does not apply; the text says why."""


@dataclass(slots=True)
class Models:
    """The gateway's models by the endpoint that serves them, the cheapest one of each."""

    chat: str = ""
    messages: str = ""
    responses: str = ""
    embeddings: str = ""

    def of(self, target: str) -> str:
        model = str(getattr(self, target))
        if not model:
            raise Skipped(f"no model for {target}")
        return model


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    run: Callable[[Client, Models], None] = field(repr=False)


def choose(listed: list[Body]) -> Models:
    """Pick from the entries of `GET /v1/models`, by the endpoints that they list."""
    found = Models()
    paths = {"chat": "/chat/completions", "messages": "/v1/messages", "responses": "/responses"}
    cheapest_first = sorted(listed, key=lambda entry: _price(str(entry.get("id"))))
    for entry in cheapest_first:
        model, endpoints = str(entry.get("id")), entry.get("supported_endpoints") or []
        if "embedding" in model:
            found.embeddings = found.embeddings or model
            continue
        for target, path in paths.items():
            only = [p for p in paths.values() if p in endpoints]
            # A model that is served on one endpoint alone shows the translations.
            if path in only and (target == "messages" or len(only) == 1):
                setattr(found, target, getattr(found, target) or model)
    for entry in cheapest_first:
        for target, path in paths.items():
            if path in (entry.get("supported_endpoints") or []):
                setattr(found, target, getattr(found, target) or str(entry.get("id")))
    return found


def _price(model: str) -> tuple[int, str]:
    if any(word in model for word in DEAR):
        return 2, model
    return (0 if any(word in model for word in CHEAP) else 1), model


def check_models(client: Client, models: Models) -> None:
    body = client.get("/v1/models").ok().json()
    expect(body.get("object") == "list", "object is not 'list'")
    expect(body.get("has_more") is False, "has_more is missing")
    data = body.get("data")
    expect(isinstance(data, list) and data, "data is empty")
    for entry in data:
        for name, kind in (("id", str), ("created", int), ("owned_by", str), ("display_name", str)):
            expect(isinstance(entry.get(name), kind), f"{entry.get('id')}: {name} is missing")
        expect(entry.get("object") == "model", f"{entry['id']}: object is not 'model'")
    ids = [entry["id"] for entry in data]
    expect(len(set(ids)) == len(ids), "an id stands twice in the list")
    one = client.get(f"/v1/models/{ids[0]}").ok().json()
    expect(one.get("id") == ids[0], "one model has another id than asked")


def check_anthropic_models(client: Client, models: Models) -> None:
    body = client.get("/v1/models?limit=1000", anthropic_version="2023-06-01").ok().json()
    for entry in body.get("data") or [{}]:
        expect(entry.get("type") == "model", "type is not 'model'")
        expect(isinstance(entry.get("created_at"), str), "created_at is missing")
    expect({"first_id", "last_id", "has_more"} <= set(body), "paging fields are missing")


def check_root(client: Client, models: Models) -> None:
    expect(client.send("HEAD", "/").status == 200, "HEAD / is not 200")
    answer = client.get("/v1/responses")
    expect(answer.status in (101, 426), f"GET /v1/responses is {answer.status}; Codex needs 426")


def embeddings(client: Client, models: Models) -> None:
    model = models.of("embeddings")
    asked: Body = {"model": model, "input": ["ping", "pong"]}
    body = client.post("/v1/embeddings", {**asked, "encoding_format": "float"}).ok().json()
    expect(body.get("object") == "list", "object is not 'list'")
    data = body.get("data") or []
    expect([entry.get("index") for entry in data] == [0, 1], "indexes are not 0, 1")
    vector = data[0].get("embedding")
    expect(isinstance(vector, list) and vector, "no vector of numbers")
    expect(all(isinstance(x, int | float) for x in vector), "a vector holds no numbers")
    packed = client.post("/v1/embeddings", {**asked, "encoding_format": "base64"}).ok().json()
    expect(isinstance(packed["data"][0]["embedding"], str), "base64 was asked, numbers came")
    expect(isinstance(body.get("usage", {}).get("prompt_tokens"), int), "usage is missing")


COMMON = (
    Scenario("common: models", check_models),
    Scenario("common: models, Anthropic's list", check_anthropic_models),
    Scenario("common: HEAD / and websocket fallback", check_root),
    Scenario("openai: embeddings", embeddings),
)


def all_scenarios() -> Iterator[Scenario]:
    from copilot_site.compat import chat, gemini, messages, responses

    yield from COMMON
    for wire in (chat, messages, responses, gemini):
        yield from wire.scenarios()
