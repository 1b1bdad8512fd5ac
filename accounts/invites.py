"""Invites: a link by which one person joins, once, until it expires. Stored as SHA-256."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.utils.timezone import now
from django.utils.translation import gettext as _

from accounts import audit
from accounts.models import Invite, Member, Role, Team

DEFAULT_DAYS: Final = 7
MAX_DAYS: Final = 90
MAX_TOKEN_CHARS: Final = 100


class InviteEnded(Exception):
    """The link was used, revoked or has expired meanwhile."""


@dataclass(frozen=True, slots=True)
class Newcomer:
    """What a person says of themselves when they join. An empty password: they sign in by SSO."""

    username: str
    password: str = ""
    first_name: str = ""
    last_name: str = ""
    email: str = ""


def make(
    *,
    actor: Member,
    role: Role = Role.MEMBER,
    team: Team | None = None,
    email: str = "",
    days: int = DEFAULT_DAYS,
    address: str = "",
) -> tuple[Invite, str]:
    """A new invite and its token, which is given back this once and stored nowhere."""
    token = secrets.token_urlsafe(32)
    invite = Invite.objects.create(
        digest=_digest(token),
        email=email,
        role=role,
        team=team,
        invited_by=actor,
        expires_at=now() + timedelta(days=min(max(1, days), MAX_DAYS)),
    )
    detail = {"invite": invite.pk, "role": str(role), "team": team.name if team else ""}
    audit.record(actor, "invite.made", email or invite.pk, detail, address)
    return invite, token


def find(token: str) -> Invite | None:
    """The invite of that link, whatever its state."""
    if not token or len(token) > MAX_TOKEN_CHARS:
        return None
    rows = Invite.objects.select_related("team", "invited_by")
    return rows.filter(digest=_digest(token)).first()


def accept(invite: Invite, newcomer: Newcomer, *, by: str, address: str = "") -> Member:
    """Make the member. Of two who use a link at once one wins. Raises `InviteEnded`.

    `by` says how they joined: password, or the provider they signed in at.
    """
    with transaction.atomic():
        won = Invite.objects.filter(
            pk=invite.pk, used_at=None, revoked_at=None, expires_at__gt=now()
        ).update(used_at=now())
        if not won:
            raise InviteEnded
        member = Member(
            username=newcomer.username,
            first_name=newcomer.first_name,
            last_name=newcomer.last_name,
            email=newcomer.email or invite.email,
            team=invite.team,
        )
        member.take_role(Role(invite.role))
        if newcomer.password:
            member.set_password(newcomer.password)
        else:
            member.set_unusable_password()
        member.save(force_insert=True)
        Invite.objects.filter(pk=invite.pk).update(member=member)
        detail = {"invite": invite.pk, "role": invite.role, "by": by}
        audit.record(member, "member.joined", member, detail, address)
    return member


def revoke(invite: Invite, *, actor: Member | str, address: str = "") -> bool:
    """End an open invite. False when it was used or ended before."""
    open_ones = Invite.objects.filter(pk=invite.pk, used_at=None, revoked_at=None)
    if not open_ones.update(revoked_at=now()):
        return False
    detail = {"invite": invite.pk}
    audit.record(actor, "invite.revoked", invite.email or invite.pk, detail, address)
    return True


def can_send() -> bool:
    """Whether a mail server is configured; else links are copied by hand."""
    return bool(settings.EMAIL_IS_SET_UP)


def send(invite: Invite, link: str) -> bool:
    """Mail the link. False when there is no address or the mail server does not take it."""
    if not invite.email or not can_send():
        return False
    inviter = invite.invited_by.display_name if invite.invited_by else _("An administrator")
    text = _(
        "%(inviter)s invites you to Copilot Gateway.\n\n"
        "Open this link to join; it works once, until %(until)s UTC:\n\n%(link)s\n"
    ) % {"inviter": inviter, "until": f"{invite.expires_at:%Y-%m-%d %H:%M}", "link": link}
    try:
        return bool(send_mail(_("Invitation to Copilot Gateway"), text, None, [invite.email]))
    except OSError:
        # smtplib's errors are OSErrors; the administrator copies the link instead.
        return False


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
