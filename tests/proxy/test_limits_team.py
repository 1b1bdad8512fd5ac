"""Limits over two gateway processes, with PostgreSQL and Redis as deployed."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from simulator.testing import SimulatorThread
from tests.team import Redis, Team

pytestmark = pytest.mark.team
CHAT = "/v1/chat/completions"
CREDIT = 1_000_000_000


def body(text: str = "Hello", model: str = "gpt-4.1", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def closed_hours() -> str:
    """A span of tomorrow: it is never open now."""
    day = datetime.now(UTC) + timedelta(days=2)
    return f"{day:%a} 10:00-11:00 UTC"


@pytest.fixture(scope="module")
def keys(shared_team: Team) -> dict[str, str]:
    return shared_team.new_keys(
        free={},
        minute={"requests_per_minute": 50},
        slots={"concurrency": 4},
        lanes={"concurrency": 1},
        leaving={"concurrency": 1},
        budget={"budget_day_nano_aiu": 3 * CREDIT},
        soft={"budget_day_nano_aiu": 1000, "budget_is_hard": False},
        small={"budget_week_nano_aiu": 2 * CREDIT},
        shown={"requests_per_minute": 9, "concurrency": 3, "budget_month_nano_aiu": 5 * CREDIT},
        closed={"office_hours": closed_hours()},
        context={"max_context_tokens": 500},
        output={"max_output_tokens": 50, "max_effort": "low"},
        tokens={"tokens_per_minute": 3000},
        revoked={},
    )


def most_at_once(simulator: SimulatorThread) -> int:
    """How many generations the upstream had to answer at the same time."""
    ends = [(g.time, 1) for g in simulator.generations]
    ends += [(g.closed_at or time.time(), -1) for g in simulator.generations]
    most = now = 0
    for _moment, step in sorted(ends):
        now += step
        most = max(most, now)
    return most


def test_requests_per_minute_hold_over_two_gateways(team: Team, keys: dict[str, str]) -> None:
    answers = team.together(300, keys["minute"])
    statuses = [a.status_code for a in answers]
    assert statuses.count(200) == 50
    assert statuses.count(429) == 250
    waits = {int(a.headers["retry-after"]) for a in answers if a.status_code == 429}
    assert 45 <= min(waits) <= max(waits) <= 60
    assert len(team.simulator.generations) == 50


def test_requests_at_once_hold_over_two_gateways_and_the_others_wait(
    team: Team, keys: dict[str, str]
) -> None:
    team.simulator.play("slow", seconds=0.3)
    answers = team.together(24, keys["slots"], threads=24)
    assert [a.status_code for a in answers] == [200] * 24
    assert most_at_once(team.simulator) == 4
    waited = [int(a.headers.get("x-gateway-queued-ms", "0")) for a in answers]
    assert sum(ms >= 200 for ms in waited) >= 18
    found = team.wait_for(lambda: team.records("key = 'slots' AND queue_ms >= 200"))
    assert found


def test_people_go_before_batches_whichever_gateway_they_ask(
    team: Team, keys: dict[str, str]
) -> None:
    team.simulator.play("slow", seconds=0.5)
    done: list[str] = []

    def ask(number: int, lane: str) -> None:
        with team.client(number % 2, keys["lanes"]) as client:
            headers = {"x-gateway-lane": "batch"} if lane == "batch" else {}
            answer = client.post(CHAT, json=body(f"{lane} {number}"), headers=headers)
            assert answer.status_code == 200, answer.text
            done.append(lane)

    lanes = ["first", "batch", "batch", "person", "person"]
    with ThreadPoolExecutor(5) as pool:
        started = []
        for number, lane in enumerate(lanes):
            started.append(pool.submit(ask, number, lane))
            time.sleep(0.08)
        for one in started:
            one.result()
    said = [g.json["messages"][0]["content"].split()[0] for g in team.simulator.generations]
    assert said == ["first", "person", "person", "batch", "batch"]


def test_a_client_that_leaves_while_it_waits_frees_its_place(
    team: Team, keys: dict[str, str]
) -> None:
    team.simulator.play("slow", seconds=1.5, times=1)
    with ThreadPoolExecutor(2) as pool, team.client(0, keys["leaving"]) as client:
        first = pool.submit(client.post, CHAT, json=body("first"))
        assert team.simulator.wait_received(1, path="/chat/completions")
        with (
            team.client(1, keys["leaving"]) as hasty,
            pytest.raises(httpx.ReadTimeout),
        ):
            hasty.post(CHAT, json=body("leaves"), timeout=0.5)
        last = pool.submit(client.post, CHAT, json=body("last"))
        assert first.result().status_code == last.result().status_code == 200
    said = [g.json["messages"][0]["content"] for g in team.simulator.generations]
    assert said == ["first", "last"]


def test_a_hard_budget_is_overdrawn_by_no_more_than_what_is_in_flight(
    team: Team, keys: dict[str, str]
) -> None:
    with team.client(0, keys["budget"]) as client:
        assert client.post(CHAT, json=body()).status_code == 200
    (first,) = team.wait_for(lambda: team.records("key = 'budget' AND nano_aiu > 0"))
    limit = 20 * first["nano_aiu"]
    team.set("accounts_apikey", "name", "budget", budget_day_nano_aiu=limit)
    team.settle()
    team.simulator.play("slow", seconds=0.05)
    threads = 6
    answers = team.together(120, keys["budget"], threads=threads)
    served = [a for a in answers if a.status_code == 200]
    refused = [a for a in answers if a.status_code == 429]
    assert served
    assert refused
    assert refused[0].json()["error"]["code"] == "insufficient_quota"
    assert refused[0].headers["x-should-retry"] == "false"
    end_of_day = (24 - datetime.now(UTC).hour) * 3600
    assert end_of_day - 3600 <= int(refused[0].headers["retry-after"]) <= end_of_day
    records = team.wait_for(
        lambda: (
            len(found := team.records("key = 'budget' AND nano_aiu > 0")) == len(served) + 1
            and found
        )
    )
    spent = sum(r["nano_aiu"] for r in records)
    dearest = max(r["nano_aiu"] for r in records)
    assert limit <= spent <= limit + threads * dearest


def test_a_request_that_is_estimated_above_what_is_left_is_refused_before_it_is_sent(
    team: Team, keys: dict[str, str]
) -> None:
    with team.client(0, keys["small"]) as client:
        huge = client.post(CHAT, json=body("word " * 80_000))
        assert huge.status_code == 429
        assert "estimated at" in huge.json()["error"]["message"]
        assert not team.simulator.generations
        assert client.post(CHAT, json=body()).status_code == 200


def test_a_soft_budget_warns_and_serves(team: Team, keys: dict[str, str]) -> None:
    with team.client(0, keys["soft"]) as one, team.client(1, keys["soft"]) as other:
        assert "x-gateway-budget" not in one.post(CHAT, json=body()).headers
        # The other gateway knows it at once, not only when the database does.
        warned = other.post(CHAT, json=body())
        assert warned.status_code == 200
        assert warned.headers["x-gateway-budget"].startswith("key soft ")
        assert warned.headers["x-gateway-budget"].endswith("% of day")


def test_tokens_per_minute_count_what_was_really_used(team: Team, keys: dict[str, str]) -> None:
    with team.client(0, keys["tokens"]) as client:
        too_large = client.post(CHAT, json=body("word " * 20_000))
        assert too_large.status_code == 413
        assert "3000 tokens a minute" in too_large.json()["error"]["message"]
        statuses = [client.post(CHAT, json=body("word " * 1500)).status_code for _ in range(4)]
    assert statuses[0] == 200
    assert statuses[-1] == 429


def test_everybody_sees_what_is_left(team: Team, keys: dict[str, str]) -> None:
    with team.client(0, keys["shown"]) as client:
        for _ in range(2):
            assert client.post(CHAT, json=body()).status_code == 200
    with team.client(1, keys["shown"]) as client:
        answer = client.get("/api/limits")
    assert answer.status_code == 200
    with team.client(1) as nobody:
        assert nobody.get("/api/limits").status_code == 401
    said = answer.json()
    assert said["counted_in"] == "redis"
    (mine,) = said["limits"]
    assert mine["requests_per_minute"] == {"limit": 9, "used": 2, "left": 7}
    assert mine["concurrency"]["used"] == 0
    (month,) = mine["budgets"]
    assert month["period"] == "month"
    assert 0 < month["used_credits"] < 5


def test_out_of_office_hours_the_answer_says_when_they_begin(
    team: Team, keys: dict[str, str]
) -> None:
    with team.client(0, keys["closed"]) as client:
        answer = client.post(CHAT, json=body())
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "outside_office_hours"
    assert "10:00 UTC" in answer.json()["error"]["message"]
    assert 0 < int(answer.headers["retry-after"]) <= 3 * 86400
    assert not team.simulator.generations


def test_a_context_above_the_ceiling_is_refused_in_the_words_of_each_api(
    team: Team, keys: dict[str, str]
) -> None:
    text = "word " * 1500
    with team.client(0, keys["context"]) as client:
        openai = client.post(CHAT, json=body(text))
        assert openai.status_code == 400
        assert openai.json()["error"]["code"] == "context_length_exceeded"
        assert "500" in openai.json()["error"]["message"]
        assert "this API key" in openai.json()["error"]["message"]
        messages = {**body(text, "claude-sonnet-4.6"), "max_tokens": 10}
        anthropic = client.post("/v1/messages", json=messages)
        assert anthropic.status_code == 400
        assert anthropic.json()["error"]["type"] == "invalid_request_error"
        assert client.post(CHAT, json=body()).status_code == 200


def test_output_and_effort_are_lowered_for_every_api_and_told(
    team: Team, keys: dict[str, str]
) -> None:
    asked: list[tuple[str, dict[str, Any]]] = [
        (CHAT, body(max_tokens=900)),
        (CHAT, body(model="gpt-5.5", max_completion_tokens=900, reasoning_effort="high")),
        ("/v1/responses", {"model": "gpt-5.5", "input": "Hi", "max_output_tokens": 900,
                           "reasoning": {"effort": "high"}}),
        ("/v1/messages", {**body(model="claude-sonnet-4.6"), "max_tokens": 900}),
        ("/v1beta/models/gpt-4.1:generateContent",
         {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
          "generationConfig": {"maxOutputTokens": 900}}),
    ]  # fmt: skip
    with team.client(0, keys["output"]) as client:
        for path, wish in asked:
            answer = client.post(path, json=wish)
            assert answer.status_code == 200, (path, answer.text)
            sent = team.simulator.generations[-1].json
            limits = [sent.get(n) for n in ("max_tokens", "max_completion_tokens",
                                            "max_output_tokens")]  # fmt: skip
            assert [n for n in limits if n is not None] == [50], (path, sent)
            assert "900 -> 50 (key output)" in answer.headers["x-gateway-limited"], path
            assert '"high"' not in json.dumps(sent)
        unsaid = client.post(CHAT, json=body())
        assert unsaid.status_code == 200
        assert team.simulator.generations[-1].json["max_tokens"] == 50


def test_a_limit_of_github_is_told_truly_by_both_gateways_and_recovered_from_slowly(
    team: Team, keys: dict[str, str]
) -> None:
    team.simulator.play("status", code=429, retry_after=3, times=1)
    with team.client(0, keys["free"]) as one, team.client(1, keys["free"]) as other:
        limited = one.post(CHAT, json=body())
        assert limited.status_code == 429
        told_at = time.monotonic()
        wait_s = int(limited.headers["retry-after"])
        assert wait_s <= 3
        again = one.post(CHAT, json=body())
        assert again.status_code == 429
        assert int(again.headers["retry-after"]) <= 3
        # The other one has read it from the account book within two seconds, and then says as much.
        assert team.wait_for(lambda: other.post(CHAT, json=body()).status_code == 429, 2)
        elsewhere = other.post(CHAT, json=body())
        left_s = wait_s - (time.monotonic() - told_at)
        if elsewhere.status_code == 429:
            assert int(elsewhere.headers["retry-after"]) <= left_s + 1
        time.sleep(max(0.0, wait_s - (time.monotonic() - told_at)))
        team.simulator.reset(keep_tokens=True)
        team.simulator.play("slow", seconds=0.2)
        answers = team.together(8, keys["free"], threads=8)
        assert [a.status_code for a in answers] == [200] * 8
    began = sorted(g.time for g in team.simulator.generations)
    ended = sorted(g.closed_at or 0 for g in team.simulator.generations)
    # One, then two, then four at once.
    assert began[1] >= ended[0] - 0.01
    assert most_at_once(team.simulator) <= 4


def test_a_revoked_key_and_a_frozen_account_are_refused_while_a_hundred_streams_run(
    team: Team, keys: dict[str, str]
) -> None:
    team.simulator.play("drip", chunks=120, delay=0.1, match={"model": "gpt-4.1"})
    stopping = threading.Event()

    def read(number: int) -> int:
        with (
            team.client(number % 2, keys["free"]) as client,
            client.stream("POST", CHAT, json=body(stream=True)) as answer,
        ):
            for _ in answer.iter_bytes():
                if stopping.is_set():
                    break
            return answer.status_code

    with ThreadPoolExecutor(100) as pool:
        streams = [pool.submit(read, number) for number in range(100)]
        try:
            assert team.wait_for(lambda: team.simulator.open_streams() == 100, 30)
            prefix = keys["revoked"][:12]
            team.set("accounts_apikey", "prefix", prefix, revoked_at=datetime.now(UTC))
            revoked_at = time.monotonic()
            for number in (0, 1):
                with team.client(number, keys["revoked"]) as client:
                    left_s = 2 - (time.monotonic() - revoked_at)
                    assert team.wait_for(
                        lambda c=client: c.get("/v1/models").status_code == 401, left_s
                    )
            team.set("accounts_account", "login", "octocat", state="frozen", state_reason="test")
            try:
                team.settle()
                sent = len(team.simulator.generations)
                for number in (0, 1):
                    with team.client(number, keys["free"]) as client:
                        refused = client.post(CHAT, json=body(model="gpt-4o"))
                        assert refused.status_code == 503
                        assert "frozen" in refused.json()["error"]["message"]
                assert len(team.simulator.generations) == sent
            finally:
                team.set("accounts_account", "login", "octocat", state="active", state_reason="")
                team.settle()
        finally:
            stopping.set()
        assert {one.result() for one in streams} == {200}


# A team that is broken on purpose; each test leaves it whole.


@pytest.fixture(scope="module")
def broken_team(
    team_servers: Any, shared_simulator: SimulatorThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Team]:
    postgres, template = team_servers
    redis = Redis()
    team = Team(
        postgres,
        redis,
        shared_simulator,
        tmp_path_factory.mktemp("fragile"),
        "--rate-limit",
        "0.2",
        "--wait",
        template=template,
    )
    yield team
    team.close()
    redis.close()


@pytest.fixture
def fragile(broken_team: Team, simulator: SimulatorThread) -> Team:
    return broken_team


def test_the_spacing_of_the_whole_gateway_holds_over_its_processes(fragile: Team) -> None:
    key = fragile.new_keys(spaced={})["spaced"]
    began = time.time()
    answers = fragile.together(8, key, threads=8)
    assert [a.status_code for a in answers] == [200] * 8
    times = sorted(g.time for g in fragile.simulator.generations)
    assert len(times) == 8
    # Each has a moment of its own by Redis's clock; a busy machine sends it later, and never sooner.
    for number, at in enumerate(times):
        assert at - began >= number * 0.2 - 0.01


def test_what_a_killed_gateway_held_is_free_again_within_fifteen_seconds(fragile: Team) -> None:
    team = fragile
    key = team.new_keys(held={"concurrency": 1})["held"]
    team.simulator.play("drip", chunks=1000, delay=0.2, times=1)
    with ThreadPoolExecutor(1) as pool:

        def hold() -> None:
            with (
                team.client(1, key) as client,
                pytest.raises(httpx.HTTPError),
                client.stream("POST", CHAT, json=body(stream=True)) as answer,
            ):
                answer.read()

        held = pool.submit(hold)
        assert team.simulator.wait_received(1, path="/chat/completions")
        team.gateways[1].kill()
        held.result()
        killed_at = time.monotonic()
        with team.client(0, key) as client:
            answer = client.post(CHAT, json=body())
        assert answer.status_code == 200
        assert time.monotonic() - killed_at < 17
        assert int(answer.headers["x-gateway-queued-ms"]) > 1000
    team.gateways[1].start()


def test_a19_p05_without_redis_each_gateway_counts_by_itself_and_with_it_all_together_again(
    fragile: Team,
) -> None:
    team = fragile
    key = team.new_keys(bounded={"requests_per_minute": 10})["bounded"]

    def counted_in(number: int) -> str:
        with team.client(number, key) as client:
            return str(client.get("/api/limits").json()["counted_in"])

    with team.client(0, key) as one, team.client(1, key) as other:
        for _ in range(3):
            assert one.post(CHAT, json=body()).status_code == 200
            assert other.post(CHAT, json=body()).status_code == 200
        team.redis.stop()
        began = time.monotonic()
        assert one.post(CHAT, json=body()).status_code == 200
        assert other.post(CHAT, json=body()).status_code == 200
        assert time.monotonic() - began < 5
        assert counted_in(0) == counted_in(1) == "process"
        team.redis.start()
        for number in (0, 1):
            assert team.wait_for(lambda n=number: counted_in(n) == "redis", 10)
        # Both have told Redis, which had forgotten everything, what they had let in: eight.
        left = [one.post(CHAT, json=body()).status_code for _ in range(2)]
        left += [other.post(CHAT, json=body()).status_code for _ in range(2)]
        assert left == [200, 200, 429, 429]
        assert "Redis is away" in team.gateways[0].text
        assert "Redis is back" in team.gateways[0].text


def test_p05_a_redis_that_hangs_holds_nobody_up_for_long(fragile: Team) -> None:
    team = fragile
    key = team.new_keys(bounded={"requests_per_minute": 100})["bounded"]
    with team.client(0, key) as client:
        assert client.post(CHAT, json=body()).status_code == 200
        team.redis.freeze()
        try:
            began = time.monotonic()
            for _ in range(5):
                assert client.post(CHAT, json=body()).status_code == 200
            assert time.monotonic() - began < 6
        finally:
            team.redis.thaw()
