"""Quotas: every shape GitHub has sent, polling that never hurts, and a forecast that adds up."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.cache import cache
from django.utils.timezone import now
from hypothesis import given
from hypothesis import strategies as st

from accounts import github
from accounts.encryption import Secret
from accounts.errors import GitHubRefused
from accounts.models import Account
from usage import quota, rollups
from usage.journal import Record
from usage.models import QuotaSnapshot
from usage.quota_shapes import QuotaReading, UpstreamShape, parse_quota

MakeRecord = Callable[..., Record]
AT = datetime(2026, 11, 20, 8, tzinfo=UTC)
RESET = datetime(2026, 12, 1, tzinfo=UTC)


def document(**premium: Any) -> dict[str, Any]:
    """GitHub's document with one counted quota. Source: docs/upstream.md#account-document."""
    counted = {
        "quota_id": "premium_interactions",
        "entitlement": 7000,
        "remaining": 1329,
        "quota_remaining": 1329.6,
        "percent_remaining": 19.0,
        "unlimited": False,
        "overage_count": 0,
        "overage_permitted": True,
        "overage_entitlement": 500,
        "credits_used": 5670.4,
        "has_quota": True,
        "quota_reset_at": int(RESET.timestamp()),
        "token_based_billing": True,
    }
    unlimited = {"entitlement": 0, "remaining": 0, "percent_remaining": 100.0, "unlimited": True}
    return {
        "login": "octo-dev",
        "access_type_sku": "plus_monthly_subscriber_quota",
        "analytics_tracking_id": "d41d8c",
        "copilot_plan": "individual_pro",
        "token_based_billing": True,
        "quota_reset_date": "2026-12-01",
        "quota_reset_date_utc": "2026-12-01T00:00:00.000Z",
        "quota_snapshots": {
            "chat": unlimited,
            "completions": unlimited,
            "premium_interactions": counted | premium,
        },
    }


FREE = {
    "login": "octo-free",
    "access_type_sku": "free_limited_copilot",
    "copilot_plan": "free",
    "monthly_quotas": {"chat": 50, "completions": 2000},
    "limited_user_quotas": {"chat": 12, "completions": 1800},
    "limited_user_reset_date": "2026-12-07",
}


def main(given_document: dict[str, Any]) -> QuotaReading:
    readings = {r.quota_id: r for r in parse_quota(given_document, AT)}
    return readings["premium_interactions"]


def test_a_counted_quota_is_read() -> None:
    reading = main(document())
    assert (reading.entitlement, reading.remaining) == (7000, 1329.6)
    assert (reading.percent_remaining, reading.credits_used) == (19.0, 5670.4)
    assert (reading.overage_permitted, reading.overage_entitlement) == (True, 500)
    assert (reading.reset_at, reading.at) == (RESET, AT)
    assert not reading.unlimited


def test_amounts_may_be_text() -> None:
    reading = main(document(entitlement="4000", remaining="3830", quota_remaining=None))
    assert (reading.entitlement, reading.remaining) == (4000, 3830)


@pytest.mark.parametrize("sign", [{"entitlement": -1}, {"entitlement": "-1"}, {"unlimited": True}])
def test_unlimited_is_said_in_two_ways(sign: dict[str, Any]) -> None:
    assert main(document(**sign)).unlimited


def test_what_is_overdrawn_is_negative() -> None:
    reading = main(document(remaining=-38, quota_remaining=-38.2, percent_remaining=-0.5))
    assert (reading.remaining, reading.percent_remaining) == (-38.2, -0.5)


@pytest.mark.parametrize("unknown", [0, None, "soon", -5, 10**20])
def test_an_unknown_reset_is_the_documents(unknown: Any) -> None:
    assert main(document(quota_reset_at=unknown)).reset_at == RESET
    bare = document(quota_reset_at=unknown)
    del bare["quota_reset_date"], bare["quota_reset_date_utc"]
    assert main(bare).reset_at is None


def test_the_old_free_shape_is_read() -> None:
    readings = {r.quota_id: r for r in parse_quota(FREE, AT)}
    assert (readings["chat"].entitlement, readings["chat"].remaining) == (50, 12)
    assert readings["completions"].percent_remaining == 90
    assert readings["chat"].reset_at == datetime(2026, 12, 7, tzinfo=UTC)


def test_unknown_quotas_are_kept() -> None:
    given_document = document()
    given_document["quota_snapshots"]["spark_v2"] = {"entitlement": 3, "remaining": 1}
    assert "spark_v2" in {r.quota_id for r in parse_quota(given_document, AT)}


@pytest.mark.parametrize("shape", [{}, {"quota_snapshots": None}, {"quota_snapshots": []}])
def test_a_document_without_quotas_is_said(shape: dict[str, Any]) -> None:
    with pytest.raises(UpstreamShape):
        parse_quota(shape, AT)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = st.sampled_from(sorted(document()["quota_snapshots"]["premium_interactions"]))


