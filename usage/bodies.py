"""Bodies of exchanges, kept only because a key asked: encrypted, redacted, cut, and for a while.

A key asks with an end date (`ApiKey.stores_bodies_until`). Members read and delete their own,
administrators any; every reading is in the audit log. Retention removes them by their own date.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db.models import QuerySet
from django.utils.timezone import now

from accounts import audit
from accounts.encryption import Secret
from accounts.models import Member
from usage.models import StoredBody
from usage.redaction import redact

# Of each body this much is kept, counted before redaction.
MAX_BYTES: Final = 256 * 1024
# The longest that a key may ask for at once.
MAX_ASKED: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Bodies:
    """What was kept of one exchange. `is_cut`: there was more than fits."""

    request: str
    response: str
    is_cut: bool
    stored_at: datetime
    expires_at: datetime


def keep(
    exchange_id: str,
    *,
    member_id: int | None,
    key_id: int | None,
    request: bytes,
    response: bytes,
) -> None:
    """Store both bodies of an exchange, once. Broken UTF-8 is replaced."""
    values: dict[str, Any] = {
        "member_id": member_id,
        "key_id": key_id,
        "request": _sealed(request),
        "response": _sealed(response),
        "request_bytes": len(request),
        "response_bytes": len(response),
        "is_cut": max(len(request), len(response)) > MAX_BYTES,
        "expires_at": now() + timedelta(days=settings.GATEWAY_BODY_RETENTION_DAYS),
    }
    StoredBody.objects.get_or_create(exchange_id=exchange_id, defaults=values)


def _sealed(body: bytes) -> Secret:
    return Secret.of(redact(body[:MAX_BYTES].decode("utf-8", "replace")))


def of_scope(scope: int | None) -> QuerySet[StoredBody]:
    """The bodies that a person may see: `scope` is their member id, None for administrators."""
    rows = StoredBody.objects.filter(expires_at__gt=now())
    return rows if scope is None else rows.filter(member_id=scope)


def read(
    exchange_id: str, *, scope: int | None, reader: Member, address: str = ""
) -> Bodies | None:
    """The bodies of an exchange, None where there are none for this person. Audited."""
    row = of_scope(scope).filter(pk=exchange_id).first()
    if row is None:
        return None
    audit.record(reader, "body.read", exchange_id, {"of_member": row.member_id}, address)
    return Bodies(
        row.request.reveal(), row.response.reveal(), row.is_cut, row.stored_at, row.expires_at
    )


def delete(
    *, scope: int | None, actor: Member, exchange_id: str | None = None, address: str = ""
) -> int:
    """Delete one exchange's bodies, or all that the person may delete; how many. Audited."""
    rows = of_scope(scope)
    if exchange_id is not None:
        rows = rows.filter(pk=exchange_id)
    count, _ = rows.delete()
    if count:
        target = exchange_id or ("all" if scope is None else f"all of member {scope}")
        audit.record(actor, "body.deleted", target, {"count": count}, address)
    return count


def delete_of(member: Member, *, actor: Member, address: str = "") -> int:
    """Delete everything stored of one member; how many."""
    return delete(scope=member.pk, actor=actor, address=address)
