"""What is told by itself: budgets, quotas, accounts in trouble, unusual use, tasks, approvals."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils.timezone import now

from accounts import keys
from accounts.models import Account, BudgetRaise, Member, Team
from proxy import waiting
from proxy.models import Approval
from usage import outlooks, quota, rollups, tasks, thresholds, troubles, unusual, watching
from usage.journal import Record
from usage.models import Notification, QuotaSnapshot, TaskRun, UsageRecord

pytestmark = pytest.mark.django_db
NANO = 10**9
AT = datetime(2026, 11, 20, 10, 20, tzinfo=UTC)


@pytest.fixture
def ben() -> Member:
    return Member.objects.create_user("ben", "ben@example.org", "x")


@pytest.fixture(autouse=True)
def own_journal(settings: Any, tmp_path: Path) -> None:
    settings.JOURNAL_DIR = tmp_path / "journal"


def spent(nano: int, hour: datetime = AT, **values: Any) -> None:
    values = {"model_used": "m", **values}
    rollups.add([Record(id="", started_at=hour, outcome="completed", nano_aiu=nano, **values)])


def told(event: str) -> list[str]:
    return list(
        Notification.objects.filter(event=event).order_by("pk").values_list("title", flat=True)
    )


def test_a_budget_is_told_at_each_threshold_once(ben: Member) -> None:
    key, _secret = keys.create("laptop", ben, budget_day_nano_aiu=100 * NANO)
    steps = [(49, None), (2, 50), (30, 80), (1, None), (13, 95), (10, 100), (50, None)]
    for number, (credits, threshold) in enumerate(steps):
        before = Notification.objects.count()
        spent(credits * NANO, key_id=key.pk, model_used=f"m{number}")
        thresholds.budgets(AT)
        thresholds.budgets(AT)
        assert Notification.objects.count() - before == (threshold is not None)
        if threshold:
            assert f"{threshold} % of the budget of the day" in told("budget")[-1]
    last = Notification.objects.latest("pk")
    assert last.member_id == ben.pk
    assert "refused until 2026-11-21 00:00 UTC" in last.text


def test_of_thresholds_passed_at_once_only_the_highest_is_told(ben: Member) -> None:
    team = Team.objects.create(name="octo", budget_month_nano_aiu=100 * NANO, budget_is_hard=False)
    spent(97 * NANO, hour=AT.replace(day=2), team_id=team.pk)
    assert thresholds.budgets(AT) == 1
    assert told("budget") == ["Team 'octo': 95 % of the budget of the month is spent"]
    notice = Notification.objects.get()
    assert notice.team_id == team.pk
    assert "only warns" in notice.text


def test_periods_begin_in_utc_and_weeks_on_monday(ben: Member) -> None:
    Member.objects.update(budget_day_nano_aiu=100, budget_week_nano_aiu=100)
    spent(90, hour=datetime(2026, 11, 15, 23, tzinfo=UTC), member_id=ben.pk)
    assert thresholds.budgets(AT) == 0
    spent(90, hour=datetime(2026, 11, 16, 0, tzinfo=UTC), member_id=ben.pk)
    assert thresholds.budgets(AT) == 1
    assert "of the week" in told("budget")[0]


def test_a_raise_makes_the_thresholds_anew(ben: Member) -> None:
    Member.objects.update(budget_day_nano_aiu=100, budget_warn_percent=70)
    spent(72, member_id=ben.pk)
    thresholds.budgets(AT)
    assert "70 %" in told("budget")[0]
    BudgetRaise.objects.create(
        member=ben, period="day", extra_nano_aiu=100, reason="x", granted_by="ada",
        ends_at=AT + timedelta(days=1),
    )  # fmt: skip
    assert thresholds.budgets(AT) == 0
    spent(30, member_id=ben.pk, model_used="n")
    assert thresholds.budgets(AT) == 1
    assert "50 %" in told("budget")[1]


def document(remaining: float) -> dict[str, Any]:
    return {
        "copilot_plan": "individual_pro",
        "quota_reset_date_utc": "2099-12-01T00:00:00Z",
        "quota_snapshots": {
            "premium_interactions": {
                "quota_id": "premium_interactions",
                "entitlement": 1000,
                "remaining": remaining,
                "quota_remaining": remaining,
                "percent_remaining": remaining / 10,
            }
        },
    }


def test_a_quota_is_told_to_its_owner(ben: Member) -> None:
    account = Account.objects.create(login="mona-dev", owner=ben)
    for remaining, expected in ((600, 0), (450, 1), (440, 0), (190, 1), (-3, 1)):
        quota.store(account, document(remaining))
        assert thresholds.quotas(now()) == expected
    assert [t.split(": ")[1] for t in told("quota")] == [
        "50 % of the quota is used",
        "80 % of the quota is used",
        "100 % of the quota is used",
    ]
    assert set(Notification.objects.values_list("member_id", flat=True)) == {ben.pk}


def test_a_five_hour_limit_is_told() -> None:
    account = Account.objects.create(login="mona-dev")
    quota.store(account, document(1000))
    QuotaSnapshot.objects.create(
        account_id=account.pk, quota_id="session", percent_remaining=3.0, source="header",
        entitlement=100, remaining=3, reset_at=now() + timedelta(hours=2),
    )  # fmt: skip
    assert thresholds.quotas(now()) == 1
    assert "95 % of its five-hour limit" in told("quota")[0]


@pytest.mark.parametrize(
    ("state", "event"),
    [
        ("frozen", "account_frozen"),
        ("needs_sign_in", "account_sign_in"),
        ("no_seat", "account_sign_in"),
        ("paused", None),
        ("active", None),
    ],
)
def test_an_account_in_trouble_is_told_once(state: str, event: str | None) -> None:
    Account.objects.create(login="mona-dev", state=state, state_reason="terms", state_changed_at=AT)
    assert troubles.accounts(AT) == (event is not None)
    assert troubles.accounts(AT + timedelta(days=1)) == 0
    if event:
        assert "terms" in Notification.objects.get(event=event).text


def test_only_a_long_cool_down_is_told() -> None:
    account = Account.objects.create(
        login="m",
        state="cooling_down",
        state_changed_at=AT,
        cooldown_until=AT + timedelta(minutes=5),
    )
    assert troubles.accounts(AT) == 0
    account.cooldown_until = AT + timedelta(hours=3)
    account.save()
    assert troubles.accounts(AT) == 1
    assert "2026-11-20 13:20 UTC" in Notification.objects.get().text


def test_a_token_that_fails_three_times_is_told() -> None:
    account = Account.objects.create(login="m", refresh_failures=2, refresh_error="timed out")
    assert troubles.accounts(AT) == 0
    Account.objects.filter(pk=account.pk).update(refresh_failures=3)
    assert troubles.accounts(AT) == 1
    assert "timed out" in Notification.objects.get(event="refresh_failing").text


def test_a_task_that_failed_or_is_late_is_told_once_a_day() -> None:
    def run(name: str, **values: Any) -> None:
        TaskRun.objects.create(
            **({"name": name, "started_at": AT - timedelta(hours=1), "succeeded": True} | values)
        )

    run("good", next_at=AT + timedelta(minutes=1))
    run("healed", succeeded=False, started_at=AT - timedelta(hours=2))
    run("healed")
    run("failed", succeeded=False, result="boom")
    run("late", next_at=AT - timedelta(minutes=30))
    assert troubles.tasks(AT) == 2
    assert troubles.tasks(AT) == 0
    assert told("task") == ["Background task failed has failed", "Background task late is late"]


def test_a_journal_that_cannot_be_written_is_told(settings: Any, tmp_path: Path) -> None:
    assert troubles.journal(AT) == 0
    assert list(settings.JOURNAL_DIR.iterdir()) == []
    (tmp_path / "file").write_text("")
    settings.JOURNAL_DIR = tmp_path / "file" / "journal"
    assert troubles.journal(AT) == 1


def pattern(subject: int, credits: float, hours: int = 60) -> None:
    for number in range(hours):
        spent(
            int(credits * NANO) + number % 3,
            hour=AT - timedelta(hours=number * 4 + 3),
            member_id=subject,
        )


def test_an_hour_far_above_its_own_pattern_is_told_once_a_day(ben: Member) -> None:
    pattern(ben.pk, 5)
    spent(19 * NANO, member_id=ben.pk, model_used="a")
    assert unusual.look(AT) == 0
    spent(30 * NANO, member_id=ben.pk, model_used="b")
    assert unusual.look(AT) == 1
    assert unusual.look(AT) == 0
    assert "usual are 5" in Notification.objects.get().text


def test_heavy_use_that_is_usual_is_not_told(ben: Member) -> None:
    pattern(ben.pk, 40)
    spent(90 * NANO, member_id=ben.pk, model_used="a")
    assert unusual.look(AT) == 0


def test_without_a_pattern_nothing_is_unusual(ben: Member) -> None:
    pattern(ben.pk, 1, hours=unusual.ENOUGH_HOURS - 1)
    spent(900 * NANO, member_id=ben.pk, model_used="a")
    assert unusual.look(AT) == 0


def test_approvals_that_wait_for_a_minute_are_told_together() -> None:
    def ask(name: str, seconds: int) -> None:
        Approval.objects.create(
            id=name, opened_at=AT - timedelta(seconds=seconds), expires_at=AT + timedelta(minutes=1),
            member="fatima", model="gpt-5.4", rule="more than 20 credits",
        )  # fmt: skip

    ask("a", 30)
    assert waiting.approvals(AT) == 0
    ask("b", 70)
    ask("c", 80)
    assert waiting.approvals(AT) == 1
    assert waiting.approvals(AT) == 0
    assert told("approvals") == ["2 requests wait for an approval"]


def test_a_quota_that_ends_before_its_reset_is_told_once() -> None:
    account = Account.objects.create(login="mona-dev")
    at = now()
    for days, remaining in ((3, 900.0), (2, 600.0), (1, 300.0)):
        QuotaSnapshot.objects.create(
            account_id=account.pk, quota_id="premium_interactions", entitlement=1000.0,
            remaining=remaining, at=at - timedelta(days=days), reset_at=at + timedelta(days=20),
        )  # fmt: skip
    quota.store(
        account, document(100) | {"quota_reset_date_utc": (at + timedelta(days=20)).isoformat()}
    )
    assert outlooks.tell(at) == 1
    assert outlooks.tell(at) == 0
    assert "end before the reset" in told("forecast")[0]


def test_a_budget_that_the_month_will_pass_is_told(
    ben: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, _secret = keys.create("ci", ben, budget_month_nano_aiu=400 * NANO)
    monkeypatch.setattr("usage.forecasts.now", lambda: AT)
    for day in range(7):
        UsageRecord.objects.create(
            id=f"f{day}", started_at=AT - timedelta(days=day, hours=2), outcome="completed",
            source="messages", key_id=key.pk, member_id=ben.pk, nano_aiu=20 * NANO,
        )  # fmt: skip
    # 140 spent in 6 days and 2 hours, ten days and 13 h 40 min to go.
    assert outlooks.tell(AT) == 0
    UsageRecord.objects.create(
        id="more", started_at=AT - timedelta(hours=1), outcome="completed", source="messages",
        key_id=key.pk, nano_aiu=50 * NANO,
    )  # fmt: skip
    assert outlooks.tell(AT) == 1
    assert "Key 'ci' of ben will pass" in told("forecast")[0]


def test_one_that_cannot_look_keeps_no_other_from_looking(
    ben: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_at: datetime) -> int:
        raise ValueError("no")

    looked = []
    monkeypatch.setattr(
        watching, "_watchers", {"broken": broken, "fine": lambda at: looked.append(at) or 1}
    )
    with pytest.raises(watching.WatchersFailed, match="broken"):
        watching.watch()
    assert len(looked) == 1


def test_the_task_runs_every_watcher(ben: Member) -> None:
    assert {name.rpartition(".")[0] for name in watching._watchers} >= {
        "usage.thresholds",
        "usage.troubles",
        "usage.unusual",
        "proxy.waiting",
    }
    Account.objects.create(login="m", state="frozen")
    assert tasks.watch_thresholds() == 1
    assert tasks.deliver_notifications() == tasks.send_digests() == tasks.forecast() == 0
    assert tasks.reconcile() == 0
