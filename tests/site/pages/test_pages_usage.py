"""Overview, requests, one exchange, conversations, live, exports: what they say."""

import csv
import io
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils.timezone import now

from accounts.models import Member
from usage.journal import Record
from usage.recorder import recorder

NARROW = "\u202f"


def text(answer: Any) -> str:
    return str(answer.content.decode())


def test_the_overview_sums_what_happened(world: Any, as_ada: Client) -> None:
    body = text(as_ada.get("/dashboard/"))

    assert "All members, all models, last 24 hours." in body
    assert '<bdi title="2">2</bdi>' in body
    assert ">8.24</bdi>" in body
    assert "$0.08" in body
    assert "none failed" in body
    assert "claude-sonnet-5" in body
    assert "Tokens per hour" in body


def test_the_overview_of_a_member_counts_own_requests_only(world: Any, as_ben: Client) -> None:
    body = text(as_ben.get("/dashboard/"))

    assert "Your requests, all models" in body
    assert ">4.12</bdi>" in body
    assert ">8.24</bdi>" not in body


def test_figures_stand_against_the_period_before(
    world: Any, ben: Member, as_ada: Client, make_record: Callable[..., Any]
) -> None:
    make_record(26 * 60, ben, world.key)

    assert "more than before" in text(as_ada.get("/dashboard/"))


def test_failures_are_counted_and_lead_to_their_list(
    world: Any, ben: Member, as_ada: Client, make_record: Callable[..., Any]
) -> None:
    make_record(9, ben, world.key, outcome="upstream_error", upstream_status=429)
    make_record(8, ben, world.key, outcome="refused")

    body = text(as_ada.get("/dashboard/"))
    assert "1 failed" in body
    assert "1 refused" in body
    listed = text(as_ada.get("/dashboard/requests/?outcome=errors&range=24h"))
    assert "failed 429" in listed
    assert world.exchange.id not in listed


@pytest.mark.parametrize("grouping", ["model", "member", "key", "client", "account"])
def test_groups_lead_to_their_requests(grouping: str, world: Any, as_ada: Client) -> None:
    body = text(as_ada.get(f"/dashboard/?by={grouping}"))
    start = body.find("/dashboard/requests/?range=24h&amp;" + grouping)

    if grouping == "account":
        assert "unknown" in body
        return
    href = body[start : body.index('"', start)].replace("&amp;", "&")
    assert "clickable" in text(as_ada.get(href))


def test_the_twenty_first_group_and_later_are_other(
    world: Any, ben: Member, as_ada: Client, make_record: Callable[..., Any]
) -> None:
    for number in range(30, 55):
        make_record(number, ben, world.key, model_used=f"model-{number}", nano_aiu=number)

    assert ">other<" in text(as_ada.get("/dashboard/"))


def test_the_list_goes_on_where_the_page_ended(
    world: Any, ben: Member, as_ben: Client, make_record: Callable[..., Any]
) -> None:
    at = now()
    rows = [make_record(100 + n, ben, world.key, started_at=at) for n in range(70)]
    expected = sorted((row.id for row in rows), reverse=True)

    first = as_ben.get("/dashboard/requests/")
    listed = [line.record.id for line in first.context["lines"]]
    second = as_ben.get("/dashboard/requests/", {"after": first.context["found"].after})
    listed += [line.record.id for line in second.context["lines"]]

    assert "71 requests" in text(first).replace("<bdi>", "").replace("</bdi>", "")
    assert listed == [*expected, world.exchange.id]
    assert second.context["found"].after == ""


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("model=gpt-5.5", 1),
        ("endpoint=responses", 1),
        ("client=codex", 1),
        ("outcome=retried", 1),
        ("outcome=cancelled", 0),
        ("q=gpt-5", 1),
        ("model=gpt-5.5&client=other", 0),
        ("range=24h", 2),
    ],
)
def test_filters_narrow_the_list(
    query: str,
    count: int,
    world: Any,
    ben: Member,
    as_ben: Client,
    make_record: Callable[..., Any],
) -> None:
    make_record(
        7,
        ben,
        world.key,
        model_used="gpt-5.5",
        source="responses",
        client="codex",
        attempts=[{"account": "a", "status": 502}, {"account": "a", "status": 200}],
    )

    assert len(as_ben.get(f"/dashboard/requests/?{query}").context["lines"]) == count