@given(st.dictionaries(NAMES, JSON), st.dictionaries(st.sampled_from(sorted(document())), JSON))
def test_no_document_breaks_the_reading(inner: dict[str, Any], outer: dict[str, Any]) -> None:
    try:
        readings = parse_quota(document(**inner) | outer, AT)
    except UpstreamShape:
        return
    for reading in readings:
        assert reading.reset_at is None or reading.reset_at.tzinfo is not None


# Stored


@pytest.fixture
def account(db: None) -> Account:
    return Account.objects.create(login="octo-build", github_token=Secret.of("gho_" + "x" * 20))


def test_storing_keeps_document_plan_and_history(account: Account) -> None:
    quota.store(account, document(), AT)

    account = Account.objects.get()
    assert (account.plan, account.sku) == ("individual_pro", "plus_monthly_subscriber_quota")
    assert (account.quota_reset_at, account.quota_polled_at) == (RESET, AT)
    assert "analytics_tracking_id" not in account.quota
    assert QuotaSnapshot.objects.count() == 3


def test_history_holds_changes_and_one_point_an_hour(account: Account) -> None:
    for minutes in (0, 5, 10, 61):
        quota.store(account, document(), AT + timedelta(minutes=minutes))
    quota.store(account, document(quota_remaining=1300), AT + timedelta(minutes=65))

    rows = QuotaSnapshot.objects.filter(quota_id="premium_interactions").order_by("at")
    assert [(r.at - AT).seconds // 60 for r in rows] == [0, 61, 65]


CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("counted", document(), {"used": 5670.4, "left": 1329.6, "unit": "credits"}),
    (
        "pooled",
        document(entitlement=0, remaining=0, quota_remaining=0, credits_used=169.8),
        {"used": 169.8, "left": None, "percent_used": None},
    ),
    ("pooled", document(unlimited=True, credits_used=169.8), {"used": 169.8}),
    ("unlimited", document(unlimited=True, credits_used=None), {"left": None}),
    (
        "over",
        document(quota_remaining=-38.2, overage_count=38.2),
        {"over": 38.2, "used": 7038.2, "left": 0.0, "overage_limit": 500},
    ),
    ("free", FREE, {"unit": "credits", "plan_name": "Free"}),
    (
        "counted",
        document(token_based_billing=False, entitlement=300, quota_remaining=120),
        {"unit": "requests", "used": 180, "left": 120},
    ),
    ("counted", document(has_quota=False), {"left": 1329.6}),
    ("unknown", {"copilot_plan": "individual", "quota_snapshots": {}}, {"left": None}),
]


@pytest.mark.parametrize(("kind", "said", "expected"), CASES)
def test_each_state_has_its_summary(
    kind: str, said: dict[str, Any], expected: dict[str, Any], account: Account
) -> None:
    quota.store(account, said)

    shown = quota.summary(Account.objects.get())

    assert shown.kind == kind
    for name, value in expected.items():
        actual = getattr(shown, name)
        assert actual == (pytest.approx(value) if isinstance(value, float) else value), name
    assert not shown.is_stale


def test_an_account_that_was_never_read_has_a_summary(account: Account) -> None:
    shown = quota.summary(account)
    assert (shown.kind, shown.is_stale, shown.forecast) == ("unknown", True, None)
    assert quota.seed_usage_json(account)["quota_snapshots"]["chat"]["entitlement"] == 0


def test_the_seeds_json_is_githubs_document(account: Account) -> None:
    quota.store(account, document())
    answer = quota.seed_usage_json(account)
    assert answer["access_type_sku"] == "plus_monthly_subscriber_quota"
    assert answer["copilot_plan"] == "individual_pro"
    assert answer["quota_reset_date"] == "2026-12-01"
    assert answer["quota_snapshots"] == document()["quota_snapshots"]

    quota.store(account, FREE)
    snapshots = quota.seed_usage_json(account)["quota_snapshots"]
    assert (snapshots["chat"]["entitlement"], snapshots["chat"]["remaining"]) == (50, 12)
    assert snapshots["premium_interactions"]["percent_remaining"] == 0


# Readings from answers


def said(**values: Any) -> Any:
    fields = (
        "entitlement", "remaining", "percent_remaining", "overage", "overage_permitted",
        "resets_at",
    )  # fmt: skip
    return SimpleNamespace(**(dict.fromkeys(fields) | {"unlimited": False} | values))


def test_answers_keep_the_figures_fresh_between_polls(account: Account) -> None:
    quota.store(account, document(), now() - timedelta(minutes=4))
    later = now() + timedelta(hours=2)
    quota.from_headers(
        account.pk,
        {
            "premium_interactions": said(
                entitlement=7000.0, remaining=1200.0, percent_remaining=17.1, overage_permitted=True
            ),
            "session": said(percent_remaining=40.0, resets_at=later),
            "weekly": said(percent_remaining=90.0, resets_at=now() - timedelta(minutes=1)),
        },
    )
    quota.store_heard()
    quota.store_heard()

    assert QuotaSnapshot.objects.filter(source="header").count() == 3
    shown = quota.summary(Account.objects.get())
    assert (shown.left, shown.entitlement) == (1200.0, 7000)
    assert [(w.quota_id, w.percent_remaining) for w in shown.windows] == [("session", 40.0)]


