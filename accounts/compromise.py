"""After a compromise: everything that opens something is taken back at once, and counted.

What GitHub holds itself (a GitHub token that was copied) only its owner or the organisation can revoke;
the report says so.
"""

from dataclasses import dataclass, fields
from typing import Final

from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models.functions import Now
from django.utils.timezone import now

from accounts import audit, keys, states, tokens
from accounts.encryption import Secret
from accounts.models import (
    Account,
    ApiKey,
    AuditEntry,
    DeviceLogin,
    GitHubApp,
    Invite,
    SignInLink,
)

State = Account.State
WHY: Final = "everything was revoked"
# These wait for a person anyway, for a reason that must not be lost.
LEFT_AS_THEY_ARE: Final = (State.FROZEN, State.PAUSED, State.NEEDS_SIGN_IN)


@dataclass(slots=True)
class Revoked:
    """How many of each were taken back."""

    api_keys: int = 0
    sessions: int = 0
    sign_in_links: int = 0
    invites: int = 0
    device_sign_ins: int = 0
    copilot_tokens: int = 0
    accounts_signed_out: int = 0
    app_private_keys: int = 0

    def words(self) -> list[tuple[str, int]]:
        return [(each.name.replace("_", " "), getattr(self, each.name)) for each in fields(self)]


def revoke_everything(actor: str, *, sign_out_accounts: bool = False) -> Revoked:
    """Revoke all API keys, end all sessions, links, invites and sign-ins, discard Copilot tokens.

    With `sign_out_accounts` also forget the GitHub tokens and the private keys of Apps: every account
    must sign in again. All or nothing, and safe to run twice; running gateways obey within two seconds.
    """
    with transaction.atomic():
        done = Revoked(
            api_keys=_keys(actor),
            sessions=Session.objects.all().delete()[0],
            sign_in_links=SignInLink.objects.filter(used_at=None).update(used_at=now()),
            invites=Invite.objects.filter(used_at=None, revoked_at=None).update(revoked_at=now()),
            device_sign_ins=_device_sign_ins(),
            copilot_tokens=_copilot_tokens(),
        )
        if sign_out_accounts:
            done.accounts_signed_out = _github_tokens(actor)
            done.app_private_keys = GitHubApp.objects.exclude(private_key=Secret("")).update(
                private_key=Secret(""), updated_at=now()
            )
        audit.record(actor, "everything.revoked", "", dict(done.words()))
    tokens.forget()
    keys.ring.refresh(force=True)
    return done


def _keys(actor: str) -> int:
    valid = list(ApiKey.objects.select_for_update().filter(revoked_at=None))
    ApiKey.objects.filter(pk__in=[key.pk for key in valid]).update(revoked_at=now())
    AuditEntry.objects.bulk_create(
        AuditEntry(actor=actor, action="key.revoked", target=str(key)[:200], detail={"why": WHY})
        for key in valid
    )
    return len(valid)


def _device_sign_ins() -> int:
    running = DeviceLogin.objects.filter(
        state__in=(DeviceLogin.State.PENDING, DeviceLogin.State.CHECKING)
    )
    # While the seat is checked, the GitHub token stands where the code stood.
    return running.update(
        state=DeviceLogin.State.CANCELLED, device_code=Secret(""), message=WHY, updated_at=now()
    )


def _copilot_tokens() -> int:
    """An empty token that is newer than all: every process drops what it holds and asks GitHub."""
    count = Account.objects.exclude(copilot_token=Secret("")).count()
    # Read first: SQLite would write the expression in another form than values, equal to none.
    at = Account.objects.annotate(at=Now()).values_list("at", flat=True).first()
    Account.objects.update(
        copilot_token=Secret(""),
        token_lifetime_s=0,
        token_fetched_at=at,
        refresh_claimed_until=None,
    )
    return count


def _github_tokens(actor: str) -> int:
    signed_in = list(Account.objects.exclude(github_token=Secret("")))
    Account.objects.update(github_token=Secret(""))
    for account in Account.objects.exclude(state__in=LEFT_AS_THEY_ARE):
        states.set_state(account, State.NEEDS_SIGN_IN, WHY, None, actor)
    return len(signed_in)
