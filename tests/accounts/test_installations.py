"""Installation tokens of a GitHub App: proved, fetched, renewed, refused in words."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from django.db import connection
from django.utils.timezone import now

from accounts import book, installations, tokens
from accounts.database import in_database
from accounts.encryption import Secret
from accounts.errors import AccountUnavailable, GitHubRefused
from accounts.installations import UnusableKey
from accounts.models import Account, AuditEntry, GitHubApp, Member
from simulator.testing import SimulatorThread
from usage import quota

NUMBER = 42
PATH = f"/app/installations/{NUMBER}/access_tokens"
Store = Callable[..., GitHubApp]


def pem(key: Any) -> str:
    return str(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        ).decode()
    )


def public(key: Any) -> str:
    return str(
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


@pytest.fixture(scope="session")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def app(simulator: SimulatorThread, key: rsa.RSAPrivateKey, ada: Member) -> GitHubApp:
    simulator.add_app("Iv23acme", public(key), {str(NUMBER): {"login": "acme-bot"}})
    return installations.save_app("Acme", "Iv23acme", pem(key), "github.com", actor=ada)


async def install(app: GitHubApp, **values: Any) -> Account:
    return await installations.add_account(app, NUMBER, "acme", actor="ada", **values)


async def test_an_installation_becomes_a_seat_of_the_organisation(
    simulator: SimulatorThread, app: GitHubApp
) -> None:
    account = await install(app)

    credential = await tokens.credential(account.pk)
    assert credential.kind == "installation"
    assert credential.token.startswith("ghs_")
    assert credential.base_url == simulator.url
    assert account.owner_id is None
    row = await Account.objects.aget()
    # An hour, less the grace.
    assert 3500 <= row.token_lifetime_s <= 3600
    asked = simulator.received_on(PATH)[-1]
    assert b'"copilot_requests":"write"' in asked.body
    assert await AuditEntry.objects.filter(action="account.added").aexists()


async def test_the_private_key_is_nowhere_in_clear(
    simulator: SimulatorThread, app: GitHubApp, key: rsa.RSAPrivateKey
) -> None:
    def stored() -> str:
        with connection.cursor() as cursor:
            cursor.execute("SELECT private_key FROM accounts_githubapp")
            return str(cursor.fetchone()[0])

    text = await in_database(stored)
    assert "PRIVATE KEY" not in text
    assert "PRIVATE KEY" not in repr(app.__dict__)
    assert app.private_key.reveal() == pem(key)


async def test_many_who_ask_at_once_cause_one_token(
    simulator: SimulatorThread, app: GitHubApp
) -> None:
    account = await install(app)
    before = len(simulator.received_on(PATH))

    found = await asyncio.gather(*(tokens.credential(account.pk) for _ in range(50)))

    assert len({one.token for one in found}) == 1
    assert len(simulator.received_on(PATH)) == before + 1


async def test_the_token_is_renewed_before_its_hour_is_over(
    simulator: SimulatorThread, app: GitHubApp
) -> None:
    account = await install(app)
    first = await tokens.credential(account.pk)
    ends = now() - timedelta(seconds=3400)
    await in_database(Account.objects.filter(pk=account.pk).update, token_fetched_at=ends)
    tokens.forget()

    assert await asyncio.to_thread(tokens.refresh_due) == 1

    await in_database(book.snapshot.refresh, force=True)
    assert (await tokens.credential(account.pk)).token != first.token


async def test_a_rejected_token_is_replaced_once(
    simulator: SimulatorThread, app: GitHubApp
) -> None:
    account = await install(app)
    first = await tokens.credential(account.pk)

    renewed = await tokens.renew(account.pk, reason="401", rejected=first.token)

    assert renewed.token != first.token


@pytest.mark.parametrize("offset_s", [-7200, 7200])
async def test_a_wrong_clock_costs_one_repetition(
    simulator: SimulatorThread, app: GitHubApp, offset_s: int
) -> None:
    simulator.config(clock_offset_s=offset_s)

    account = await install(app)

    assert len(simulator.received_on(PATH)) == 2
    await tokens.credential(account.pk)
    row = await Account.objects.aget()
    assert 3500 <= row.token_lifetime_s <= 3600


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"suspended": True}, "suspended"),
        ({"permissions": {"contents": "read"}}, "Copilot Requests"),
    ],
)
async def test_a_refused_installation_is_told_why_and_stores_nothing(
    simulator: SimulatorThread, app: GitHubApp, key: rsa.RSAPrivateKey, given: Any, words: str
) -> None:
    simulator.add_app("Iv23acme", public(key), {str(NUMBER): {"login": "acme-bot", **given}})

    with pytest.raises(GitHubRefused, match=words):
        await install(app)

    assert not await Account.objects.aexists()


async def test_an_unknown_installation_and_a_foreign_key_are_told_apart(
    simulator: SimulatorThread, app: GitHubApp, ada: Member
) -> None:
    with pytest.raises(GitHubRefused, match="no such installation"):
        await installations.add_account(app, 77, "acme", actor="ada")

    other = pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    await in_database(
        installations.save_app, "Acme", "Iv23acme", other, "github.com", app=app, actor=ada
    )
    with pytest.raises(GitHubRefused, match="do not belong together"):
        await install(app)


async def test_a_removed_installation_marks_the_account_and_a_correction_heals_it(
    simulator: SimulatorThread, app: GitHubApp, key: rsa.RSAPrivateKey, ada: Member
) -> None:
    account = await install(app)
    simulator.add_app("Iv23acme", public(key), {})

    with pytest.raises(AccountUnavailable) as caught:
        await tokens.credential(account.pk)
    assert caught.value.code == "needs_sign_in"
    assert (await Account.objects.aget()).state == Account.State.NEEDS_SIGN_IN

    simulator.add_app("Iv23acme", public(key), {str(NUMBER): {"login": "acme-bot"}})
    await in_database(
        installations.save_app, "Acme", "Iv23acme", "", "github.com", app=app, actor=ada
    )
    await in_database(book.snapshot.refresh, force=True)
    assert (await tokens.credential(account.pk)).kind == "installation"
    assert (await Account.objects.aget()).state == Account.State.ACTIVE


async def test_a_suspended_installation_has_no_seat_and_is_tried_rarely(
    simulator: SimulatorThread, app: GitHubApp, key: rsa.RSAPrivateKey
) -> None:
    account = await install(app)
    suspended = {str(NUMBER): {"login": "acme-bot", "suspended": True}}
    simulator.add_app("Iv23acme", public(key), suspended)
    asked = len(simulator.received_on(PATH))

    for _ in range(3):
        with pytest.raises(AccountUnavailable) as caught:
            await tokens.credential(account.pk)

    assert caught.value.code == "no_seat"
    assert (await Account.objects.aget()).state == Account.State.NO_SEAT
    assert len(simulator.received_on(PATH)) == asked + 1


async def test_polling_quotas_asks_nothing_for_an_installation(
    simulator: SimulatorThread, app: GitHubApp
) -> None:
    account = await install(app)

    assert await in_database(_due) == []
    assert await quota.poll_account(account)

    row = await Account.objects.aget()
    assert row.quota_error == ""
    assert simulator.received_on("/copilot_internal/user") == []


def _due() -> list[Account]:
    return quota.due_accounts(now())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----",
        pem(ec.generate_private_key(ec.SECP256R1())),
        pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)),
    ],
)
def test_only_a_private_key_of_an_app_is_taken(text: str, ada: Member) -> None:
    with pytest.raises(UnusableKey):
        installations.save_app("Acme", "Iv23acme", text, "github.com", actor=ada)

    assert not GitHubApp.objects.exists()


async def test_an_app_in_use_is_not_removed(simulator: SimulatorThread, app: GitHubApp) -> None:
    await install(app)

    assert not await in_database(installations.remove_app, app, actor="ada")

    await Account.objects.all().adelete()
    assert await in_database(installations.remove_app, app, actor="ada")


async def test_a_persons_account_of_that_name_is_left_alone(
    simulator: SimulatorThread, app: GitHubApp, ben: Member
) -> None:
    await in_database(
        Account.objects.create, login="acme", owner=ben, github_token=Secret.of("ghu_octocat")
    )

    with pytest.raises(GitHubRefused, match="another name"):
        await install(app)
