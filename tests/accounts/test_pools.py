"""Pools: whose seat a request may use, whatever keys, pools and teams say."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils.timezone import now
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts import book, keys, pools, states
from accounts.enrolment import add_account
from accounts.errors import GitHubRefused
from accounts.keys import Caller
from accounts.models import Account, ApiKey, AuditEntry, Member, Pool, Team
from accounts.pools import NotPooled, PoolView, seats_of
from simulator.testing import SimulatorThread

Make = Callable[..., Account]
MEMBERS = [1, 2, 3]
POOLS = [7, 8]


def view(account_id: int, owner: int | None, pool: int | None) -> book.AccountView:
    row = Account(pk=account_id, login=f"account-{account_id}", owner_id=owner, pool_id=pool)
    return book.view_of(row)


def caller(**values: Any) -> Caller:
    given: dict[str, Any] = {
        "key_id": 1, "key_name": "k", "key_prefix": "cgw_k", "member_id": 1, "member": "ada",
        "is_admin": False,
    }  # fmt: skip
    return Caller(**given | values)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[book.AccountView], Caller, dict[int, int]]:
    """Accounts of members, of pools and of nobody; any caller; any pools of teams.

    Rows may contradict the rules (a pooled account with an owner): memory must hold all the same.
    """
    owners = st.one_of(st.none(), st.sampled_from(MEMBERS))
    in_pools = st.one_of(st.none(), st.sampled_from(POOLS))
    rows = draw(st.lists(st.tuples(owners, in_pools), max_size=8))
    accounts = [view(n, owner, pool) for n, (owner, pool) in enumerate(rows, 1)]
    who = caller(
        member_id=draw(st.sampled_from(MEMBERS)),
        is_admin=draw(st.booleans()),
        account_id=draw(st.one_of(st.none(), st.integers(1, 9))),
        pool_id=draw(in_pools),
        team_id=draw(st.one_of(st.none(), st.just(5))),
    )
    return accounts, who, draw(st.dictionaries(st.just(5), st.sampled_from(POOLS)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=400)
@given(world=worlds())
def test_no_caller_ever_gets_a_seat_that_is_not_theirs(
    world: tuple[list[book.AccountView], Caller, dict[int, int]],
) -> None:
    accounts, who, of_team = world
    book.snapshot.value = {a.id: a for a in accounts}
    pools.snapshot.value = pools.Pools({p: PoolView(p, str(p), False) for p in POOLS}, of_team)

    for seat in seats_of(who):
        assert seat.owner_id in (None, who.member_id)
        if seat.owner_id is None:
            is_pinned = who.account_id == seat.id
            is_in_reach = seat.pool_id is not None and seat.pool_id in (
                who.pool_id,
                of_team.get(who.team_id or 0),
            )
            is_nobodys = who.is_admin and seat.pool_id is None
            assert is_pinned or is_in_reach or is_nobodys


def reach(**values: Any) -> list[int]:
    return [seat.id for seat in seats_of(caller(**values))]


def test_a_caller_gets_the_seats_of_the_first_rule_that_fits() -> None:
    rows = [
        view(1, 1, None),
        view(2, 2, None),
        view(3, None, 7),
        view(4, None, 8),
        view(5, None, None),
    ]
    book.snapshot.value = {a.id: a for a in rows}
    pools.snapshot.value = pools.Pools({}, {5: 8})

    assert reach() == [1]
    assert reach(account_id=5, pool_id=7) == [5]
    assert reach(account_id=2) == []
    assert reach(pool_id=7) == [3]
    assert reach(pool_id=99) == []
    assert reach(team_id=5) == [1]
    assert reach(member_id=3, team_id=5) == [4]
    assert reach(member_id=3) == []
    assert reach(member_id=3, is_admin=True) == [5]
    assert reach(member_id=3, is_admin=True, team_id=5) == [4]


@pytest.fixture
def pool(transactional_db: None) -> Pool:
    return Pool.objects.create(name="engineering")


def test_a_personal_account_cannot_be_pooled(
    make_account: Make, pool: Pool, ada: Member, ben: Member
) -> None:
    account = make_account(owner=ben)

    with pytest.raises(NotPooled, match="belongs to ben"):
        pools.put(account, pool, actor=ada)

    account.refresh_from_db()
    assert account.pool is None
    assert not AuditEntry.objects.filter(action="pool.account_added").exists()


def test_the_database_itself_refuses_an_owner_in_a_pool(
    make_account: Make, pool: Pool, ben: Member
) -> None:
    account = make_account(pool=pool)

    with pytest.raises(IntegrityError), transaction.atomic():
        Account.objects.filter(pk=account.pk).update(owner=ben)


def test_a_pooled_seat_serves_the_keys_and_teams_of_the_pool(
    make_account: Make, pool: Pool, ada: Member, ben: Member
) -> None:
    account = make_account()
    team = Team.objects.create(name="web")
    Member.objects.filter(pk=ben.pk).update(team=team)
    key, secret = keys.create("ci", ada)
    of_ben, bens_secret = keys.create("laptop", ben)

    pools.put(account, pool, weight=3, actor=ada)
    pools.use(pool, keys=[key], teams=[team], actor=ada)
    keys.ring.refresh(force=True)

    for text in (secret, bens_secret):
        who = keys.ring.value.entries[keys.digest_of(text)].caller
        assert [seat.login for seat in seats_of(who)] == ["octocat"]
    assert book.get(account.pk).weight == 3  # type: ignore[union-attr]
    actions = set(AuditEntry.objects.values_list("action", flat=True))
    assert {"pool.account_added", "pool.users_changed"} <= actions

    pools.use(pool, keys=[], teams=[], actor=ada)
    keys.ring.refresh(force=True)
    assert ApiKey.objects.get(pk=key.pk).pool is None
    who = keys.ring.value.entries[keys.digest_of(bens_secret)].caller
    assert seats_of(who) == []
    assert of_ben.pool is None


def test_a_pool_in_use_is_not_removed(make_account: Make, pool: Pool, ada: Member) -> None:
    account = make_account(pool=pool)

    with pytest.raises(NotPooled, match="still has seats"):
        pools.remove(pool, actor=ada)

    pools.take_out(account, actor=ada)
    pools.remove(pool, actor=ada)
    assert not Pool.objects.exists()


def test_only_the_owner_gives_an_account_to_the_organisation(
    make_account: Make, ada: Member, ben: Member
) -> None:
    bens, adas = make_account("mona", "ghu_mona", owner=ben), make_account(owner=ada)

    for who in (ada, ben):
        with pytest.raises(NotPooled):
            pools.release(bens, actor=who)
    pools.release(adas, actor=ada)

    assert Account.objects.get(pk=bens.pk).owner == ben
    assert Account.objects.get(pk=adas.pk).owner is None


async def test_another_member_cannot_take_over_an_account(
    simulator: SimulatorThread, ada: Member, ben: Member
) -> None:
    await add_account("ghu_octocat", owner=ada)

    with pytest.raises(GitHubRefused, match="connected by another member"):
        await add_account("ghu_octocat", owner=ben)

    assert (await Account.objects.select_related("owner").aget()).owner == ada


async def test_a_pooled_seat_is_signed_in_again_by_administrators_only(
    simulator: SimulatorThread, make_account: Make, pool: Pool, ada: Member, ben: Member
) -> None:
    await add_account("ghu_octocat")
    await Account.objects.aupdate(pool=pool)

    with pytest.raises(GitHubRefused, match="seat of the organisation"):
        await add_account("ghu_octocat", owner=ben)
    account = await add_account("ghu_octocat", owner=ada)

    assert account.owner_id is None
    assert account.pool_id == pool.pk


def test_a_deleted_owner_leaves_a_seat_that_serves_nobody(
    make_account: Make, ben: Member, ada: Member
) -> None:
    account = make_account(owner=ben)
    frozen = make_account("mona", "ghu_mona", owner=ben, state=Account.State.FROZEN)

    ben.delete()

    account.refresh_from_db()
    frozen.refresh_from_db()
    assert (account.state, account.owner) == (Account.State.PAUSED, None)
    assert "ben" in account.state_reason
    assert frozen.state == Account.State.FROZEN


def test_every_change_of_state_is_in_the_audit_log(make_account: Make, ada: Member) -> None:
    account = make_account()
    states.set_state(account, Account.State.COOLING_DOWN, "429", now() - timedelta(seconds=1))
    assert states.end_cooldowns() == 1
    states.set_state(account, Account.State.PAUSED, "holiday", actor=ada)
    states.set_state(account, Account.State.FROZEN, "abuse")

    told = list(AuditEntry.objects.order_by("pk").values_list("action", "actor"))
    assert told == [
        ("account.cooling_down", "gateway"),
        ("account.active", "gateway"),
        ("account.paused", "ada"),
        ("account.frozen", "gateway"),
    ]
    assert states.paused_by(account) == "ada"
