"""Limits as a request meets them: read from the rows of key, member, team and account."""

from datetime import timedelta

import pytest
from django.utils.timezone import now

from accounts import keys
from accounts.auth import Caller
from accounts.book import view_of
from accounts.keys import ring
from accounts.limits import Allowance
from accounts.models import Account, ApiKey, BudgetRaise, Member, Team

pytestmark = pytest.mark.django_db


@pytest.fixture
def ben() -> Member:
    return Member.objects.create_user("ben")


def caller_of(key: ApiKey) -> Caller:
    ring.refresh()
    return ring.value.entries[bytes(key.digest)].caller


def test_a_key_without_limits_has_no_allowances(ben: Member) -> None:
    key, _secret = keys.create("laptop", ben)
    assert caller_of(key).allowances == ()


def test_the_limits_of_key_member_and_team_all_count(ben: Member) -> None:
    ben.team = Team.objects.create(name="Research", tokens_per_minute=1000)
    ben.max_effort = "low"
    ben.save()
    key, _secret = keys.create("ci", ben, requests_per_minute=5)
    of_key, of_member, of_team = caller_of(key).allowances
    assert of_key == Allowance(f"key:{key.pk}", "this API key", "key ci", rpm=5)
    assert (of_member.subject, of_member.who, of_member.max_effort) == (
        f"member:{ben.pk}", "the member ben", "low",
    )  # fmt: skip
    assert not of_member.is_counted
    assert (of_team.subject, of_team.name, of_team.tpm) == (
        f"team:{ben.team.pk}", "team Research", 1000,
    )  # fmt: skip


def test_a_raise_is_known_at_once_and_counts_until_it_ends(ben: Member) -> None:
    team = Team.objects.create(name="Research", budget_month_nano_aiu=100, budget_is_hard=False)
    ben.team = team
    ben.save()
    key, _secret = keys.create("ci", ben)
    (allowance,) = caller_of(key).allowances
    assert [b.at(now()) for b in allowance.budgets] == [100]
    assert not allowance.budget_is_hard
    ends_at = now() + timedelta(hours=1)
    for period, extra, until in (
        ("month", 30, ends_at),
        ("month", 7, ends_at),
        ("day", 1000, ends_at),
        ("month", 1000, now() - timedelta(seconds=1)),
    ):
        BudgetRaise.objects.create(
            team=team, period=period, extra_nano_aiu=extra, ends_at=until, reason="demo"
        )
    (allowance,) = caller_of(key).allowances
    (month,) = allowance.budgets
    assert month.at(now()) == 137
    assert month.at(ends_at) == 100
    BudgetRaise.objects.all().delete()
    assert caller_of(key).allowances[0].budgets[0].at(now()) == 100


def test_hours_that_cannot_be_read_stop_nobody(ben: Member) -> None:
    key, _secret = keys.create("ci", ben, requests_per_minute=5)
    ApiKey.objects.filter(pk=key.pk).update(office_hours="whenever")
    (allowance,) = caller_of(key).allowances
    assert allowance.office_hours is None


def test_an_account_has_its_own_limits() -> None:
    row = Account.objects.create(login="octocat", concurrency=4)
    allowance = view_of(row).allowance
    assert allowance is not None
    assert (allowance.subject, allowance.concurrency) == (f"account:{row.pk}", 4)
    assert view_of(Account.objects.create(login="mona")).allowance is None
