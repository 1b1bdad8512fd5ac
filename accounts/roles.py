"""What people may do, and their coming and going: role, disabled with all keys, let in again.

An administrator who is none any more leaves no open invite behind.

One administrator who can sign in always stays: whoever would be the last to go is refused.
"""

from django.db import transaction
from django.utils.timezone import now

from accounts import audit, invites, keys, sessions
from accounts.models import Invite, Member, Role


class LastAdministrator(Exception):
    """Nobody would be left who may change anything."""

    message = "This is the last administrator. Make somebody else one first."

    def __init__(self) -> None:
        super().__init__(self.message)


def set_role(member: Member, role: Role, *, actor: Member | str, address: str = "") -> bool:
    """Give the member a role. False when it is theirs already. Raises `LastAdministrator`."""
    with transaction.atomic():
        before = _locked(member)
        if before.role == role:
            return False
        if before.role == Role.ADMIN:
            _keep_an_administrator(before)
        member.take_role(role)
        member.save(update_fields=["is_superuser", "is_auditor", "is_staff", "updated_at"])
        detail = {"before": before.role.value, "after": role.value}
        audit.record(actor, "member.role_changed", member, detail, address)
        if before.role == Role.ADMIN:
            _end_invites(member, actor, address)
    keys.ring.refresh(force=True)
    return True


def disable(
    member: Member, *, actor: Member | str, why: str = "", address: str = "", has_left: bool = False
) -> bool:
    """Refuse the member from now on: keys revoked, sessions ended. False when it was so before.

    `has_left` says that the identity provider no longer lets them in; being in a group again brings
    them back, without their old keys. Raises `LastAdministrator`.
    """
    with transaction.atomic():
        before = _locked(member)
        if before.role == Role.ADMIN and before.is_active:
            _keep_an_administrator(before)
        was_active = before.is_active
        member.is_active = False
        member.left_at = now() if has_left and was_active else before.left_at
        if not has_left:
            member.left_at = None
        member.save(update_fields=["is_active", "left_at", "updated_at"])
        if was_active:
            audit.record(actor, "member.disabled", member, {"why": why}, address)
        _end_invites(member, actor, address)
    for key in member.api_keys.filter(revoked_at=None):
        keys.revoke(key, actor=actor, address=address)
    sessions.end_all(member)
    keys.ring.refresh(force=True)
    return was_active


def enable(member: Member, *, actor: Member | str, why: str = "", address: str = "") -> bool:
    """Let a disabled member in again. Keys that were revoked stay so."""
    if member.is_active:
        return False
    member.is_active, member.left_at = True, None
    member.save(update_fields=["is_active", "left_at", "updated_at"])
    audit.record(actor, "member.enabled", member, {"why": why}, address)
    keys.ring.refresh(force=True)
    return True


def _end_invites(member: Member, actor: Member | str, address: str) -> None:
    """Who may invite nobody any more has no open invites either: one of them could be their own."""
    for invite in Invite.objects.filter(invited_by=member, used_at=None, revoked_at=None):
        invites.revoke(invite, actor=actor, address=address)


def _locked(member: Member) -> Member:
    """The row as it stands, locked with those of all administrators until the end."""
    admins = Member.objects.filter(is_superuser=True).order_by("pk")
    list(admins.select_for_update().values_list("pk", flat=True))
    return Member.objects.select_for_update().get(pk=member.pk)


def _keep_an_administrator(leaving: Member) -> None:
    others = Member.objects.filter(is_superuser=True, is_active=True).exclude(pk=leaving.pk)
    if not others.exists():
        raise LastAdministrator
