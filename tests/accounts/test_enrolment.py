"""Enrolment: a token is proven with GitHub before anything is stored."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from accounts import book, refusals, tokens
from accounts.database import in_database
from accounts.errors import GitHubRefused
from accounts.models import Account, AuditEntry, Member
from simulator.testing import SimulatorThread

EXCHANGE = "/copilot_internal/v2/token"
DOCUMENT = "/copilot_internal/user"


async def refused(token: str) -> GitHubRefused:
    with pytest.raises(GitHubRefused) as caught:
        await tokens.add_account(token)
    assert token not in caught.value.message
    assert await in_database(Account.objects.count) == 0
    return caught.value


async def test_a_sign_in_becomes_an_account_with_its_plan(
    simulator: SimulatorThread, ben: Member
) -> None:
    account = await tokens.add_account("ghu_octocat", owner=ben)

    assert (account.login, account.github_id) == ("octocat", 583231)
    assert account.owner_id == ben.pk
    assert (account.plan, account.sku) == ("individual_pro", "plus_monthly_subscriber_quota")
    assert (account.credential_kind, account.token_kind) == ("exchange", "ghu")
    assert account.state == Account.State.ACTIVE
    assert account.api_base == simulator.url
    # Routing knows it at once, and the token of the check serves the first request.
    assert book.of_owner(ben.pk) == [book.view_of(account)]
    assert (await tokens.credential(account.pk)).token == account.copilot_token.reveal()
    assert simulator.exchanges("octocat") == 1
    entry = await in_database(AuditEntry.objects.get, action="account.added")
    assert entry.actor == "ben"


@pytest.mark.parametrize(
    ("token", "login", "kind"),
    [
        ("gho_opencode", "opencode-dev", "direct"),
        ("github_pat_ok", "pat-dev", "direct"),
        ("ghs_install", "installation", "direct"),
        ("ghu_mona", "mona", "exchange"),
    ],
)
async def test_each_kind_of_token_goes_its_way(
    simulator: SimulatorThread, transactional_db: None, token: str, login: str, kind: str
) -> None:
    account = await tokens.add_account(token, account_type="business")

    assert (account.login, account.credential_kind) == (login, kind)
    assert (await tokens.credential(account.pk)).kind == kind
    assert bool(simulator.received_on(EXCHANGE)) == (kind == "exchange")


async def test_an_app_whose_document_is_hidden_may_still_exchange(
    simulator: SimulatorThread, transactional_db: None
) -> None:
    simulator.add_account("monalisa", token="gho_vscode", client_id="01ab8ac9400c4e429b23")
    simulator.play("rest_error", code=404, message="Not Found", match={"path": DOCUMENT})

    account = await tokens.add_account("gho_vscode")

    assert account.credential_kind == "exchange"
    assert account.token_kind == "gho"


async def test_an_unapproved_app_is_told_what_works(
    simulator: SimulatorThread, transactional_db: None
) -> None:
    simulator.add_account("cleo", token="gho_own", client_id="Ov23liown", refusal="hidden")

    error = await refused("gho_own")

    assert error.reason == refusals.NOT_ALLOWED
    assert error.message.startswith("Signed in as cleo.")
    assert "device flow" in error.message


async def test_a_fine_grained_token_without_permission_is_told_which(
    simulator: SimulatorThread, transactional_db: None
) -> None:
    assert "'Copilot Requests'" in (await refused("github_pat_noperm")).message


async def test_a_classic_token_is_refused_before_github_hears_of_it(
    simulator: SimulatorThread, transactional_db: None
) -> None:
    assert (await refused("ghp_classic")).message == refusals.CLASSIC_PAT
    assert simulator.received == []


async def test_no_seat_says_which_account_signed_in(
    simulator: SimulatorThread, transactional_db: None
) -> None:
    error = await refused("ghu_noseat")

    assert (error.status, error.reason) == (403, "no_copilot_access")
    assert error.message.startswith("Signed in as noseat. The account has no access")


async def test_a_switched_off_chat_is_no_seat(
    simulator: SimulatorThread, transactional_db: None
) -> None:
    simulator.config(user_body={"chat_enabled": False})

    assert (await refused("gho_opencode")).reason == refusals.NO_CHAT


async def test_a_revoked_token_stores_nothing(
    simulator: SimulatorThread, transactional_db: None
) -> None:
    assert (await refused("ghu_revoked")).status == 401


async def test_a_missing_document_does_not_hinder_a_proven_seat(
    simulator: SimulatorThread, transactional_db: None
) -> None:
    simulator.play("error_503", match={"path": DOCUMENT})

    assert (await tokens.add_account("ghu_octocat")).state == Account.State.ACTIVE


async def test_t18_signing_in_again_replaces_the_token_and_heals_the_account(
    simulator: SimulatorThread, ada: Member, ben: Member
) -> None:
    first = await tokens.add_account("ghu_octocat", owner=ben)
    old = first.copilot_token.reveal()
    await in_database(
        Account.objects.filter(pk=first.pk).update,
        state=Account.State.NEEDS_SIGN_IN,
        refresh_error="revoked",
        login="renamed-since",
    )
    simulator.add_account("octocat", token="ghu_second")
    simulator.revoke_github_tokens("octocat")
    simulator.add_account("octocat", token="ghu_third")

    for number in range(11):
        simulator.add_account("octocat", token=f"ghu_number{number}")
        again = await tokens.add_account(f"ghu_number{number}", owner=ada)

    assert again.pk == first.pk
    assert again.login == "octocat"
    assert again.github_token.reveal() == "ghu_number10"
    assert again.copilot_token.reveal() != old
    assert (again.state, again.refresh_error) == (Account.State.ACTIVE, "")
    # An account keeps its owner.
    assert again.owner_id == ben.pk
    assert await in_database(Account.objects.count) == 1


@pytest.mark.parametrize("state", [Account.State.FROZEN, Account.State.PAUSED])
async def test_signing_in_again_does_not_take_back_what_an_administrator_decided(
    simulator: SimulatorThread, ben: Member, state: str
) -> None:
    account = await tokens.add_account("ghu_octocat", owner=ben)
    await in_database(Account.objects.filter(pk=account.pk).update, state=state)

    assert (await tokens.add_account("ghu_octocat", owner=ben)).state == state


async def test_an_unknown_host_is_refused(
    simulator: SimulatorThread, transactional_db: None
) -> None:
    with pytest.raises(GitHubRefused) as caught:
        await tokens.add_account("ghu_octocat", host="evil.example")

    assert "evil.example" in caught.value.message
    assert simulator.received == []


def test_the_database_holds_no_secret_in_clear(
    simulator: SimulatorThread, make_account: Callable[..., Account], settings: Any
) -> None:
    account = make_account()
    copilot_token = tokens.refresh_now(account.pk).token

    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM accounts_account")
        stored = repr(cursor.fetchall())

    assert "octocat" in stored
    assert "ghu_octocat" not in stored
    assert copilot_token not in stored
    assert "tid=" not in stored
