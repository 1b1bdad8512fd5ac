"""Credentials: one exchange however many ask, and a calm face to every trouble of GitHub."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now
from django.utils.timezone import now

from accounts import book, states, token_rows, tokens
from accounts.database import in_database
from accounts.encryption import Secret
from accounts.errors import AccountUnavailable, GitHubRefused
from accounts.lifetimes import lifetime_s
from accounts.models import Account, AuditEntry
from accounts.snapshots import refresh_all
from simulator.testing import SimulatorThread

EXCHANGE = "/copilot_internal/v2/token"
DOCUMENT = "/copilot_internal/user"
Make = Callable[..., Account]


async def row(account: Account) -> Account:
    return await in_database(Account.objects.get, pk=account.pk)


async def change(account: Account, **values: Any) -> None:
    await in_database(Account.objects.filter(pk=account.pk).update, **values)


async def age(account: Account, seconds: float) -> None:
    """Let the stored token be older, and this process know nothing of it."""
    at = (await row(account)).token_fetched_at
    assert at is not None
    await change(account, token_fetched_at=at - timedelta(seconds=seconds))
    tokens.forget()


async def unavailable(account: Account, code: str) -> AccountUnavailable:
    with pytest.raises(AccountUnavailable) as caught:
        await tokens.credential(account.pk)
    assert caught.value.code == code
    return caught.value


async def reload_book() -> None:
    await in_database(refresh_all)


async def test_t01_a_hundred_askers_cause_one_exchange(
    simulator: SimulatorThread, make_account: Make
) -> None:
    account = await in_database(make_account)
    simulator.config(exchange_latency_s=0.2)

    got = await asyncio.gather(*(tokens.credential(account.pk) for _ in range(100)))

    assert simulator.exchanges("octocat") == 1
    assert len(set(got)) == 1
    assert got[0].base_url == simulator.url
    assert got[0].kind == "exchange"
    assert got[0].token not in repr(got[0])


def test_threads_with_loops_of_their_own_share_the_exchange(
    simulator: SimulatorThread, make_account: Make
) -> None:
    account = make_account()
    simulator.config(exchange_latency_s=0.2)

    def ask(_: int) -> str:
        return asyncio.run(tokens.credential(account.pk)).token

    with ThreadPoolExecutor(16) as pool:
        got = set(pool.map(ask, range(16)))

    assert len(got) == 1
    assert simulator.exchanges("octocat") == 1


async def test_an_asker_that_leaves_does_not_stop_the_exchange(
    simulator: SimulatorThread, make_account: Make
) -> None:
    account = await in_database(make_account)
    simulator.config(exchange_latency_s=0.3)
    first = asyncio.create_task(tokens.credential(account.pk))
    assert await asyncio.to_thread(simulator.wait_received, 1, path=EXCHANGE)
    second = asyncio.create_task(tokens.credential(account.pk))
    await asyncio.sleep(0)

    first.cancel()

    assert (await second).token
    assert first.cancelled()
    assert simulator.exchanges("octocat") == 1


async def test_a_good_token_in_memory_needs_neither_database_nor_github(
    simulator: SimulatorThread, make_account: Make
) -> None:
    account = await in_database(make_account)
    first = await tokens.credential(account.pk)
    await reload_book()
    simulator.refuse_connections()
    try:
        # The row is in the way of nobody: not even read.
        await change(account, copilot_token=Secret.of("other"), token_lifetime_s=0)
        assert await tokens.credential(account.pk) == first
    finally:
        simulator.accept_connections()


async def test_what_another_process_fetched_is_taken_from_the_row(
    simulator: SimulatorThread, make_account: Make
) -> None:
    account = await in_database(make_account)
    first = await tokens.credential(account.pk)
    tokens.forget()

    assert await tokens.credential(account.pk) == first
    assert simulator.exchanges("octocat") == 1


async def test_a_newer_token_in_the_row_replaces_the_one_in_memory(
    simulator: SimulatorThread, make_account: Make
) -> None:
    account = await in_database(make_account)
    await tokens.credential(account.pk)
    await change(
        account, copilot_token=Secret.of("tid=newer"), token_fetched_at=now() + timedelta(seconds=1)
    )
    await reload_book()

    assert (await tokens.credential(account.pk)).token == "tid=newer"
    assert simulator.exchanges("octocat") == 1


async def test_a_loser_of_the_claim_waits_for_the_winner(
    simulator: SimulatorThread, make_account: Make
) -> None:
    account = await in_database(make_account)
    until = now() + timedelta(seconds=15)
    await change(account, refresh_claimed_until=until)
    asking = asyncio.create_task(tokens.credential(account.pk))
    done, _ = await asyncio.wait([asking], timeout=0.3)
    assert not done

    # The other process has finished.
    await change(
        account,
        copilot_token=Secret.of("tid=theirs"),
        token_fetched_at=Now(),
        token_lifetime_s=1560,
        api_base=simulator.url,
        refresh_claimed_until=None,
    )

    assert (await asking).token == "tid=theirs"
    assert simulator.exchanges("octocat") == 0


@pytest.mark.parametrize("offset_s", [-1, 7200])
async def test_a_claim_whose_holder_died_or_had_a_wild_clock_is_void(
    simulator: SimulatorThread, make_account: Make, offset_s: float
) -> None:
    account = await in_database(make_account)
    await change(account, refresh_claimed_until=now() + timedelta(seconds=offset_s))

    assert (await tokens.credential(account.pk)).token
    assert simulator.exchanges("octocat") == 1


async def test_t03_an_expired_token_is_replaced_on_use(
    simulator: SimulatorThread, make_account: Make
) -> None:
    account = await in_database(make_account)
    first = await tokens.credential(account.pk)
    await age(account, 3600)

    assert (await tokens.credential(account.pk)).token != first.token
    assert simulator.exchanges("octocat") == 2


async def test_a_token_that_ends_soon_is_replaced_behind_the_request(
    simulator: SimulatorThread, make_account: Make
) -> None:
    account = await in_database(make_account)
    first = await tokens.credential(account.pk)
    await age(account, 1500)
    await reload_book()
    assert await tokens.credential(account.pk) == first

    assert await tokens.credential(account.pk) == first

    assert await asyncio.to_thread(simulator.wait_received, 2, path=EXCHANGE)
    await tokens._landing(tokens._flights[account.pk])
    await reload_book()
    assert (await tokens.credential(account.pk)).token != first.token


@pytest.mark.parametrize("name", ["error_503", "reset_before", "html_200"])
async def test_t12_an_exchange_that_is_down_is_nothing_while_the_token_is_good(
    simulator: SimulatorThread, make_account: Make, name: str
) -> None:
    account = await in_database(make_account)
    first = await tokens.credential(account.pk)
    await age(account, 1500)
    await reload_book()
    simulator.play(name, match={"path": EXCHANGE})

    assert [await tokens.credential(account.pk) for _ in range(5)] == [first] * 5
    await tokens._landing(tokens._flights[account.pk])
    assert await tokens.credential(account.pk) == first

    stored = await row(account)
    assert stored.state == Account.State.ACTIVE
    assert stored.refresh_error
    assert len(simulator.received_on(EXCHANGE)) == 2


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("error_500", {}),
        ("error_500_html", {}),
        ("html_200", {}),
        ("json_200", {}),
        ("close_before", {}),
        ("rest_limit_429", {}),
        ("hang", {}),
    ],
)
async def test_t04_t05_a_failed_exchange_backs_off_and_recovers_by_itself(
    simulator: SimulatorThread, make_account: Make, settings: Any, name: str, args: dict[str, Any]
) -> None:
    settings.GATEWAY_GITHUB_TIMEOUT_S = 0.5
    account = await in_database(make_account)
    simulator.play(name, match={"path": EXCHANGE}, **args)

    first = await unavailable(account, "refresh_failed")
    again = await asyncio.gather(*(unavailable(account, "refresh_failed") for _ in range(20)))

    assert all(one.retry_after_s and one.retry_after_s >= 1 for one in (first, *again))
    assert len(simulator.received_on(EXCHANGE)) == 1
    assert (await row(account)).state == Account.State.ACTIVE

    simulator.clear()
    await change(account, refresh_not_before=now() - timedelta(seconds=1))
    assert (await tokens.credential(account.pk)).token
    assert (await row(account)).refresh_failures == 0


async def test_the_back_off_never_exceeds_what_recovery_allows(
    simulator: SimulatorThread, make_account: Make
) -> None:
    account = await in_database(make_account)
    await change(account, refresh_failures=50)
    simulator.play("error_500", match={"path": EXCHANGE})

    error = await unavailable(account, "refresh_failed")

    assert error.retry_after_s is not None
    assert error.retry_after_s <= 30


async def test_t05_retry_after_of_github_is_obeyed(
    simulator: SimulatorThread, make_account: Make
) -> None:
    account = await in_database(make_account)
    simulator.play("status", code=503, retry_after=120, match={"path": EXCHANGE})

    assert (await unavailable(account, "refresh_failed")).retry_after_s == 120


async def test_t11_a_revoked_github_token_is_asked_once(
    simulator: SimulatorThread, make_account: Make
) -> None:
    account = await in_database(make_account, "revoked", "ghu_revoked")

    for _ in range(5):
        error = await unavailable(account, "needs_sign_in")
        assert error.retry_after_s is None

    stored = await row(account)
    assert stored.state == Account.State.NEEDS_SIGN_IN
    assert "Sign in again" in stored.state_reason
    assert len(simulator.received_on(EXCHANGE)) == 1
    assert await in_database(AuditEntry.objects.filter(action="account.needs_sign_in").count) == 1


async def test_t10_an_account_without_a_seat_is_asked_every_quarter_of_an_hour(
    simulator: SimulatorThread, make_account: Make
) -> None:
    account = await in_database(make_account, "noseat", "ghu_noseat")

    error = await unavailable(account, "no_seat")
    for _ in range(5):
        await unavailable(account, "no_seat")

    assert error.retry_after_s == 900
    assert len(simulator.received_on(EXCHANGE)) == 1
    stored = await row(account)
    assert stored.state == Account.State.NO_SEAT
    assert "no access to GitHub Copilot" in stored.state_reason

    simulator.add_account("noseat", refusal=None)
    await change(account, refresh_not_before=now() - timedelta(seconds=1))
    assert (await tokens.credential(account.pk)).token
    assert (await row(account)).state == Account.State.ACTIVE


@pytest.mark.parametrize(
    "reason", ["access_revoked", "spammy_user", "programmatic_token_generation"]
)
async def test_suspicion_freezes_until_a_person_releases(
    simulator: SimulatorThread, make_account: Make, reason: str
) -> None:
    account = await in_database(make_account)
    simulator.play("exchange_denied", notification_id=reason, times=1)

    await unavailable(account, "frozen")
    await unavailable(account, "frozen")

    assert len(simulator.received_on(EXCHANGE)) == 1
    frozen = await row(account)
    assert not await in_database(states.set_state, frozen, Account.State.ACTIVE, "by itself")
    assert await in_database(
        states.set_state, frozen, Account.State.ACTIVE, "looked at", None, "ada"
    )
    assert (await tokens.credential(account.pk)).token


async def test_a_passing_error_in_the_403_is_tried_again_soon(
    simulator: SimulatorThread, make_account: Make
) -> None:
    account = await in_database(make_account)
    simulator.play("exchange_denied", notification_id="server_error", times=1)

    error = await unavailable(account, "refresh_failed")

    assert error.retry_after_s is not None
    assert error.retry_after_s <= 30
    assert (await row(account)).state == Account.State.ACTIVE


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (1500, 1560),
        (0, 60),
        (-5, 60),
        (1e12, 86400),
        (None, 1560),
        ("soon", 1560),
        (True, 1560),
        (float("nan"), 1560),
    ],
)
def test_t06_the_lifetime_comes_from_refresh_in_and_stays_sane(given: Any, expected: float) -> None:
    assert lifetime_s({"refresh_in": given, "expires_at": 12}) == expected


@pytest.mark.parametrize("offset_s", [-7200, 7200])
@pytest.mark.parametrize("refresh_in", [1500, 0, -100])
async def test_t07_clocks_hours_apart_do_no_harm(
    simulator: SimulatorThread, make_account: Make, offset_s: float, refresh_in: float
) -> None:
    account = await in_database(make_account)
    simulator.config(clock_offset_s=offset_s, refresh_in_s=refresh_in)

    got = {(await tokens.credential(account.pk)).token for _ in range(20)}

    assert len(got) == 1
    assert simulator.exchanges("octocat") == 1


async def test_a_clock_set_back_makes_no_token_last_longer_than_it_does(
    simulator: SimulatorThread, make_account: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = await in_database(make_account)
    first = await tokens.credential(account.pk)
    # The database's clock went back by hours; this process has seen the token since its receipt.
    await change(account, token_fetched_at=now() + timedelta(hours=3))
    real = time.monotonic
    monkeypatch.setattr(tokens, "monotonic", lambda: real() + 1600)

    assert (await tokens.credential(account.pk)).token != first.token
    assert simulator.exchanges("octocat") == 2


async def test_a_rejected_token_is_renewed_once_for_all(
    simulator: SimulatorThread, make_account: Make
) -> None:
    account = await in_database(make_account)
    first = await tokens.credential(account.pk)

    got = await asyncio.gather(
        *(tokens.renew(account.pk, reason="401", rejected=first.token) for _ in range(50))
    )
    late = await tokens.renew(account.pk, reason="401", rejected=first.token)

    assert {one.token for one in got} == {late.token}
    assert late.token != first.token
    assert simulator.exchanges("octocat") == 2


async def test_a_renewal_in_another_process_is_enough(
    simulator: SimulatorThread, make_account: Make
) -> None:
    account = await in_database(make_account)
    first = await tokens.credential(account.pk)
    await change(account, copilot_token=Secret.of("tid=theirs"))

    assert (
        await tokens.renew(account.pk, reason="401", rejected=first.token)
    ).token == "tid=theirs"
    assert simulator.exchanges("octocat") == 1


async def test_a_rejected_token_is_not_used_while_the_exchange_is_down(
    simulator: SimulatorThread, make_account: Make
) -> None:
    account = await in_database(make_account)
    first = await tokens.credential(account.pk)
    simulator.play("error_503", match={"path": EXCHANGE})

    with pytest.raises(AccountUnavailable) as caught:
        await tokens.renew(account.pk, reason="401", rejected=first.token)
    assert caught.value.code == "refresh_failed"
    await unavailable(account, "refresh_failed")

    simulator.clear()
    await change(account, refresh_not_before=None)
    assert (await tokens.credential(account.pk)).token != first.token


async def test_an_upstream_that_rejects_every_token_is_not_hammered(
    simulator: SimulatorThread, make_account: Make
) -> None:
    account = await in_database(make_account)
    got = await tokens.credential(account.pk)

    for _ in range(tokens.RENEWALS_PER_MINUTE):
        got = await tokens.renew(account.pk, reason="401", rejected=got.token)

    with pytest.raises(AccountUnavailable) as caught:
        await tokens.renew(account.pk, reason="401", rejected=got.token)
    assert caught.value.retry_after_s is not None
    assert simulator.exchanges("octocat") == tokens.RENEWALS_PER_MINUTE + 1


async def test_after_421_token_and_host_are_fetched_anew(
    simulator: SimulatorThread, make_account: Make
) -> None:
    account = await in_database(make_account)
    first = await tokens.credential(account.pk)
    simulator.add_account("octocat", host=simulator.other_url)

    second = await tokens.reread_host(account.pk, rejected=first.token)

    assert (first.base_url, second.base_url) == (simulator.url, simulator.other_url)
    assert second.token != first.token
    assert (await row(account)).api_base == simulator.other_url


async def test_t13_a_host_that_is_not_allowed_is_not_followed(
    simulator: SimulatorThread, make_account: Make
) -> None:
    account = await in_database(make_account)
    simulator.config(token_body={"endpoints": {"api": "https://evil.example"}})

    assert (await tokens.credential(account.pk)).base_url == simulator.url


async def test_three_fields_of_the_exchange_are_enough(
    simulator: SimulatorThread, make_account: Make
) -> None:
    account = await in_database(make_account)
    simulator.config(token_body_drop=["endpoints", "sku", "individual", "expires_at"])

    got = await tokens.credential(account.pk)

    assert got.base_url == simulator.url
    assert (await row(account)).token_lifetime_s == 1560


async def test_a_direct_credential_is_the_github_token_with_its_documents_host(
    simulator: SimulatorThread, make_account: Make
) -> None:
    account = await in_database(
        make_account, "opencode-dev", "gho_opencode", credential_kind="direct"
    )
    simulator.add_account("opencode-dev", host=simulator.other_url)

    got = await tokens.credential(account.pk)

    assert (got.token, got.kind) == ("gho_opencode", "direct")
    assert got.base_url == simulator.other_url
    assert simulator.received_on(EXCHANGE) == []
    stored = await row(account)
    assert not stored.copilot_token

    # Renewing cannot change the token; the host is read at most once a minute.
    for _ in range(5):
        again = await tokens.renew(account.pk, reason="401", rejected=got.token)
        assert again.token == "gho_opencode"
    assert len(simulator.received_on(DOCUMENT)) == 1


async def test_a_direct_credential_outlives_a_github_that_is_away(
    simulator: SimulatorThread, make_account: Make
) -> None:
    account = await in_database(
        make_account, "opencode-dev", "gho_opencode", credential_kind="direct"
    )
    first = await tokens.credential(account.pk)
    await age(account, 7200)
    simulator.play("error_503", match={"path": DOCUMENT})

    assert await tokens.credential(account.pk) == first


async def test_a_token_whose_exchange_is_hidden_is_sent_directly(
    simulator: SimulatorThread, make_account: Make
) -> None:
    account = await in_database(make_account)
    simulator.play("rest_error", code=404, message="Not Found")

    got = await tokens.credential(account.pk)

    assert (got.token, got.kind) == ("ghu_octocat", "direct")
    assert (await row(account)).credential_kind == "direct"


async def test_a_token_that_github_hides_everything_from_needs_another_sign_in(
    simulator: SimulatorThread, make_account: Make
) -> None:
    account = await in_database(make_account)
    simulator.add_account("octocat", refusal="hidden")

    error = await unavailable(account, "needs_sign_in")

    assert "device flow" in error.message
    assert (await row(account)).state == Account.State.NEEDS_SIGN_IN


@pytest.mark.parametrize(
    ("state", "code"), [("frozen", "frozen"), ("paused", "paused"), ("needs_sign_in",) * 2]
)
async def test_accounts_that_wait_for_a_person_give_no_credential(
    simulator: SimulatorThread, make_account: Make, state: str, code: str
) -> None:
    account = await in_database(make_account)
    await tokens.credential(account.pk)
    await change(account, state=state)
    await reload_book()

    # From memory, and without it.
    await unavailable(account, code)
    tokens.forget()
    await unavailable(account, code)


async def test_a_removed_account_gives_no_credential(
    simulator: SimulatorThread, make_account: Make
) -> None:
    account = await in_database(make_account)
    await tokens.credential(account.pk)
    await in_database(Account.objects.filter(pk=account.pk).delete)
    await reload_book()

    await unavailable(account, "no_account")


async def test_t15_accounts_never_share_a_token(
    simulator: SimulatorThread, make_account: Make
) -> None:
    octocat = await in_database(make_account)
    mona = await in_database(make_account, "mona", "ghu_mona")

    both = await asyncio.gather(tokens.credential(octocat.pk), tokens.credential(mona.pk))

    assert [one.login for one in both] == ["octocat", "mona"]
    assert both[0].token != both[1].token
    assert sorted(item.bearer for item in simulator.received_on(EXCHANGE)) == [
        "ghu_mona",
        "ghu_octocat",
    ]


def test_the_scheduled_task_refreshes_what_ends_soon_and_nothing_else(
    simulator: SimulatorThread, make_account: Make
) -> None:
    make_account()
    make_account("mona", "ghu_mona", state=Account.State.FROZEN)

    assert tokens.refresh_due() == 1
    assert tokens.refresh_due() == 0

    Account.objects.update(token_fetched_at=now() - timedelta(seconds=1400))
    tokens.forget()
    assert tokens.refresh_due() == 1
    assert simulator.exchanges("octocat") == 2
    assert simulator.exchanges("mona") == 0


def test_the_scheduled_task_survives_accounts_that_fail(
    simulator: SimulatorThread, make_account: Make
) -> None:
    make_account("noseat", "ghu_noseat")
    make_account("revoked", "ghu_revoked")
    make_account()

    assert tokens.refresh_due() == 1
    assert tokens.refresh_due() == 0
    assert len(simulator.received_on(EXCHANGE)) == 3


def test_an_administrator_may_refresh_in_spite_of_the_back_off(
    simulator: SimulatorThread, make_account: Make
) -> None:
    account = make_account(
        state=Account.State.NEEDS_SIGN_IN, refresh_not_before=now() + timedelta(minutes=10)
    )

    assert tokens.refresh_now(account.pk).token
    account.refresh_from_db()
    assert account.state == Account.State.ACTIVE

    account.state = Account.State.FROZEN
    account.save()
    with pytest.raises(AccountUnavailable):
        tokens.refresh_now(account.pk)


def test_a_failure_of_the_old_token_does_not_mark_a_new_sign_in(
    simulator: SimulatorThread, make_account: Make
) -> None:
    account = make_account("revoked", "ghu_revoked")
    claim = token_rows.begin(account.pk, token_rows.Want(), "", 0.0)
    assert isinstance(claim, token_rows.Claim)
    Account.objects.update(github_token=Secret.of("ghu_octocat"))

    refused = GitHubRefused("revoked", status=401, reason="revoked")
    token_rows.store_failure(claim, refused, None)

    account.refresh_from_db()
    assert account.state == Account.State.ACTIVE


async def test_freezing_is_seen_in_memory_at_once(
    simulator: SimulatorThread, make_account: Make
) -> None:
    account = await in_database(make_account)
    await reload_book()
    freezing = asyncio.create_task(book.freeze(account.pk, "abuse wording"))
    await asyncio.sleep(0)

    view = book.get(account.pk)
    assert view is not None
    assert view.state == Account.State.FROZEN
    await freezing
    assert (await row(account)).state == Account.State.FROZEN


async def test_a_cool_down_ends_by_itself(simulator: SimulatorThread, make_account: Make) -> None:
    account = await in_database(make_account)
    await reload_book()
    until = now() + timedelta(minutes=5)

    await book.cool_down(account.pk, until, "429")
    await book.cool_down(account.pk, until - timedelta(minutes=3), "429")

    view = book.get(account.pk)
    assert view is not None
    assert view.cooldown_until == until
    assert not view.is_available
    assert view.state_at(until) == Account.State.ACTIVE
    assert (await row(account)).state == Account.State.COOLING_DOWN

    await change(account, cooldown_until=now() - timedelta(seconds=1))
    await in_database(states.end_cooldowns)
    assert (await row(account)).state == Account.State.ACTIVE


async def test_a_limit_does_not_hide_a_graver_state(
    simulator: SimulatorThread, make_account: Make
) -> None:
    account = await in_database(make_account, state=Account.State.NEEDS_SIGN_IN)
    await reload_book()

    await book.cool_down(account.pk, now() + timedelta(minutes=5), "429")

    assert (await row(account)).state == Account.State.NEEDS_SIGN_IN
