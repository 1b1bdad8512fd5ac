"""A team's week, played through: members, teams, keys and limits, and what must hold at its end.

Two gateway processes on PostgreSQL and Redis; every request goes to the simulator, whose journal says
what really went out, with which seat. Time is not stretched: what a week's limits do in days, minutes
and the number of requests do here.
"""

import json
import random
import re
import threading
from bisect import bisect_right
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx

from simulator.testing import SimulatorThread

MODELS = ("gpt-4.1", "claude-sonnet-5", "gpt-5.4")
NANO = 10**9

MAKE = """
import asyncio, json
from accounts import keys, pools
from accounts.enrolment import add_account
from accounts.models import Account, ApiKey, Member, Pool, Team
wanted = json.loads(open(%r).read())
boss = Member.objects.filter(is_superuser=True).first() or Member.objects.create_superuser("boss")
teams = {}
for name, spec in wanted["teams"].items():
    teams[name] = Team.objects.create(name=name, cost_centre=name, **spec)
for login in wanted["pool"]:
    asyncio.run(add_account("ghu_" + login))
pool = Pool.objects.create(name="organisation")
for login in wanted["pool"]:
    pools.put(Account.objects.get(login=login), pool, actor=boss)
for name in wanted["pooled_teams"]:
    Team.objects.filter(name=name).update(pool=pool)
people = {}
for name, spec in wanted["members"].items():
    team = teams[spec.pop("team")]
    seat = spec.pop("seat")
    member = people[name] = Member.objects.create_user(name, team=team, **spec)
    if seat:
        asyncio.run(add_account("ghu_" + seat))
        Account.objects.filter(login=seat).update(owner=member)
said = {}
for name, spec in wanted["keys"].items():
    key, secret = keys.create(name, people[spec.pop("owner")], **spec)
    said[name] = [key.pk, secret]
print("@@" + json.dumps(said))
"""


@dataclass(slots=True)
class Key:
    """A key of the played team. `seats` are the accounts that it may use."""

    name: str
    member: str
    team: str
    seats: frozenset[str]
    limits: dict[str, int]
    id: int = 0
    secret: str = ""


