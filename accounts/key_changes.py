"""What happens to a key after it was made: rotated with grace, extended, limits copied, changed."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils.timezone import now

from accounts import audit, keys
from accounts.models import ApiKey, Limited, Member, ModelRules

LIMITS: tuple[str, ...] = tuple(
    field.attname for model in (Limited, ModelRules) for field in model._meta.fields
)
# What a new key takes over from the one that it replaces.
TAKEN_OVER = (
    *LIMITS,
    "account_id",
    "pool_id",
    "lane",
    "needs_approval",
    "allows_web_search",
    "is_admin",
    "expires_at",
    "stores_bodies_until",
)
GRACE = timedelta(hours=24)


class KeyEnded(Exception):
    """The key is revoked or expired: nothing to rotate or extend."""

    def __init__(self, key: ApiKey) -> None:
        super().__init__(f"The key {key.name} is {key.state}; make a new one.")


def rotate(
    key: ApiKey, *, actor: Member | str, grace: timedelta = GRACE, address: str = ""
) -> tuple[ApiKey, str]:
    """A new key with the same limits; the old one works for `grace` more, so that tools can follow.

    Gives back the new key and its secret, which is shown this once. Raises `KeyEnded`.
    """
    if key.state != "active":
        raise KeyEnded(key)
    with transaction.atomic():
        new, secret = keys.create(key.name, key.owner, actor=actor, address=address)
        taken = {name: getattr(key, name) for name in TAKEN_OVER}
        ApiKey.objects.filter(pk=new.pk).update(**taken, replaces=key)
        ends = now() + grace
        if key.expires_at is None or key.expires_at > ends:
            ApiKey.objects.filter(pk=key.pk).update(expires_at=ends)
        detail = {"to": new.prefix, "old_ends_at": ends.isoformat()}
        audit.record(actor, "key.rotated", key, detail, address)
    keys.ring.refresh(force=True)
    new.refresh_from_db()
    return new, secret


def extend(key: ApiKey, until: datetime | None, *, actor: Member | str, address: str = "") -> None:
    """Move the end of a key; None: it does not end. Raises `KeyEnded` when it is revoked."""
    if key.revoked_at is not None:
        raise KeyEnded(key)
    ApiKey.objects.filter(pk=key.pk).update(expires_at=until)
    key.expires_at = until
    detail = {"until": until.isoformat() if until else None}
    audit.record(actor, "key.extended", key, detail, address)
    keys.ring.refresh(force=True)


def copy_limits(
    source: ApiKey, targets: Iterable[ApiKey], *, actor: Member | str, address: str = ""
) -> int:
    """Give `targets` the limits and model rules of `source`; how many they were."""
    values: dict[str, Any] = {name: getattr(source, name) for name in LIMITS}
    count = 0
    for target in targets:
        if target.pk == source.pk:
            continue
        ApiKey.objects.filter(pk=target.pk).update(**values)
        audit.record(actor, "key.limits_copied", target, {"from": source.prefix}, address)
        count += 1
    keys.ring.refresh(force=True)
    return count


def store_bodies(
    key: ApiKey, until: datetime | None, *, actor: Member | str, address: str = ""
) -> None:
    """Keep the bodies of the key's requests until then; None: no longer."""
    ApiKey.objects.filter(pk=key.pk).update(stores_bodies_until=until)
    key.stores_bodies_until = until
    detail = {"until": until.isoformat() if until else None}
    audit.record(actor, "key.stores_bodies", key, detail, address)
    keys.ring.refresh(force=True)
