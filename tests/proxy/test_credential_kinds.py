"""Every kind of credential from sign-in to answer, and a tenant of ghe.com with hosts of its own."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from simulator.testing import SimulatorThread
from tests.conftest import Gateway
from tests.proxy.seats import PATH, body

TENANT = "acme.ghe.com"
NUMBER = 4711


def served(gateway: Gateway, key: str = "", text: str = "hello") -> int:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    with gateway.client(headers=headers) as client:
        return client.post(PATH, json=body(f"{text} {time.monotonic_ns()}")).status_code


@pytest.mark.parametrize(
    ("token", "login", "exchanges"),
    [
        ("ghu_octocat", "octocat", True),
        ("gho_opencode", "opencode-dev", False),
        ("github_pat_ok", "pat-dev", False),
        ("ghs_install", "acme-bot", False),
    ],
)
def test_each_kind_of_token_serves(
    new_gateway: Callable[..., Gateway],
    simulator: SimulatorThread,
    token: str,
    login: str,
    exchanges: bool,
) -> None:
    gateway = new_gateway(token=token)

    assert served(gateway) == 200

    sent = simulator.generations[-1]
    assert sent.login == login
    is_direct = sent.headers["authorization"] == f"Bearer {token}"
    assert is_direct is not exchanges
    assert bool(simulator.received_on("/copilot_internal/v2/token")) is exchanges


def test_a_classic_token_is_refused_with_the_reason(
    new_gateway: Callable[..., Gateway], simulator: SimulatorThread
) -> None:
    gateway = new_gateway(token=None)

    said = gateway.manage("auth", "--github-token", "ghp_classic", check=False)

    assert said.returncode != 0
    assert "Classic personal access tokens" in said.stdout + said.stderr
    assert simulator.received_on("/user") == []


def test_an_installation_serves_and_is_renewed_while_it_is_used(
    new_gateway: Callable[..., Gateway], simulator: SimulatorThread
) -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    simulator.add_app("Iv23acme", public.decode(), {str(NUMBER): {"login": "acme-bot"}})
    gateway = new_gateway()
    code = (
        "import asyncio, json\nfrom accounts import installations, keys, pools\n"
        "from accounts.models import Member, Pool\n"
        "boss = Member.objects.filter(is_superuser=True).first()\n"
        f"app = installations.save_app('Acme', 'Iv23acme', {pem!r}, 'github.com', actor=boss)\n"
        f"account = asyncio.run(installations.add_account(app, {NUMBER}, 'acme', actor=boss))\n"
        "pool = Pool.objects.create(name='ci')\n"
        "pools.put(account, pool, actor=boss)\n"
        "key, secret = keys.create('ci', boss)\n"
        "type(key).objects.filter(pk=key.pk).update(pool=pool)\n"
        "print('@@' + json.dumps(secret))\n"
    )
    done = gateway.manage("shell", "--no-imports", "-c", code)
    key = json.loads(done.stdout.rpartition("@@")[2])
    assert gateway.wait_for(lambda: served(gateway, key) == 200)
    sent = simulator.generations[-1]
    first = sent.headers["authorization"]
    assert sent.login == "acme-bot"
    assert first.startswith("Bearer ghs_")

    # GitHub's hour is over, whatever our clock says: the refusal alone brings the next token.
    simulator.revoke_github_tokens("acme-bot")
    assert served(gateway, key) == 200

    assert simulator.generations[-1].headers["authorization"] not in (first, "")
    row = gateway.query("SELECT * FROM accounts_account WHERE login = 'acme'")[0]
    assert row["state"] == "active"
    assert row["quota_error"] == ""
    assert "ghs_" not in "".join(str(value) for value in row.values())
    assert "PRIVATE KEY" not in gateway.text


@pytest.fixture
def tenant(
    new_gateway: Callable[..., Gateway], simulator: SimulatorThread
) -> tuple[Gateway, SimulatorThread]:
    """A gateway for which another address plays acme.ghe.com; its Copilot has a third one."""
    github, copilot = simulator.other_url, f"http://127.0.0.2:{simulator.port}"
    simulator.config(device_interval_s=0.1)
    simulator.add_account("tess", token="ghu_tess", github_host=github, host=copilot)
    gateway = new_gateway(GITHUB_STAND_INS=f"{TENANT}={github}", GATEWAY_DEVICE_FLOW_MARGIN_S="0.1")
    return gateway, simulator


def test_a_tenant_signs_in_and_is_served_at_its_own_hosts(
    tenant: tuple[Gateway, SimulatorThread],
) -> None:
    gateway, simulator = tenant
    code = (
        "import asyncio\nfrom accounts import device_flow, keys\nfrom accounts.models import Member\n"
        "tess = Member.objects.create_user('tess')\n"
        "key, secret = keys.create('tess', tess)\nprint('@@' + secret)\n"
        f"print(asyncio.run(device_flow.start(started_by=tess, host={TENANT!r})).user_code)"
    )
    said = gateway.manage("shell", "--no-imports", "-c", code).stdout.rpartition("@@")[2].split()
    simulator.approve_device("tess", said[1])
    follow = (
        "import asyncio\nfrom accounts import device_flow\nfrom accounts.models import DeviceLogin\n"
        "asyncio.run(device_flow.run(DeviceLogin.objects.latest('created_at').pk))"
    )
    gateway.manage("shell", "--no-imports", "-c", follow)

    assert gateway.wait_for(lambda: served(gateway, said[0]) == 200)

    seen: dict[str, set[Any]] = {}
    for one in simulator.received:
        if one.login == "tess" or one.path.startswith("/login/"):
            seen.setdefault(one.path, set()).add(one.headers["host"].partition(":")[0])
    assert seen.pop(PATH.removeprefix("/v1")) == {"127.0.0.2"}
    assert seen.pop("/models") == {"127.0.0.2"}
    # The device flow, the exchange and the documents: at the tenant alone.
    assert {"/login/device/code", "/user", "/copilot_internal/v2/token"} <= seen.keys()
    assert set.union(*seen.values()) == {"localhost"}
    row = gateway.query("SELECT * FROM accounts_account WHERE login = 'tess'")[0]
    assert row["host"] == TENANT
    owner = gateway.query("SELECT id FROM accounts_member WHERE username = 'tess'")[0]["id"]
    assert row["owner_id"] == owner


def test_a_tenants_token_is_unknown_elsewhere(tenant: tuple[Gateway, SimulatorThread]) -> None:
    gateway, _ = tenant

    said = gateway.manage("auth", "--github-token", "ghu_tess", check=False)

    assert said.returncode != 0
    assert gateway.query("SELECT 1 FROM accounts_account WHERE login = 'tess'") == []
