"""Groups of the identity provider: what membership in them gives, applied at every sign-in.

`github:<organisation>` is the group of those whom GitHub names a member of it. Of several mappings
that fit, the strongest role counts, and the first group (by name) with a team.
"""

from collections.abc import Collection
from dataclasses import dataclass

from accounts import audit, keys, roles
from accounts.models import GroupMapping, Member, Role, Team

STRENGTH = (Role.MEMBER, Role.AUDITOR, Role.ADMIN)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a person's groups give. `is_mapped` is false when none of them is mapped."""

    is_mapped: bool
    role: Role = Role.MEMBER
    team: Team | None = None


def is_used() -> bool:
    """Whether any group is mapped; if none is, groups say nothing about anybody."""
    return bool(GroupMapping.objects.exists())


def grant_of(names: Collection[str]) -> Grant:
    mappings = list(
        GroupMapping.objects.filter(group__in=list(names)).select_related("team").order_by("group")
    )
    if not mappings:
        return Grant(False)
    role = max((Role(m.role) for m in mappings), key=STRENGTH.index)
    team = next((m.team for m in mappings if m.team is not None), None)
    return Grant(True, role, team)


def apply(member: Member, grant: Grant, *, address: str = "") -> None:
    """Make role and team what the groups say; the last administrator stays one."""
    try:
        roles.set_role(member, grant.role, actor=audit.GATEWAY, address=address)
    except roles.LastAdministrator:
        detail = {"groups_say": grant.role.value, "why": "last administrator"}
        audit.record(audit.GATEWAY, "member.role_kept", member, detail, address)
    team_id = grant.team.pk if grant.team else None
    if member.team_id != team_id:
        detail = {
            "before": member.team.name if member.team else "",
            "after": grant.team.name if grant.team else "",
        }
        member.team = grant.team
        member.save(update_fields=["team", "updated_at"])
        audit.record(audit.GATEWAY, "member.team_changed", member, detail, address)
        keys.ring.refresh(force=True)