# Polling


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What GitHub says next; an exception is raised. A list of those who asked is left behind."""
    queue: list[Any] = []

    async def account_document(token: str, *, host: str = "github.com") -> Any:
        answer = queue.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return await answer if isinstance(answer, Awaitable) else answer

    monkeypatch.setattr(github, "account_document", account_document)
    return queue


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "failure",
    [
        GitHubRefused("GitHub is down.", status=503),
        GitHubRefused("Slow down.", status=429, retry_after_s=600),
        {"message": "nothing of use"},
        ["a list"],
        TimeoutError(),
    ],
)
def test_t08_a_failing_poll_keeps_the_last_values_and_waits(
    failure: Any, answers: list[Any]
) -> None:
    account = Account.objects.create(login="octo", github_token=Secret.of("gho_" + "x" * 20))
    quota.store(account, document(), AT)
    assert [a.pk for a in quota.due_accounts(now())] == [account.pk]
    answers.append(failure)

    assert quota.poll_due() == 1

    account.refresh_from_db()
    shown = quota.summary(account)
    assert account.quota_error
    assert "gho_" not in account.quota_error
    assert (shown.left, shown.polled_at, shown.plan_name) == (1329.6, AT, "Pro+")
    assert quota.due_accounts(now()) == []
    assert [a.pk for a in quota.due_accounts(now() + timedelta(minutes=15))] == [account.pk]

    cache.clear()
    answers.append(document(quota_remaining=1000))
    assert quota.poll_due() == 1
    account.refresh_from_db()
    assert (quota.summary(account).left, account.quota_error) == (1000, "")


@pytest.mark.django_db(transaction=True)
def test_two_workers_ask_once(answers: list[Any]) -> None:
    Account.objects.create(login="octo", github_token=Secret.of("gho_" + "x" * 20))
    answers.append(document())
    assert quota.poll_due() == 1
    Account.objects.update(quota_polled_at=None)
    assert quota.poll_due() == 0


@pytest.mark.django_db(transaction=True)
def test_t08_a_hanging_github_is_left_in_time(
    answers: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota, "POLL_TIMEOUT_S", 0.05)
    account = Account.objects.create(login="octo", github_token=Secret.of("gho_" + "x" * 20))
    answers.append(asyncio.sleep(60))
    assert asyncio.run(quota.poll_account(account)) is False
    account.refresh_from_db()
    assert "10 s" in account.quota_error


def test_accounts_that_wait_for_a_person_are_not_asked(db: None) -> None:
    for state in Account.State:
        Account.objects.create(login=state.value, state=state)
    asked = {a.login for a in quota.due_accounts(now())}
    assert asked == {"active", "cooling_down", "no_seat"}


# Forecast


def snapshots(account_id: int, *points: tuple[float, float], reset_at: datetime | None) -> None:
    """(days ago, remaining) of a quota of 7000."""
    for days, remaining in points:
        QuotaSnapshot.objects.create(
            account_id=account_id,
            quota_id="premium_interactions",
            at=now() - timedelta(days=days),
            entitlement=7000,
            remaining=remaining,
            reset_at=reset_at,
        )


@pytest.mark.django_db
@pytest.mark.parametrize(("reset_in", "lasts"), [(3, True), (10, False)])
def test_the_pace_of_the_last_days_says_when_it_ends(reset_in: int, lasts: bool) -> None:
    snapshots(1, (5, 2000), (2, 900), (0, 1000), reset_at=now() + timedelta(days=reset_in))
    found = quota.forecast(1)
    assert found is not None
    assert found.per_day == pytest.approx(200, rel=0.01)
    assert found.runs_out_at is not None
    assert abs(found.runs_out_at - now() - timedelta(days=5)) < timedelta(hours=1)
    assert (found.lasts, found.method) == (lasts, "snapshots")


@pytest.mark.django_db
def test_a_reset_begins_a_new_line() -> None:
    snapshots(1, (6, 300), (5, 10), (4, 7000), (0, 6600), reset_at=now() + timedelta(days=26))
    found = quota.forecast(1)
    assert found is not None
    assert found.per_day == pytest.approx(100, rel=0.01)
    assert found.lasts


@pytest.mark.django_db
def test_without_history_our_own_records_give_the_pace(make_record: MakeRecord) -> None:
    snapshots(3, (0, 1000), reset_at=now() + timedelta(days=20))
    rollups.add([make_record(started_at=now() - timedelta(days=2), nano_aiu=400 * 10**9)])
    found = quota.forecast(3)
    assert found is not None
    assert found.method == "records"
    assert found.per_day == pytest.approx(200, rel=0.05)


@pytest.mark.django_db
def test_what_is_not_used_lasts_and_what_is_not_counted_has_no_forecast() -> None:
    snapshots(1, (3, 500), (0, 500), reset_at=None)
    found = quota.forecast(1)
    assert found is not None
    assert (found.lasts, found.runs_out_at) == (True, None)
    assert quota.forecast(2) is None
    QuotaSnapshot.objects.create(account_id=2, quota_id="premium_interactions", unlimited=True)
    assert quota.forecast(2) is None
