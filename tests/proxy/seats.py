"""Seats for tests: accounts, pools and keys made in a gateway's database by one command."""

import json
from dataclasses import dataclass, field
from typing import Any

import httpx

from simulator.testing import SimulatorThread
from tests.conftest import Gateway

MODEL = "gpt-4.1"
PATH = "/v1/chat/completions"
LOGINS = ("seat-a", "seat-b", "seat-c")

# Makes the accounts and hands each pool its own; says the keys.
MAKE = """
import asyncio, json
from accounts import keys, pools
from accounts.enrolment import add_account
from accounts.models import Account, Member, Pool, Team
wanted = json.loads('''%s''')
boss = Member.objects.filter(is_superuser=True).first() or Member.objects.create_superuser("boss")
said = {}
for login in wanted["accounts"]:
    asyncio.run(add_account("ghu_" + login))
for name, spec in wanted["pools"].items():
    pool = Pool.objects.create(name=name, failover=spec.get("failover", False))
    for login, weight in spec["seats"].items():
        pools.put(Account.objects.get(login=login), pool, weight=weight, actor=boss)
    key, secret = keys.create(name, boss, actor=boss)
    type(key).objects.filter(pk=key.pk).update(pool=pool)
    said[name] = secret
print("@@" + json.dumps(said))
"""


@dataclass
class Seats:
    """A gateway whose pools are made; `keys` are the secrets by the name of the pool."""

    gateway: Gateway
    simulator: SimulatorThread
    keys: dict[str, str] = field(default_factory=dict)

    def ask(self, pool: str, *turns: str, **options: Any) -> httpx.Response:
        """Ask with `turns` of user and assistant in turn; `session` names the conversation."""
        return ask(self.gateway, self.keys[pool], *turns, **options)

    def served_by(self) -> str:
        """The seat that the newest request went to."""
        return str(self.simulator.generations[-1].login)

    def state(self, login: str) -> dict[str, Any]:
        return self.gateway.query("SELECT * FROM accounts_account WHERE login = ?", login)[0]

    def shell(self, code: str) -> str:
        done = self.gateway.manage("shell", "--no-imports", "-c", code)
        # The other process reads its tables every second.
        return done.stdout


def body(*turns: str, model: str = MODEL) -> dict[str, Any]:
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": text} for n, text in enumerate(turns)]
    return {"model": model, "messages": messages}


def ask(
    gateway: Gateway, key: str, *turns: str, session: str = "", model: str = MODEL
) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    if session:
        headers["x-session-id"] = session
    with gateway.client(headers=headers) as client:
        return client.post(PATH, json=body(*turns, model=model))


def register(simulator: SimulatorThread, *logins: str) -> None:
    for login in logins:
        simulator.add_account(login, token=f"ghu_{login}")


def make(
    gateway: Gateway, simulator: SimulatorThread, pools: dict[str, dict[str, Any]]
) -> dict[str, str]:
    """`pools` maps names to `{"seats": {login: weight}, "failover": bool}`; gives keys by pool."""
    logins = [login for spec in pools.values() for login in spec["seats"]]
    register(simulator, *logins)
    code = MAKE % json.dumps({"accounts": logins, "pools": pools})
    done = gateway.manage("shell", "--no-imports", "-c", code)
    found: dict[str, str] = json.loads(done.stdout.rpartition("@@")[2])
    return found