def test_nothing_found_says_what_was_asked_and_how_to_clear_it(world: Any, as_ben: Client) -> None:
    body = text(as_ben.get("/dashboard/requests/?model=gpt-9"))

    assert "Nothing found" in body
    assert "gpt-9" in body
    assert "Clear filters" in body


def test_a_slow_first_token_is_called_slow(
    world: Any, ben: Member, as_ben: Client, make_record: Callable[..., Any]
) -> None:
    for number in range(10, 50):
        make_record(number, ben, world.key, model_used="gpt-5.5", first_token_ms=500)
    make_record(4, ben, world.key, model_used="gpt-5.5", first_token_ms=90_000)

    lines = as_ben.get("/dashboard/requests/?model=gpt-5.5").context["lines"]
    assert lines[0].outcome.word == "slow"
    assert lines[1].outcome.word == "ok"


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"outcome": "completed"}, "ok"),
        ({"outcome": "completed", "attempts": [{}, {}]}, "retried"),
        ({"outcome": "cancelled"}, "client gone"),
        ({"outcome": "upstream_error", "upstream_status": 429}, "failed 429"),
        ({"outcome": "timeout"}, "timed out"),
        ({"outcome": "refused"}, "refused"),
        ({"outcome": "interrupted"}, "interrupted"),
    ],
)
def test_each_outcome_has_its_word(
    values: dict[str, Any],
    word: str,
    world: Any,
    ben: Member,
    as_ben: Client,
    make_record: Callable[..., Any],
) -> None:
    row = make_record(3, ben, world.key, **values)

    assert f"</svg>{word}</span>" in text(as_ben.get(f"/dashboard/requests/{row.id}/"))


def test_an_exchange_tells_its_whole_way(
    world: Any, ben: Member, as_ben: Client, make_record: Callable[..., Any]
) -> None:
    row = make_record(
        3,
        ben,
        world.key,
        model_asked="claude-sonnet-5-20260101",
        target="responses",
        quirks=["drop_service_tier"],
        dropped=["top_k"],
        cost_source="estimated",
        stop_reason="tool_use",
        upstream_request_id="req-upstream-1",
        attempts=[
            {"account": "mona-dev", "at_ms": 2, "status": 502, "error": "upstream_error"},
            {"account": "mona-dev", "at_ms": 950, "status": 200},
        ],
    )

    body = text(as_ben.get(f"/dashboard/requests/{row.id}/"))

    for said in (
        "asked <bdi>claude-sonnet-5-20260101",
        "the last message is a tool result",
        "translated",
        "drop_service_tier",
        "top_k",
        "≈",
        "computed from prices",
        "tool_use",
        "req-upstream-1",
        ">502<",
        "first token",
        "Body not stored",
    ):
        assert said in body
    assert "82\u202f%" in body


@pytest.mark.parametrize(
    ("values", "means", "owner"),
    [
        ({"upstream_status": 429}, "than a limit allows", "you"),
        ({"upstream_status": 402, "error_code": "insufficient_quota"}, "used up", "administrator"),
        ({"upstream_status": 502, "error_code": "upstream_error"}, "broke off", "GitHub"),
        ({"error_code": "something_new", "status": 418}, "broke off", "GitHub"),
    ],
)
def test_a_failure_says_what_it_means_and_whose_move_it_is(
    values: dict[str, Any],
    means: str,
    owner: str,
    world: Any,
    ben: Member,
    as_ben: Client,
    make_record: Callable[..., Any],
) -> None:
    known = {"outcome": "upstream_error", "upstream_status": None, "error_message": "no luck"}
    row = make_record(3, ben, world.key, **(known | values))

    body = text(as_ben.get(f"/dashboard/requests/{row.id}/"))

    assert means in body
    assert owner in body[body.index("Whose move") :][:200]
    assert "no luck" in body


