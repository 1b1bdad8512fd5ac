"""The audit log: who did what to what, when and from where. Rows are only ever added."""

from typing import Any

from accounts.models import AuditEntry, Member

# The actor of what happens by itself: a refresh, a cool-down, the end of a sign-in.
GATEWAY = "gateway"


def record(
    actor: Member | str,
    action: str,
    target: object = "",
    detail: dict[str, Any] | None = None,
    address: str = "",
) -> AuditEntry:
    """Add a row. `detail` is JSON and holds no secret; long texts are cut to their columns."""
    name = actor if isinstance(actor, str) else actor.get_username()
    return AuditEntry.objects.create(
        actor=name[:150],
        action=action[:64],
        target=str(target)[:200],
        detail=detail or {},
        address=address[:64],
    )
