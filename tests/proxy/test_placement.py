"""Where conversations go: placed once, kept, refused at limits with the truth, moved where allowed."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from simulator.testing import SimulatorThread
from tests.conftest import Gateway
from tests.proxy.seats import PATH, Seats, body, make, register

POOLS: dict[str, dict[str, Any]] = {
    "strict": {"seats": {"strict-a": 1, "strict-b": 1}},
    "loose": {"seats": {"loose-a": 1, "loose-b": 1}, "failover": True},
    "weighed": {"seats": {"heavy": 3, "light": 1, "resting": 0}},
}
LOGINS = [login for spec in POOLS.values() for login in spec["seats"]]
RESTORE = (
    "from accounts import states\nfrom accounts.models import Account\n"
    "Account.objects.update(model_limits={})\n"
    "for a in Account.objects.exclude(state='active'):\n"
    "    states.set_state(a, 'active', '', None, 'tests')\n"
)


@pytest.fixture(scope="module")
def world(
    shared_simulator: SimulatorThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Seats]:
    gateway = Gateway(
        tmp_path_factory.mktemp("seats"),
        shared_simulator.url,
        ("--github-token", "ghu_octocat"),
        {"GATEWAY_DRAIN_S": "1"},
    )
    gateway.wait_signed_in()
    world = Seats(gateway, shared_simulator, make(gateway, shared_simulator, POOLS))
    settled(world)
    yield world
    gateway.stop()


@pytest.fixture
def seats(world: Seats, simulator: SimulatorThread) -> Seats:
    """The pools with every seat in service."""
    register(simulator, *LOGINS)
    out = "SELECT 1 FROM accounts_account WHERE state != 'active' OR model_limits != '{}'"
    if world.gateway.query(out):
        world.shell(RESTORE)
        settled(world)
    return world


def settled(world: Seats) -> None:
    """Wait until the gateway's own copy of the accounts is the database's, and serves."""

    def serves() -> bool:
        answers = [world.ask(name, f"settle {time.monotonic()}") for name in POOLS]
        return all(answer.status_code == 200 for answer in answers)

    # A copy is a second old at most.
    time.sleep(1.2)
    assert world.gateway.wait_for(serves, 10)
    world.simulator.clear()


def unique(words: str) -> str:
    return f"{words} {time.monotonic_ns()}"


def test_new_conversations_are_spread_and_each_keeps_its_seat(seats: Seats) -> None:
    first: dict[str, str] = {}
    for number in range(8):
        text = unique(f"topic {number}")
        assert seats.ask("strict", text).status_code == 200
        first[text] = seats.served_by()
    served = Counter(first.values())
    # Nearly in turn: what their answers say of their quotas shifts the balance a little.
    assert sorted(served) == ["strict-a", "strict-b"]
    assert min(served.values()) >= 3

    for text, login in first.items():
        assert seats.ask("strict", text, "an answer", "go on").status_code == 200
        assert seats.served_by() == login


def test_weights_share_out_the_new_conversations(seats: Seats) -> None:
    served = Counter()
    for number in range(16):
        assert seats.ask("weighed", unique(f"topic {number}")).status_code == 200
        served[seats.served_by()] += 1

    # A seat of weight 0 gets none.
    assert sorted(served) == ["heavy", "light"]
    assert 11 <= served["heavy"] <= 13


def test_sub_agents_of_a_session_share_its_seat(seats: Seats) -> None:
    session = unique("session")
    seats.ask("strict", "begin", session=session)
    login = seats.served_by()

    for number in range(6):
        seats.ask("strict", unique(f"an agent's own task {number}"), session=session)
        assert seats.served_by() == login


@pytest.mark.parametrize("scenario", ["session_limit", "rate_limited", "quota_exceeded"])
def test_s04_s11_no_conversation_hops_at_a_limit(seats: Seats, scenario: str) -> None:
    text = unique("hello")
    seats.ask("strict", text)
    login = seats.served_by()
    seats.simulator.play(scenario, retry_after=40, match={"login": login})
    asked = len(seats.simulator.generations)

    for _ in range(3):
        answer = seats.ask("strict", text, "an answer", "go on")
        assert answer.status_code == (402 if scenario == "quota_exceeded" else 429)
        assert 30 <= int(answer.headers["retry-after"]) <= 40

    # Asked once, refused from memory then; and never the other seat.
    assert len(seats.simulator.generations) == asked + 1
    assert seats.served_by() == login


def test_a_new_conversation_goes_to_a_seat_without_a_limit(seats: Seats) -> None:
    text = unique("hello")
    seats.ask("strict", text)
    login = seats.served_by()
    seats.simulator.play("session_limit", retry_after=40, match={"login": login})
    assert seats.ask("strict", text, "an answer", "go on").status_code == 429

    for number in range(4):
        assert seats.ask("strict", unique(f"another {number}")).status_code == 200
        assert seats.served_by() != login


def test_s23_retry_after_is_the_earliest_return_and_holds(seats: Seats) -> None:
    for login, wait in (("strict-a", 60), ("strict-b", 3)):
        seats.simulator.play("session_limit", retry_after=wait, times=1, match={"login": login})
    for _ in range(2):
        assert seats.ask("strict", unique("meet the limit")).status_code == 429
    asked = len(seats.simulator.generations)

    answer = seats.ask("strict", unique("nobody is left"))

    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 3
    assert len(seats.simulator.generations) == asked
    state = seats.state("strict-a")
    assert (state["state"], "5 hour" in state["state_reason"]) == ("cooling_down", True)
    time.sleep(int(answer.headers["retry-after"]))
    assert seats.ask("strict", unique("back")).status_code == 200
    assert seats.served_by() == "strict-b"


def test_a_limit_of_one_model_leaves_the_others(seats: Seats) -> None:
    text = unique("hello")
    seats.ask("strict", text)
    login = seats.served_by()
    seats.simulator.play("model_limit", retry_after=40, times=1, match={"login": login})
    assert seats.ask("strict", text, "an answer", "go on").status_code == 429

    assert seats.ask("strict", text, "an answer", "go on", model="gpt-5.5").status_code == 200
    refused = seats.ask("strict", text, "an answer", "go on")
    assert refused.status_code == 429
    assert 30 <= int(refused.headers["retry-after"]) <= 40
    assert seats.state(login)["state"] == "active"


@pytest.mark.parametrize(
    "scenario",
    ["session_limit", "rate_limited", "quota_exceeded", "error_503", "error_500", "overloaded_529"],
)
def test_s22_failover_moves_what_only_begins(seats: Seats, scenario: str) -> None:
    failing = next_of(seats, "loose")
    seats.simulator.play(scenario, match={"login": failing})
    text = unique("hello")

    answer = seats.ask("loose", text)
    moved_to = seats.served_by()

    assert answer.status_code == 200
    assert moved_to not in (failing, "octocat")
    exchange = answer.headers["x-request-id"].removeprefix("req_")
    record = seats.gateway.wait_for_records(1, "id = ? AND outcome = 'completed'", exchange)[0]
    assert record["account"] == moved_to
    tried = [attempt["account"] for attempt in json.loads(record["attempts"])]
    assert tried == [failing, moved_to]
    # From here on it stays where it is, also when that seat fails.
    seats.simulator.clear()
    seats.simulator.play(scenario, match={"login": moved_to})
    assert seats.ask("loose", text, "an answer", "go on").status_code >= 400
    assert seats.served_by() == moved_to


def next_of(seats: Seats, pool: str) -> str:
    """The seat whose turn it is next: they alternate."""
    seats.ask(pool, unique("whose turn"))
    last = seats.served_by()
    return next(login for login in POOLS[pool]["seats"] if login != last)


def test_nothing_moves_without_failover(seats: Seats) -> None:
    failing = next_of(seats, "strict")
    seats.simulator.play("session_limit", retry_after=5, match={"login": failing})

    assert seats.ask("strict", unique("hello")).status_code == 429

    assert seats.served_by() == failing


def test_a_signed_history_is_bound_wherever_it_comes_from(seats: Seats) -> None:
    failing = next_of(seats, "loose")
    seats.simulator.play("session_limit", retry_after=5, match={"login": failing})
    signed = {
        "model": "claude-sonnet-4.6",
        "max_tokens": 100,
        "messages": [
            {"role": "user", "content": unique("begun elsewhere")},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "c2lnbmVk"},
                    {"type": "text", "text": "an answer"},
                ],
            },
            {"role": "user", "content": "go on"},
        ],
    }
    with seats.gateway.client(headers={"x-api-key": seats.keys["loose"]}) as client:
        assert client.post("/v1/messages", json=signed).status_code == 429

    assert seats.served_by() == failing


def test_words_of_abuse_freeze_the_seat_and_move_nothing(seats: Seats) -> None:
    failing = next_of(seats, "loose")
    seats.simulator.play("forbidden_abuse", match={"login": failing})

    answer = seats.ask("loose", unique("hello"))

    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "account_frozen"
    assert seats.served_by() == failing
    assert seats.state(failing)["state"] == "frozen"
    asked = len(seats.simulator.received)
    for number in range(4):
        assert seats.ask("loose", unique(f"others {number}")).status_code == 200
        assert seats.served_by() != failing
    logins = {one.login for one in seats.simulator.received[asked:]}
    assert failing not in logins


def test_a_conversation_whose_seat_is_frozen_is_told_and_not_moved(seats: Seats) -> None:
    text = unique("hello")
    seats.ask("loose", text)
    login = seats.served_by()
    seats.shell(
        "from accounts import states\nfrom accounts.models import Account\n"
        f"states.set_state(Account.objects.get(login={login!r}), 'frozen', 'looked at')"
    )
    seats.gateway.wait_for(lambda: seats.ask("loose", text, "a", "b").status_code == 503)
    asked = len(seats.simulator.generations)

    answer = seats.ask("loose", text, "an answer", "go on")

    assert answer.status_code == 503
    assert "frozen" in answer.json()["error"]["message"]
    assert len(seats.simulator.generations) == asked


def test_conversations_keep_their_seats_over_a_restart(
    new_gateway: Callable[..., Gateway], simulator: SimulatorThread
) -> None:
    gateway = new_gateway()
    world = Seats(gateway, simulator)
    world.keys = make(
        gateway, simulator, {"team": {"seats": {"seat-a": 1, "seat-b": 1, "seat-c": 1}}}
    )
    gateway.wait_for(lambda: world.ask("team", unique("ready")).status_code == 200)
    first = {}
    # As SQLite has it. What only asked whether all is ready has a seat as well.
    began = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f}"
    for number in range(6):
        text = unique(f"topic {number}")
        world.ask("team", text)
        first[text] = world.served_by()
    written = "SELECT 1 FROM proxy_conversationseat WHERE bound_at >= ?"
    assert gateway.wait_for(lambda: len(gateway.query(written, began)) == 6, 30)
    gateway.kill()
    gateway.start()

    for text, login in first.items():
        assert world.ask("team", text, "an answer", "go on").status_code == 200
        assert world.served_by() == login

    gone = next(iter(first.values()))
    world.shell(
        f"from accounts.models import Account\nAccount.objects.get(login={gone!r}).delete()"
    )
    lost = [text for text, login in first.items() if login == gone]
    gateway.wait_for(lambda: world.ask("team", lost[0], "a", "b").status_code == 409)
    answer = world.ask("team", lost[0], "an answer", "go on")
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "conversation_account_gone"
    # One that only begins with the same words is a new conversation.
    assert world.ask("team", lost[0]).status_code == 200


def test_t17_a_removed_account_ends_no_stream_and_begins_none(
    new_gateway: Callable[..., Gateway], simulator: SimulatorThread
) -> None:
    gateway = new_gateway()
    world = Seats(gateway, simulator)
    world.keys = make(gateway, simulator, {"one": {"seats": {"only": 1}}})
    key = {"authorization": f"Bearer {world.keys['one']}"}
    gateway.wait_for(lambda: world.ask("one", "ready").status_code == 200)
    simulator.play("drip", chunks=30, delay=0.1, match={"login": "only"})
    ended: list[str] = []

    def stream(number: int) -> None:
        with (
            gateway.client(headers=key) as client,
            client.stream(
                "POST", PATH, json={**body(unique(f"stream {number}")), "stream": True}
            ) as response,
        ):
            ended.append(response.read().decode()[-20:])

    threads = [threading.Thread(target=stream, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    assert gateway.wait_for(lambda: simulator.open_streams() == 20)
    world.shell("from accounts.models import Account\nAccount.objects.get(login='only').delete()")
    gateway.wait_for(lambda: world.ask("one", unique("new")).status_code == 503, 3)
    asked = len(simulator.generations)
    refused = world.ask("one", unique("new"))
    for thread in threads:
        thread.join(20)

    assert refused.status_code == 503
    assert len(simulator.generations) == asked
    assert len(ended) == 20
    assert all("[DONE]" in tail for tail in ended)
