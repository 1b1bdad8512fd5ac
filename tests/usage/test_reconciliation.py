"""Reconciliation: what GitHub counted, what we recorded, and the rest; honest where polls are missing."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from accounts.models import Account
from proxy.models import Catalog
from usage import reconciliation
from usage.models import QuotaSnapshot, Reconciliation, UsageRecord

pytestmark = pytest.mark.django_db
DAY = date(2026, 11, 19)
NANO = 10**9
RESET = datetime(2026, 12, 1, tzinfo=UTC)
_count = iter(range(10**6))


@pytest.fixture
def account() -> Account:
    return Account.objects.create(login="mona-dev")


def at(text: str, day: date = DAY) -> datetime:
    return datetime.combine(day, datetime.strptime(text, "%H:%M").time(), UTC)


def poll(account: Account, moment: datetime, remaining: float | None, **values: Any) -> None:
    QuotaSnapshot.objects.create(
        account_id=account.pk,
        quota_id="premium_interactions",
        at=moment,
        remaining=remaining,
        **({"entitlement": 1000.0, "reset_at": RESET} | values),
    )


def used(account: Account, ended: datetime, nano: int, **values: Any) -> None:
    UsageRecord.objects.create(
        **{
            "id": f"r{next(_count)}",
            "started_at": ended - timedelta(seconds=30),
            "finished_at": ended,
            "outcome": "completed",
            "source": "messages",
            "upstream_status": 200,
            "account_id": account.pk,
            "model_used": "claude-opus-5",
            "nano_aiu": nano,
            "cost_source": "exact",
        }
        | values
    )


def reconciled(account: Account, day: date = DAY) -> Reconciliation:
    reconciliation.reconcile_day(account, day)
    return Reconciliation.objects.get(account_id=account.pk, day=day)


def test_the_rest_is_what_our_records_do_not_explain(account: Account) -> None:
    poll(account, at("00:00"), 900)
    poll(account, at("12:00"), 850)
    poll(account, at("23:58"), 840)
    used(account, at("10:00"), 40 * NANO)
    used(account, at("11:00"), 5 * NANO, cost_source="estimated")
    used(account, at("10:00", DAY - timedelta(days=1)), 99 * NANO)

    row = reconciled(account)

    assert row.quota_nano_aiu == 60 * NANO
    assert row.recorded_nano_aiu == 45 * NANO
    assert row.estimated_nano_aiu == 5 * NANO
    assert row.unexplained_nano_aiu == 15 * NANO
    assert row.note == ""


def test_days_share_their_edge_so_that_nothing_falls_between(account: Account) -> None:
    for hours in range(0, 50, 1):
        moment = at("00:00") - timedelta(minutes=17) + timedelta(hours=hours)
        poll(account, moment, 900 - hours)
        used(account, moment + timedelta(minutes=3), NANO)
    first, second = reconciled(account), reconciled(account, DAY + timedelta(days=1))
    assert first.until == second.since
    assert first.unexplained_nano_aiu == second.unexplained_nano_aiu == 0


def test_a_reset_in_the_day_is_no_gift(account: Account) -> None:
    poll(account, at("00:00"), 100, reset_at=at("12:00"))
    poll(account, at("11:55"), 40, reset_at=at("12:00"))
    poll(account, at("12:05"), 990)
    poll(account, at("23:59"), 980)
    row = reconciled(account)
    assert row.quota_nano_aiu == 80 * NANO
    assert "reset between 11:55 and 12:05" in row.note


def test_overage_goes_on_counting(account: Account) -> None:
    poll(account, at("00:00"), 10, overage_permitted=True)
    poll(account, at("12:00"), 0, overage_count=30.0, overage_permitted=True)
    poll(account, at("23:59"), -45.5, overage_count=45.5, overage_permitted=True)
    assert reconciled(account).quota_nano_aiu == 55_500_000_000


def test_more_credits_bought_are_no_use(account: Account) -> None:
    poll(account, at("00:00"), 900, credits_used=100.0)
    poll(account, at("12:00"), 1890, entitlement=2000.0, credits_used=110.0)
    poll(account, at("23:59"), 1880, entitlement=2000.0, credits_used=120.0)
    row = reconciled(account)
    assert row.quota_nano_aiu == 20 * NANO
    assert "entitlement went from 1,000 to 2,000" in row.note


def test_a_seat_of_a_pool_counts_what_went_through_it(account: Account) -> None:
    poll(account, at("00:00"), 0, entitlement=0.0, credits_used=169.8)
    poll(account, at("23:59"), 0, entitlement=0.0, credits_used=179.8)
    assert reconciled(account).quota_nano_aiu == 10 * NANO


def test_missing_polls_make_no_figure(account: Account) -> None:
    poll(account, at("00:00"), 900)
    poll(account, at("12:00"), 850)
    used(account, at("10:00"), 40 * NANO)
    row = reconciled(account)
    assert row.quota_nano_aiu is None
    assert row.unexplained_nano_aiu is None
    assert "no poll within two hours of the day's end" in row.note


def test_what_is_unlimited_is_not_reconciled(account: Account) -> None:
    poll(account, at("00:00"), None, unlimited=True, entitlement=None)
    assert reconciliation.reconcile_day(account, DAY) == 0


def test_done_again_it_takes_late_records_in_and_makes_no_second_row(account: Account) -> None:
    poll(account, at("00:00"), 900)
    poll(account, at("23:59"), 890)
    today = at("04:00", DAY + timedelta(days=1))
    reconciliation.reconcile(today)
    assert Reconciliation.objects.get(day=DAY).unexplained_nano_aiu == 10 * NANO
    used(account, at("10:00"), 10 * NANO)

    reconciliation.reconcile(today)

    assert Reconciliation.objects.get(day=DAY).unexplained_nano_aiu == 0


def test_old_contracts_are_counted_in_requests_by_multiplier(account: Account) -> None:
    Account.objects.update(token_based_billing=False)
    Catalog.objects.create(
        account=account,
        entries=[
            {"id": "claude-opus-5", "billing": {"is_premium": True, "multiplier": 7.5}},
            {"id": "gpt-5-mini", "billing": {"is_premium": False, "multiplier": 0}},
        ],
    )
    account.refresh_from_db()
    poll(account, at("00:00"), 300, entitlement=300.0)
    poll(account, at("23:59"), 284, entitlement=300.0)
    used(account, at("10:00"), 0, initiator="user")
    used(account, at("10:01"), 0, initiator="agent")
    used(account, at("10:02"), 0, initiator="user", model_used="gpt-5-mini")
    used(account, at("10:03"), 0, initiator="user", upstream_status=500)
    used(account, at("10:04"), 0, initiator="user")

    row = reconciled(account)

    assert row.unit == "requests"
    assert row.recorded_nano_aiu == 15 * NANO
    assert row.unexplained_nano_aiu == NANO
    assert "premium requests" in row.note
