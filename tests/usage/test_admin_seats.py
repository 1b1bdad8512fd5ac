"""The admin of accounts and keys: state, quota and use in lists, acts that are asked and audited."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils.timezone import localdate, now

from accounts import keys, states
from accounts.encryption import Secret
from accounts.models import Account, ApiKey, AuditEntry, Member, Pool
from copilot_site import celery
from usage.models import QuotaSnapshot, Rollup, UsageRecord

# The app of this process: without it a task goes to Celery's default broker.
assert celery.app.conf.broker_url == "memory://"
State = Account.State


@pytest.fixture(autouse=True)
def _plain_static_files(settings: Any, tmp_path: Path) -> Iterator[None]:
    settings.STATIC_ROOT = tmp_path
    yield
    cache.clear()


@pytest.fixture
def ada(db: None) -> Member:
    return Member.objects.create_superuser("ada")


@pytest.fixture
def ben(db: None) -> Member:
    return Member.objects.create_user("ben")


@pytest.fixture
def browser(ada: Member) -> Client:
    client = Client()
    client.force_login(ada)
    return client


def account(login: str = "octocat", **values: Any) -> Account:
    row = Account(login=login, token_kind="ghu", **values)
    row.github_token = Secret.of("ghu_octocat")
    row.save()
    return row


def address(model: type, name: str = "changelist", *args: object) -> str:
    return reverse(f"admin:accounts_{model.__name__.lower()}_{name}", args=args)


def act(browser: Client, action: str, *rows: Any, **data: Any) -> str:
    """Run a list action on the rows and say yes; what the administrator then reads."""
    chosen = [str(row.pk) for row in rows]
    sent = {"action": action, "_selected_action": chosen, "confirmed": "yes", **data}
    answer = browser.post(address(type(rows[0])), sent, follow=True)
    assert answer.status_code == 200
    return "\n".join(str(message) for message in answer.context["messages"])


def actions(target: Any) -> list[str]:
    rows = AuditEntry.objects.filter(actor="ada", target=str(target)).order_by("pk")
    return list(rows.values_list("action", flat=True))


# Accounts.


@pytest.mark.parametrize(
    ("snapshot", "words"),
    [
        ({"entitlement": 7000, "remaining": 1750}, "25 % left, 1,750.0 of 7,000"),
        ({"entitlement": 7000, "remaining": -3}, "0 % left"),
        ({"unlimited": True}, "unlimited"),
        ({"entitlement": 0, "unlimited": False, "credits_used": 169.8}, "pooled, 169.8 used"),
    ],
)
def test_the_list_says_state_quota_token_and_error(
    browser: Client, ben: Member, snapshot: dict[str, Any], words: str
) -> None:
    account(
        owner=ben,
        plan="business",
        state=State.COOLING_DOWN,
        cooldown_until=now() + timedelta(minutes=10, seconds=30),
        state_reason="rate limited",
        quota={"quota_snapshots": {"premium_interactions": snapshot}},
        token_fetched_at=now(),
        token_lifetime_s=1530,
    )

    text = browser.get(address(Account)).content.decode().replace("\xa0", " ")

    for one in ("octocat", "ben", "Business", "10 minutes left", "in 25 minutes", "rate limited"):
        assert one in text
    assert words in text


def test_what_asks_github_runs_as_a_task_that_is_named(browser: Client) -> None:
    row, frozen = account(), account("hubot", state=State.FROZEN)

    assert "octocat: task " in act(browser, "refresh_now", row)
    assert "octocat: task " in act(browser, "poll_now", row)
    assert "It is frozen" in act(browser, "poll_now", frozen)
    assert actions(row) == ["account.refresh_asked", "account.poll_asked"]
    # The same from the account's own page: a form, not a link.
    url = address(Account, "poll_now", row.pk)
    assert browser.get(url).status_code == 200
    assert len(actions(row)) == 2
    said = browser.post(url, follow=True)
    assert "octocat: task " in str([str(m) for m in said.context["messages"]])


def test_states_change_as_people_may_change_them(browser: Client) -> None:
    row = account()

    assert "octocat: Paused." in act(browser, "pause", row)
    # Releasing the frozen does not resume the paused.
    assert "It is not frozen." in act(browser, "unfreeze", row)
    row.refresh_from_db()
    assert row.state == State.PAUSED
    act(browser, "resume", row)
    states.set_state(row, State.FROZEN, "abuse wording")
    assert "It is frozen" in act(browser, "pause", row)
    assert "It is not paused" in act(browser, "resume", row)
    asked = browser.post(
        address(Account), {"action": "unfreeze", "_selected_action": [str(row.pk)]}
    )
    assert "abuse wording" in asked.content.decode()
    row.refresh_from_db()
    assert row.state == State.FROZEN
    act(browser, "unfreeze", row)
    row.refresh_from_db()
    assert row.state == State.ACTIVE

    written = AuditEntry.objects.filter(actor="ada").values_list("action", "address")
    assert set(written) == {("account.paused", "127.0.0.1"), ("account.active", "127.0.0.1")}


def test_signing_in_again_leads_to_the_connect_page(browser: Client) -> None:
    row = account(account_type="business")
    url = address(Account, "sign_in_again", row.pk)

    assert browser.get(url).status_code == 200
    assert browser.post(url)["Location"] == f"{reverse('connect')}?new=1&type=business"


def test_only_seats_of_nobody_are_pooled(browser: Client, ben: Member) -> None:
    pool = Pool.objects.create(name="build")
    mine, ours = account("mine", owner=ben), account("ours")

    said = act(browser, "into_pool", mine, ours, pool=pool.pk, weight="3")

    assert "mine belongs to ben" in said
    assert "ours: in the pool build." in said
    assert list(pool.accounts.values_list("login", "weight")) == [("ours", 3)]
    act(browser, "out_of_pool", ours)
    assert not pool.accounts.exists()


def test_the_form_changes_only_what_people_decide(
    browser: Client, ada: Member, ben: Member
) -> None:
    row = account()
    sent = {
        "owner": ben.pk, "account_type": "business", "weight": "2", "state": "frozen",
        "api_base": "https://evil.example", "github_token": "ghu_evil", "budget_day": "3",
        "budget_warn_percent": "80",
    }  # fmt: skip

    assert browser.post(address(Account, "change", row.pk), sent).status_code == 302

    row.refresh_from_db()
    assert (row.owner_id, row.account_type, row.weight) == (ben.pk, "business", 2)
    assert (row.state, row.api_base) == (State.ACTIVE, "")
    assert row.github_token.reveal() == "ghu_octocat"
    assert row.budget_day_nano_aiu == 3 * 10**9
    assert actions(row) == ["account.changed"]
    # Whose it is, it stays.
    browser.post(address(Account, "change", row.pk), {**sent, "owner": ada.pk})
    row.refresh_from_db()
    assert row.owner_id == ben.pk


def test_the_page_shows_use_and_quota_twenty_at_a_time(browser: Client) -> None:
    row, other = account(), account("hubot")
    for number in range(45):
        UsageRecord.objects.create(
            id=f"mine-{number:02d}", started_at=now() - timedelta(hours=number),
            outcome="completed", source="messages", account_id=row.pk, model_used=f"model-{number:02d}",
        )  # fmt: skip
        QuotaSnapshot.objects.create(
            account_id=row.pk, quota_id="premium_interactions", remaining=7000 - number,
            at=now() - timedelta(hours=number),
        )  # fmt: skip
    UsageRecord.objects.create(
        id="theirs", started_at=now(), outcome="completed", source="messages", account_id=other.pk
    )
    url = address(Account, "change", row.pk)

    first = browser.get(url).content.decode()
    last = browser.get(url, {"exchanges": "3"}).content.decode()

    assert [f"mine-{n:02d}/" in first for n in (0, 19, 20)] == [True, True, False]
    assert "theirs/" not in first
    assert [f"mine-{n:02d}/" in last for n in (39, 40, 44)] == [False, True, True]
    assert "6,981.0" in first
    assert "6,980.0" not in first
    for odd in ("0", "-1", "x", "99999", "٣"):
        assert browser.get(url, {"exchanges": odd}).status_code == 200


def test_deleting_an_account_forgets_it_and_is_written_down(browser: Client) -> None:
    row = account()

    browser.post(address(Account, "delete", row.pk), {"post": "yes"})

    assert not Account.objects.exists()
    assert actions("octocat") == ["account.deleted"]


# Keys.


def test_revoking_asks_names_and_is_written_down(browser: Client, ben: Member) -> None:
    key, _ = keys.create("laptop", ben)
    chosen = {"action": "revoke", "_selected_action": [str(key.pk)]}

    asked = browser.post(address(ApiKey), chosen).content.decode()
    assert str(key) in asked
    assert ApiKey.objects.get().state == "active"

    assert f"{key}: revoked." in act(browser, "revoke", key)
    assert "revoked before" in act(browser, "revoke", key)
    assert ApiKey.objects.get().state == "revoked"
    entry = AuditEntry.objects.get(action="key.revoked")
    assert (entry.actor, entry.address) == ("ada", "127.0.0.1")


def test_a_rotated_key_shows_its_secret_once(browser: Client, ben: Member) -> None:
    key, _ = keys.create("laptop", ben, requests_per_minute=7)
    url = address(ApiKey, "rotate", key.pk)

    assert "cgw_" in browser.get(url).content.decode()
    shown = browser.post(url, {"grace_h": "1"})

    new = ApiKey.objects.exclude(pk=key.pk).get()
    secret = shown.content.decode().split("<output", 1)[1].split(">", 1)[1].split("<", 1)[0]
    assert secret.startswith(new.prefix)
    assert keys.digest_of(secret) == bytes(new.digest)
    assert "no-store" in shown["Cache-Control"]
    assert secret not in browser.get(address(ApiKey, "change", new.pk)).content.decode()
    assert (new.requests_per_minute, new.replaces_id) == (7, key.pk)
    key.refresh_from_db()
    assert key.expires_at is not None
    assert key.expires_at < now() + timedelta(hours=2)
    assert "key.rotated" in actions(key)
    assert browser.post(url, {"grace_h": "5"}).context["form"].errors
    assert "exactly one" in act(browser, "rotate", key, new, grace_h="1")


def test_keys_are_extended_and_take_limits_over(browser: Client, ben: Member) -> None:
    source, _ = keys.create("model", ben, requests_per_minute=9, budget_day_nano_aiu=10**9)
    one, _ = keys.create("one", ben)
    two, _ = keys.create("two", ben)
    revoked, _ = keys.create("gone", ben)
    keys.revoke(revoked, actor="ada")
    day = localdate() + timedelta(days=30)

    assert (
        "has passed"
        in browser.post(
            address(ApiKey, "extend", one.pk), {"last_day": "2020-01-01"}
        ).content.decode()
    )
    said = act(browser, "extend", one, two, revoked, last_day=f"{day}")
    assert said.count("works until") == 2
    assert "revoked; make a new one" in said
    said = act(browser, "copy_limits", one, two, source, source=source.pk)
    assert "These are its own limits." in said

    rows = ApiKey.objects.filter(pk__in=(one.pk, two.pk))
    assert set(rows.values_list("requests_per_minute", "budget_day_nano_aiu")) == {(9, 10**9)}
    assert all(row.expires_at and row.expires_at > now() + timedelta(days=29) for row in rows)


def test_a_key_gets_nobody_elses_seat(browser: Client, ada: Member, ben: Member) -> None:
    key, _ = keys.create("laptop", ben)
    theirs, mine, pool = (
        account("theirs", owner=ada),
        account("mine", owner=ben),
        Pool.objects.create(name="b"),
    )
    url = address(ApiKey, "change", key.pk)
    sent = {"name": "desk", "lane": "batch", "budget_warn_percent": "80"}

    assert browser.post(url, {**sent, "account": theirs.pk}).status_code == 200
    assert browser.post(url, {**sent, "account": mine.pk, "pool": pool.pk}).status_code == 200
    key.refresh_from_db()
    assert key.name == "laptop"
    assert browser.post(url, {**sent, "account": mine.pk}).status_code == 302
    key.refresh_from_db()
    assert (key.name, key.lane, key.account_id) == ("desk", "batch", mine.pk)


def test_thirty_days_of_a_key_are_on_its_page(browser: Client, ben: Member) -> None:
    key, _ = keys.create("laptop", ben)
    hour = now().replace(minute=0, second=0, microsecond=0)
    for days, nano in ((0, 2), (1, 3), (29, 5), (40, 90)):
        Rollup.objects.create(
            hour=hour - timedelta(days=days), key_id=key.pk, outcome="completed",
            requests=1, nano_aiu=nano * 10**9,
        )  # fmt: skip

    text = browser.get(address(ApiKey, "change", key.pk)).content.decode()

    assert f"{hour:%Y-%m-%d}" in text
    assert "10.00" in text
    assert "90.00" not in text
