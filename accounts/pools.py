"""Pools and whose seats they are: which accounts a caller may use, and what may be pooled.

A personal seat serves its owner alone. Seats of the organisation have no owner; an administrator
puts them into a pool, which keys and teams use.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from django.db import IntegrityError, transaction

from accounts import audit, book
from accounts.book import AccountView
from accounts.keys import Caller
from accounts.models import Account, ApiKey, Member, Pool, Team
from accounts.snapshots import Snapshot, revision_of


@dataclass(frozen=True, slots=True)
class PoolView:
    """A pool in memory. `failover`: what no conversation binds may move on to another seat of it."""

    id: int
    name: str
    failover: bool


@dataclass(frozen=True, slots=True)
class Pools:
    """Every pool by its id, and the pool that each team uses."""

    by_id: Mapping[int, PoolView] = field(default_factory=dict)
    of_team: Mapping[int, int] = field(default_factory=dict)


class NotPooled(Exception):
    """The account may not be in this pool; the text says why and what to do."""


# Who uses which seat.


def seats_of(caller: Caller) -> list[AccountView]:
    """The accounts that a caller may use, by the first rule that fits.

    The account that the key is bound to; the key's pool; the member's own accounts; the pool of
    the member's team; and for administrators what belongs to nobody. A seat that has an owner is
    never anybody else's, whatever a key or a pool says.
    """
    return [seat for seat in _assigned(caller) if seat.owner_id in (None, caller.member_id)]


def _assigned(caller: Caller) -> list[AccountView]:
    if caller.account_id is not None:
        bound = book.get(caller.account_id)
        return [] if bound is None else [bound]
    if caller.pool_id is not None:
        return seats_in(caller.pool_id)
    if own := book.of_owner(caller.member_id):
        return own
    team_pool = None if caller.team_id is None else snapshot.value.of_team.get(caller.team_id)
    if team_pool is not None:
        return seats_in(team_pool)
    if not caller.is_admin:
        return []
    everything = book.all_accounts().values()
    return [seat for seat in everything if seat.owner_id is None and seat.pool_id is None]


def seats_in(pool_id: int) -> list[AccountView]:
    """The seats of a pool, in the order of their logins."""
    return [seat for seat in book.all_accounts().values() if seat.pool_id == pool_id]


def get(pool_id: int | None) -> PoolView | None:
    return None if pool_id is None else snapshot.value.by_id.get(pool_id)


def has_failover(seat: AccountView) -> bool:
    pool = get(seat.pool_id)
    return pool is not None and pool.failover


# What administrators change.


def put(
    account: Account, pool: Pool, *, weight: int = 1, actor: Member | str, address: str = ""
) -> None:
    """Put a seat of the organisation into `pool`. Raises `NotPooled` for personal accounts."""
    if account.owner_id is not None:
        raise NotPooled(
            f"{account.login} belongs to {account.owner}. A personal seat serves its owner only. "
            "If the seat is the organisation's, its owner gives it up first (its page, "
            "Hand to the organisation)."
        )
    try:
        with transaction.atomic():
            # The condition again: the account may have found an owner meanwhile.
            changed = Account.objects.filter(pk=account.pk, owner=None).update(
                pool=pool, weight=weight
            )
    except IntegrityError:
        changed = 0
    if not changed:
        raise NotPooled(f"{account.login} has an owner by now, or is gone.")
    before, account.pool, account.weight = account.pool_id, pool, weight
    detail = {"pool": pool.name, "weight": weight, "moved": before not in (None, pool.pk)}
    audit.record(actor, "pool.account_added", account, detail, address)
    refresh()


def take_out(account: Account, *, actor: Member | str, address: str = "") -> None:
    """Take the account out of its pool: it serves nobody but administrators until it has an owner."""
    pool = account.pool
    if pool is None:
        return
    Account.objects.filter(pk=account.pk).update(pool=None)
    account.pool = None
    audit.record(actor, "pool.account_removed", account, {"pool": pool.name}, address)
    refresh()


def reweigh(account: Account, weight: int, *, actor: Member | str, address: str = "") -> None:
    """Change the account's share of the new conversations; 0: it gets no new ones."""
    if account.weight == weight:
        return
    detail = {"from": account.weight, "to": weight}
    Account.objects.filter(pk=account.pk).update(weight=weight)
    account.weight = weight
    audit.record(actor, "pool.account_weighed", account, detail, address)
    refresh()


def use(
    pool: Pool,
    *,
    keys: Iterable[ApiKey],
    teams: Iterable[Team],
    actor: Member | str,
    address: str = "",
) -> None:
    """Let exactly these keys and teams use the pool."""
    key_ids, team_ids = {key.pk for key in keys}, {team.pk for team in teams}
    with transaction.atomic():
        ApiKey.objects.filter(pool=pool).exclude(pk__in=key_ids).update(pool=None)
        ApiKey.objects.filter(pk__in=key_ids).exclude(pool=pool).update(pool=pool)
        Team.objects.filter(pool=pool).exclude(pk__in=team_ids).update(pool=None)
        Team.objects.filter(pk__in=team_ids).exclude(pool=pool).update(pool=pool)
        detail = {
            "keys": sorted(ApiKey.objects.filter(pool=pool).values_list("prefix", flat=True)),
            "teams": sorted(Team.objects.filter(pool=pool).values_list("name", flat=True)),
        }
        audit.record(actor, "pool.users_changed", pool, detail, address)
    refresh()


def remove(pool: Pool, *, actor: Member | str, address: str = "") -> None:
    """Remove an empty pool. Raises `NotPooled` while it has seats, keys or teams."""
    if pool.accounts.exists() or pool.api_keys.exists() or pool.teams.exists():
        raise NotPooled(
            f"The pool {pool.name} still has seats, keys or teams. Take them out first: keys would "
            "otherwise go on with other seats unasked."
        )
    audit.record(actor, "pool.removed", pool, {}, address)
    pool.delete()
    refresh()


def release(account: Account, *, actor: Member, address: str = "") -> None:
    """The owner gives the seat to the organisation: from now on it has no owner.

    Raises `NotPooled` for anybody but the owner, who must be an administrator: others' accounts
    are theirs.
    """
    if account.owner_id != actor.pk or not actor.is_superuser:
        raise NotPooled("Only the owner may give an account away.")
    Account.objects.filter(pk=account.pk, owner=actor).update(owner=None)
    account.owner = None
    audit.record(actor, "account.released", account, {"owner": actor.get_username()}, address)
    refresh()


def refresh() -> None:
    """This process knows at once, the others within a second."""
    book.snapshot.refresh(force=True)
    snapshot.refresh(force=True)


def _load() -> Pools:
    by_id = {row.pk: PoolView(row.pk, row.name, row.failover) for row in Pool.objects.all()}
    teams = Team.objects.exclude(pool=None).values_list("pk", "pool_id")
    return Pools(by_id, {team: pool for team, pool in teams if pool is not None})


snapshot: Snapshot[Pools] = Snapshot("pools", revision_of(Pool, Team), _load, Pools())
