"""Every source meets every target: what is asked and answered arrives, or its loss is declared."""

import re
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.errors import InvalidRequest, UpstreamFailed
from proxy.formats import FORMATS, crossings
from proxy.formats.canonical import Document, Image, Message, Text, ToolResult, ToolUse
from proxy.formats.contract import Answer
from proxy.formats.crossing_answers import (
    ANSWERS,
    CURIOUS,
    AnswerFeature,
    answer_of,
    answer_outcome,
    call_block,
    sealed,
    spoken,
    text_block,
    thinking_block,
    understood,
)
from proxy.formats.crossings import (
    FEATURES,
    PIXEL,
    TARGETS,
    Feature,
    body_of,
    cross,
    dumped,
    outcome,
    pairs,
)
from proxy.formats.observing import told
from proxy.formats.sse import Parser

every_pair = pytest.mark.parametrize(("source", "target"), list(pairs()))
KINDS = {"dropped": {"knob"}, "refused": {"content"}, "shape": {"shape", "knob"}}
ANSWER_KINDS = {"dropped": {"knob", "shape"}, "shape": {"shape", "knob"}}


def is_declared(name: str, kinds: set[str], words: tuple[str, ...]) -> bool:
    """Whether the format's losses name one of the words."""
    named = [loss.what for loss in FORMATS[name].LOSSES if loss.kind in kinds]
    return any(re.search(rf"\b{re.escape(word)}\b", what) for word in words for what in named)


def test_all_sources_and_targets_are_crossed() -> None:
    assert len(list(pairs())) == (len(FORMATS) - 1) * len(TARGETS)


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
@every_pair
def test_what_is_asked_arrives_or_its_loss_is_declared(
    source: str, target: str, feature: Feature
) -> None:
    became = outcome(source, target, feature)
    assert became != "lost"
    if became not in ("kept", "unsaid"):
        assert is_declared(target, KINDS[became], feature.declared), became


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_every_feature_is_said_by_some_source(feature: Feature) -> None:
    assert any(outcome(source, target, feature) != "unsaid" for source, target in pairs())


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
@pytest.mark.parametrize("name", FORMATS)
def test_a_format_writes_again_what_it_has_read(name: str, feature: Feature) -> None:
    try:
        body = body_of(name, {**feature.beside, **feature.fields})
        request = FORMATS[name].parse_request(body)
    except InvalidRequest:
        return
    again = FORMATS[name].build_request(request, crossings.UNKNOWN_MODEL).body
    assert again == body


@pytest.mark.parametrize("feature", ANSWERS, ids=lambda feature: feature.name)
@every_pair
def test_what_is_answered_arrives_or_its_loss_is_declared(
    source: str, target: str, feature: AnswerFeature
) -> None:
    streamed = answer_outcome(source, target, feature, stream=True)
    whole = answer_outcome(source, target, feature, stream=False)
    assert streamed == whole
    if whole not in ("kept", "unsaid"):
        assert is_declared(source, ANSWER_KINDS[whole], feature.declared), whole


@pytest.mark.parametrize("feature", ANSWERS, ids=lambda feature: feature.name)
def test_every_kind_of_answer_is_given_by_some_target(feature: AnswerFeature) -> None:
    given_by = [answer_outcome(s, t, feature, stream=True) for s, t in pairs()]
    assert set(given_by) != {"unsaid"}


# Sealed reasoning.


def history_of(name: str, answer: dict[str, Any]) -> tuple[str, list[Any]]:
    """An answer as its clients send it back: the field of the request and what goes there."""
    match name:
        case "chat_completions":
            return "messages", [answer["choices"][0]["message"]]
        case "messages":
            return "messages", [{"role": "assistant", "content": answer["content"]}]
        case "responses":
            return "input", answer["output"]
        case _:
            return "contents", [answer["candidates"][0]["content"]]


def replayed(source: str, target: str, *, stream: bool) -> dict[str, Any]:
    """The source's next request after an answer with sealed thinking by the target's model."""
    events = answer_of(
        thinking_block(0, "hm"), call_block(1, "call_1", '{"a":"b"}'), reason="tool_use"
    )
    upstream = understood(
        target, spoken(target, sealed(target, events), stream=stream), stream=stream
    )
    answer = orjson.loads(spoken(source, upstream, stream=False))
    body = body_of(source, {})
    field, history = history_of(source, answer)
    body[field] = [*body[field], *history]
    return body


@pytest.mark.parametrize("stream", [True, False])
@every_pair
def test_sealed_thinking_comes_back_to_the_model_that_made_it(
    source: str, target: str, stream: bool
) -> None:
    built = cross(source, target, replayed(source, target, stream=stream))

    assert f'"c2VhbA{target}"' in dumped(built.body)
    assert "hm" in dumped(built.body)
    assert built.dropped == []


@every_pair
def test_sealed_thinking_never_goes_to_another_model(source: str, target: str) -> None:
    body = replayed(source, target, stream=False)
    for other in TARGETS:
        if other not in (source, target):
            built = cross(source, other, body)
            assert "c2VhbA" not in dumped(built.body)
            assert "thinking" in built.dropped


