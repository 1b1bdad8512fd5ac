"""`docs/formats.md`: what each format loses, written from what is declared and what is found out."""

from collections.abc import Iterator
from typing import Final

from proxy.formats import FORMATS, crossings
from proxy.formats.crossing_answers import ANSWERS, answer_outcome
from proxy.formats.crossings import FEATURES, Outcome, outcome, pairs

TITLES: Final = {
    "chat_completions": "Chat Completions",
    "messages": "Messages",
    "responses": "Responses",
    "gemini": "Gemini",
}
WORDS: Final[dict[Outcome, str]] = {
    "kept": "kept",
    "shape": "shape",
    "dropped": "dropped",
    "refused": "refused",
    "unsaid": "",
    "lost": "LOST",
}
KINDS: Final = {
    "content": "Refused with a 400",
    "knob": "Left out and named in `x-gateway-dropped`",
    "shape": "Arrives in another form",
}
HEAD: Final = """\
# Formats: what arrives, what changes, what is refused

Written by `python manage.py formats-doc`; do not edit. A test fails when it is stale.

A client's format meets the format of the endpoint that serves the model. Equal formats pass through;
others are translated. Content without a place is refused with a 400, a tuning knob without a place
is left out and named in the answer's header `x-gateway-dropped`, and `x-gateway-route` says which
way a request went. `POST /api/translate` shows what a request becomes, without sending it.

The tables are found out by crossing: each feature is written in the client's words, translated,
and read again by the endpoint's format.

| word | meaning |
|---|---|
| kept | arrives as it was meant |
| shape | arrives in another form, see below |
| dropped | left out and disclosed |
| refused | answered with a 400 that says why |
| (empty) | the sending side has no words for it |
"""

NOTES: Final = """\
## What the gateway does beside

- **Prompt caches.** Claude caches nothing without markers. A translated request, and one of Chat
  Completions, that has none gets up to four: on the last tool, at the end of the system prompt, and
  on the last two turns of the user, where the next request of the conversation finds them.
- **Seals that clients lose.** Gemini models want `reasoning_opaque` back with each tool call.
  The gateway remembers it for an hour (10 000 calls, in memory) and puts it back where it is missing.
- **One retry without reasoning.** When the upstream refuses a signature, sealed reasoning or an
  item's id, the request is repeated once without the reasoning of its history, and `thinking` stands
  in `x-gateway-dropped`.
"""


def text() -> str:
    return "\n".join([HEAD, *_requests(), *_answers(), *_losses()]).rstrip() + "\n"


def _requests() -> Iterator[str]:
    yield "## Requests\n"
    yield "From the client's format to the endpoint's.\n"
    yield from _header("request", " → ")
    for feature in FEATURES:
        cells = [WORDS[outcome(source, target, feature)] for source, target in pairs()]
        yield _row(feature.name, cells)
    yield ""


def _answers() -> Iterator[str]:
    yield "## Answers\n"
    yield "From the endpoint's format to the client's; the same whether streamed or whole.\n"
    yield from _header("answer", " ← ")
    for feature in ANSWERS:
        cells = [
            WORDS[answer_outcome(source, target, feature, stream=True)]
            for source, target in pairs()
        ]
        yield _row(feature.name, cells)
    yield ""
    yield "Sealed reasoning (signatures, encrypted content) comes back byte by byte to the model that"
    yield "made it, on every crossing, and never goes to another one.\n"
    yield NOTES


def _header(what: str, arrow: str) -> Iterator[str]:
    yield _row(what, [f"{TITLES[source]}{arrow}{TITLES[target]}" for source, target in pairs()])
    yield "|---" * (1 + len(list(pairs()))) + "|"


def _row(name: str, cells: list[str]) -> str:
    return f"| {' | '.join([name, *cells])} |".replace("|  |", "| |").replace("|  |", "| |")


def _losses() -> Iterator[str]:
    yield "## Declared losses\n"
    yield "What the other formats can say and this one cannot.\n"
    for name, module in FORMATS.items():
        role = "" if name in crossings.TARGETS else " (clients only)"
        yield f"### {TITLES.get(name, name)}{role}\n"
        for kind, meaning in KINDS.items():
            losses = [loss for loss in module.LOSSES if loss.kind == kind]
            if losses:
                yield f"{meaning}:\n"
                yield from (f"- {_quoted(loss.what)}: {loss.note}" for loss in losses)
                yield ""


def _quoted(what: str) -> str:
    return what if " " in what else f"`{what}`"