def test_a_conversation_runs_up_its_credits(
    world: Any, ben: Member, as_ben: Client, make_record: Callable[..., Any]
) -> None:
    make_record(2, ben, world.key, cache_read_tokens=0, parent="x")

    body = text(as_ben.get("/dashboard/conversations/conversation-of-ben/"))

    assert "2 exchanges" in body
    assert ">8.24</bdi>" in body
    assert "no cache" in body
    assert 'class="child"' in body


def test_live_shows_what_is_in_flight_to_those_it_concerns(
    world: Any, ben: Member, as_ben: Client, as_cleo: Client, as_ada: Client
) -> None:
    record = Record(
        id="f" * 24, started_at=now(), member_id=ben.pk, member="ben", model_asked="gpt-5.5"
    )
    recorder._in_flight[record.id] = record
    try:
        for client, is_there in ((as_ben, True), (as_ada, True), (as_cleo, False)):
            assert (record.id in text(client.get("/dashboard/live/"))) is is_there
            found = client.get("/dashboard/live/in-flight.json").json()["in_flight"]
            assert bool(found) is is_there
    finally:
        del recorder._in_flight[record.id]


def test_exports_carry_the_filtered_rows_of_the_person(
    world: Any, ben: Member, as_ben: Client, make_record: Callable[..., Any]
) -> None:
    make_record(3, ben, world.key, model_used="gpt-5.5", client="=HYPERLINK(1)")

    answer = as_ben.get("/dashboard/requests/export.csv?model=gpt-5.5")
    rows = list(csv.DictReader(io.StringIO(b"".join(answer).decode("utf-8-sig"))))
    every = json.loads(b"".join(as_ben.get("/dashboard/requests/export.json")))

    assert [row["model_used"] for row in rows] == ["gpt-5.5"]
    assert rows[0]["client"] == "'=HYPERLINK(1)"
    assert len(every) == 2
    assert answer["Content-Disposition"].startswith('attachment; filename="requests_20')
    assert answer["Content-Disposition"].endswith('.csv"')


def test_search_leads_to_the_exchange_or_to_the_list(
    world: Any, as_ben: Client, as_cleo: Client
) -> None:
    path = f"/dashboard/requests/{world.exchange.id}/"

    found = as_ben.get("/dashboard/search/", {"q": world.exchange.id})
    hidden = as_cleo.get("/dashboard/search/", {"q": world.exchange.id})

    assert found["Location"] == path
    assert hidden["Location"].startswith("/dashboard/requests/?q=")


def test_days_are_cut_in_the_persons_zone(
    world: Any, ben: Member, as_ben: Client, make_record: Callable[..., Any]
) -> None:
    """23:30 UTC is the next day in Riyadh."""
    ben.time_zone = "Asia/Riyadh"
    ben.save()
    at = (now() - timedelta(days=3)).replace(hour=23, minute=30)
    make_record(3, ben, world.key, started_at=at, input_tokens=999, cache_read_tokens=0)
    day = at.date() + timedelta(days=1)

    rows = as_ben.get("/dashboard/?range=30d").context["chart"].rows
    found = {label: values for label, values in rows if any(v != "0" for v in values)}

    assert f"{day:%a} {day.day} {day:%b}" in found


def test_an_exchange_that_ended_a_moment_ago_is_found(
    world: Any, as_ada: Client, ada: Member
) -> None:
    fresh = Record(
        id="0" * 24,
        started_at=now(),
        finished_at=now(),
        outcome="completed",
        source="messages",
        member_id=ada.pk,
        member=ada.get_username(),
    )
    recorder.finish(fresh)

    assert as_ada.get(f"/dashboard/requests/{fresh.id}/").status_code == 200