# Streams that end early.


@every_pair
def test_a_stream_cut_at_any_frame_is_an_error_of_the_clients_format(
    source: str, target: str
) -> None:
    events = answer_of(
        text_block(0, "let me see"), call_block(1, "call_1", '{"a":', '"b"}'), reason="tool_use"
    )
    parser = Parser()
    frames = parser.feed(spoken(target, events, stream=True)) + parser.close()
    cuts = 0
    for count in range(len(frames)):
        decoder = FORMATS[target].decoder()
        encoder = FORMATS[source].encoder(answer(source))
        raw = b"".join(encoder.encode(decoder.feed(frame)) for frame in frames[:count])
        if decoder.finished:
            break
        cuts += 1
        raw += encoder.fail(UpstreamFailed("The upstream went away."))
        heard = understood_until_failure(source, raw)
        assert "The upstream went away." in heard
    assert cuts >= 4


def answer(name: str) -> Answer:
    return Answer(id="a1", created=1, model="m", request=CURIOUS[name])


def understood_until_failure(name: str, raw: bytes) -> str:
    """The message of the failure with which a stream ends; nothing that looks like a good end."""
    parser, decoder = Parser(), FORMATS[name].decoder()
    message = ""
    for frame in parser.feed(raw) + parser.close():
        try:
            events = decoder.feed(frame)
        except UpstreamFailed as failed:
            message = failed.message
            continue
        for event in events:
            assert type(event).__name__ != "Stop"
            if type(event).__name__ == "Failure":
                message = event.message  # type: ignore[union-attr]
    return message


# Conversations of all kinds.

WORDS = st.text(st.sampled_from("abc é"), min_size=1, max_size=12).map(
    lambda text: f"w{text.strip()}w"
)
PICTURES = st.builds(Image, media_type=st.just("image/png"), data=st.just(PIXEL))
PAPERS = st.builds(
    Document,
    media_type=st.just("application/pdf"),
    data=st.just("JVBERi0x"),
    name=st.just("a.pdf"),
)
TEXTS = st.builds(Text, text=WORDS)
ARGUMENTS = st.dictionaries(st.sampled_from("ab"), st.one_of(WORDS, st.integers(0, 9)), max_size=2)


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """Turns as they happen: a person speaks, the model answers or calls tools, tools answer."""
    messages: list[Message] = []
    if draw(st.booleans()):
        messages.append(Message(role="system", blocks=[draw(TEXTS)]))
    number = 0
    for _ in range(draw(st.integers(1, 4))):
        blocks: list[Any] = draw(st.lists(st.one_of(TEXTS, PICTURES, PAPERS), max_size=3))
        messages.append(Message(role="user", blocks=[draw(TEXTS), *blocks]))
        if draw(st.integers(0, 4)) == 0:
            messages.append(Message(role="system", blocks=[draw(TEXTS)]))
        calls = []
        for _ in range(draw(st.integers(0, 3))):
            number += 1
            arguments = orjson.dumps(draw(ARGUMENTS)).decode()
            calls.append(ToolUse(id=f"call_{number}", name="read", arguments=arguments))
        spoken_too: list[Any] = [draw(TEXTS)] if not calls or draw(st.booleans()) else []
        messages.append(Message(role="assistant", blocks=[*spoken_too, *calls]))
        if calls:
            results: list[Any] = [
                ToolResult(tool_use_id=call.id, content=[draw(TEXTS)], name="read")
                for call in calls
            ]
            messages.append(Message(role="user", blocks=results))
            messages.append(Message(role="assistant", blocks=[draw(TEXTS)]))
    messages.append(Message(role="user", blocks=[draw(TEXTS)]))
    return messages


REMINDER = re.compile(r"</?system-reminder>")


def leveled(conversation: list[Any], *, reminds: bool) -> list[Any]:
    """What was told, without what is declared to change: later system messages of some wires."""
    found: list[Any] = []
    for one in conversation:
        if one[0] == "text":
            role = "user" if reminds and one[1] == "system" and found else one[1]
            words = REMINDER.sub(" ", one[2]).split()
            if found and found[-1][:2] == ("text", role):
                found[-1] = ("text", role, found[-1][2] + words)
            else:
                found.append(("text", role, words))
        elif one[0] == "result":
            found.append((*one[:2], one[2].split(), one[3]))
        else:
            found.append(one)
    return found


@settings(max_examples=250, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(conversations(), st.sampled_from(list(pairs())))
def test_random_conversations_cross_and_lose_nothing(
    messages: list[Message], pair: tuple[str, str]
) -> None:
    source, target = pair
    body = body_of(source, {"messages": messages})
    asked = FORMATS[source].parse_request(body)
    has_paper = any(one[0] == "document" for one in told(asked))
    if target == "chat_completions" and has_paper:
        with pytest.raises(InvalidRequest, match="document"):
            cross(source, target, body)
        return
    built = cross(source, target, body)
    arrived = FORMATS[target].parse_request(built.body)

    reminds = "messages" in pair or "gemini" in pair
    assert leveled(told(arrived), reminds=reminds) == leveled(told(asked), reminds=reminds)
    assert built.dropped == []