@dataclass(slots=True)
class Played:
    """What came of the week: the statuses of each key, and errors that no answer explains."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


class Week:
    """The team and its limits; `play` sends the requests."""

    def __init__(self, team: Any, simulator: SimulatorThread, *, members: int, seed: int) -> None:
        self.team, self.simulator = team, simulator
        self.random = random.Random(seed)
        self.keys = self._people(members)

    def _people(self, members: int) -> dict[str, Key]:
        """Members of three teams: two with seats of their own, one on the organisation's pool."""
        rng = self.random
        names = [f"member{n:02}" for n in range(members)]
        teams = ("build", "web", "data")
        pool = [f"org-seat-{n}" for n in range(3)]
        plan: dict[str, Any] = {
            "teams": {
                "build": {"budget_day_nano_aiu": 40 * NANO},
                "web": {"requests_per_minute": 20 * members},
                "data": {"concurrency": 8},
            },
            "pool": pool,
            "pooled_teams": ["data"],
            "members": {},
            "keys": {},
        }
        keys: dict[str, Key] = {}
        for number, name in enumerate(names):
            team = teams[number % 3]
            seat = "" if team == "data" else f"seat-{name}"
            plan["members"][name] = {
                "team": team,
                "seat": seat,
                "requests_per_minute": rng.choice((0, 0, 60)),
            }
            # Sixty keys for fifty members: every fifth has a second one.
            for place in range(2 if number % 5 == 0 else 1):
                limits = {
                    "requests_per_minute": rng.choice((0, 15, 40)),
                    "concurrency": rng.choice((0, 2, 4)),
                    "budget_day_nano_aiu": rng.choice((0, 0, NANO // 5)),
                }
                key = f"{name}-{place}"
                plan["keys"][key] = {"owner": name, **limits}
                seats = frozenset((seat,)) if seat else frozenset(pool)
                keys[key] = Key(key, name, team, seats, limits)
        self.plan = json.loads(json.dumps(plan))
        for login in (*pool, *(spec["seat"] for spec in plan["members"].values())):
            if login:
                self.simulator.add_account(login, token=f"ghu_{login}")
        written = self.team.folder / "week.json"
        written.write_text(json.dumps(plan))
        done = self.team.manage("shell", "--no-imports", "-c", MAKE % str(written))
        for name, (pk, secret) in json.loads(done.stdout.rpartition("@@")[2]).items():
            keys[name].id, keys[name].secret = pk, secret
        self.team.settle()
        return keys

    def play(self, requests: int, *, threads: int = 24) -> Played:
        """Send so many requests in conversations of some turns, over all gateways."""
        played = Played()
        lock = threading.Lock()
        names = list(self.keys)
        plan = [
            (self.random.choice(names), self.random.choice(MODELS), self.random.getrandbits(32))
            for _ in range(requests)
        ]
        limits = httpx.Limits(max_connections=threads, max_keepalive_connections=threads)
        clients = [
            httpx.Client(base_url=g.url, timeout=60, trust_env=False, limits=limits)
            for g in self.team.gateways
        ]

        def ask(place: int) -> None:
            name, model, seed = plan[place]
            key = self.keys[name]
            client = clients[place % len(clients)]
            try:
                status = self._ask(client, key, model, seed)
            except httpx.HTTPError as error:
                with lock:
                    played.broken.append(f"{name}: {error!r}")
                return
            with lock:
                played.statuses[name, status] += 1

        try:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(ask, range(requests)))
        finally:
            for client in clients:
                client.close()
        return played

    def _ask(self, client: httpx.Client, key: Key, model: str, seed: int) -> int:
        """One request as a client would make it: streamed or whole, of one of two formats."""
        rng = random.Random(seed)
        topic = f"{key.name} asks about {rng.randrange(200)}"
        if rng.random() < 0.4:
            # Slow enough that several run at once.
            topic += " [[drip chunks=8 delay=0.04]]"
        messages: list[dict[str, str]] = [{"role": "user", "content": topic}]
        for turn in range(rng.randrange(3)):
            messages.append({"role": "assistant", "content": f"answer {turn}"})
            messages.append({"role": "user", "content": f"and {turn}?"})
        body: dict[str, Any] = {"model": model, "messages": messages, "stream": rng.random() < 0.5}
        path = "/v1/chat/completions"
        if rng.random() < 0.3:
            path, body["max_tokens"] = "/v1/messages", 500
        headers = {"authorization": f"Bearer {key.secret}"}
        with client.stream("POST", path, json=body, headers=headers) as answer:
            for _ in answer.iter_raw():
                pass
            return answer.status_code

    # What must hold.

    def records(self) -> list[dict[str, Any]]:
        return self.team.records("key_id = ANY(%s)", [key.id for key in self.keys.values()])

    def wrong_seats(self) -> list[str]:
        """Requests that went out with a seat that their key may not use."""
        by_id = {key.id: key for key in self.keys.values()}
        return [
            f"{row['key']} on {row['account']}"
            for row in self.records()
            if row["account"] and row["account"] not in by_id[row["key_id"]].seats
        ]

    def seats_upstream(self) -> Counter[str]:
        """Requests by the seat that the simulator saw."""
        return Counter(str(one.login) for one in self.simulator.generations)

    def beyond_rate(self) -> list[str]:
        """Sliding minutes in which more requests of one subject went out than its limit."""
        return [
            f"{subject}: {most} of {limit} in a minute"
            for subject, limit, rows in self._subjects("requests_per_minute")
            if (most := most_within([sent_at(row) for row in rows], 60.0)) > limit
        ]

    def beyond_concurrency(self) -> list[str]:
        """Subjects of which more requests ran at once upstream than their limit."""
        found = []
        for subject, limit in self._limited("concurrency"):
            spans = self._spans_upstream().get(subject, [])
            if (most := most_at_once(spans)) > limit:
                found.append(f"{subject}: {most} of {limit} at once")
        return found

    def _spans_upstream(self) -> dict[str, list[tuple[float, float]]]:
        """When requests ran, as the simulator saw it: a lease of ours begins before and ends after."""
        by: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for one in self.simulator.generations:
            named = re.search(rb"(member\d+-\d) asks about", one.body)
            if named is None or one.closed_at is None:
                continue
            key = self.keys[named[1].decode()]
            for subject in (f"key {key.id}", f"member {key.member}", f"team {key.team}"):
                by[subject].append((one.time, one.closed_at))
        return by

    def overdrawn(self) -> list[str]:
        """Budgets that were overdrawn by more than what was in flight when they were reached."""
        found = []
        for subject, limit, rows in self._subjects("budget_day_nano_aiu"):
            spent = sum(row["nano_aiu"] for row in rows)
            at_once = most_at_once([span_of(row) for row in rows])
            dearest = max((row["nano_aiu"] for row in rows), default=0)
            if spent > limit + at_once * dearest:
                found.append(f"{subject}: {spent} of {limit}, {at_once} x {dearest} in flight")
        return found

    def _subjects(self, column: str) -> list[tuple[str, int, list[dict[str, Any]]]]:
        """Keys, members and teams with a limit of that name, and the requests that were sent."""
        by: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in self.records():
            if row["outcome"] != "refused":
                by[f"key {row['key_id']}"].append(row)
                by[f"member {row['member']}"].append(row)
                by[f"team {row['team']}"].append(row)
        return [(subject, limit, by[subject]) for subject, limit in self._limited(column)]

    def _limited(self, column: str) -> list[tuple[str, int]]:
        limits = {f"key {key.id}": key.limits.get(column, 0) for key in self.keys.values()}
        members, teams = self.plan["members"], self.plan["teams"]
        limits |= {f"member {name}": spec.get(column, 0) for name, spec in members.items()}
        limits |= {f"team {name}": spec.get(column, 0) for name, spec in teams.items()}
        return [(subject, limit) for subject, limit in limits.items() if limit]


def sent_at(row: dict[str, Any]) -> float:
    """When a request passed the gates: its beginning and what it waited, in unix seconds."""
    return float(row["started_at"].timestamp()) + row["queue_ms"] / 1000


def span_of(row: dict[str, Any]) -> tuple[float, float]:
    return sent_at(row), float(row["finished_at"].timestamp())


def most_within(times: list[float], seconds: float) -> int:
    """The most of `times` that lie within so many seconds; what lies at both edges counts once."""
    times = sorted(times)
    return max(
        (bisect_right(times, start + seconds - 0.002) - place for place, start in enumerate(times)),
        default=0,
    )


def most_at_once(spans: list[tuple[float, float]]) -> int:
    """The most spans that overlap. Clocks are read to the millisecond: as much is given."""
    edges = sorted([(start + 0.002, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    most = now = 0
    for _, step in edges:
        now += step
        most = max(most, now)
    return most
