"""Members: the one person of solo mode, and the names that nobody else may take."""

import unicodedata

from django.db import IntegrityError
from django.db.models import Q

from accounts import audit
from accounts.models import Member

SOLO_USERNAME = "owner"
# The audit log names the gateway itself and its commands by these; `owner` is found by its name.
RESERVED = frozenset({SOLO_USERNAME, audit.GATEWAY, "terminal", "manage.py", "canary", "system"})


def administrators_have_ways_in() -> bool:
    """Whether an active administrator needs no link: has a password, a provider or a passkey."""
    from allauth.mfa.models import Authenticator
    from allauth.socialaccount.models import SocialAccount

    admins = Member.objects.filter(is_superuser=True, is_active=True)
    passkeys = Authenticator.objects.filter(user__in=admins, type=Authenticator.Type.WEBAUTHN)
    return (
        any(each.has_usable_password() for each in admins)
        or SocialAccount.objects.filter(user__in=admins).exists()
        or passkeys.exists()
    )


def is_taken(name: str) -> bool:
    """Whether nobody may come under this name: somebody has it, or it is one of the gateway's own.

    Letters that only look otherwise, such as those of full width, make no other name.
    """
    plain = unicodedata.normalize("NFKC", name)
    same = Q(username__iexact=name) | Q(username__iexact=plain)
    return plain.lower() in RESERVED or Member.objects.filter(same).exists()


def solo_member() -> Member:
    """The person whose laptop this is: an administrator without a password, made on first use.

    Signs in with a one-use link only (`accounts.links`).
    """
    found = Member.objects.filter(username=SOLO_USERNAME).first()
    if found is not None:
        return found
    member = Member(username=SOLO_USERNAME, is_staff=True, is_superuser=True)
    member.set_unusable_password()
    try:
        member.save(force_insert=True)
    except IntegrityError:
        # Another process was first.
        return Member.objects.get(username=SOLO_USERNAME)
    audit.record(audit.GATEWAY, "member.created", member, {"why": "solo mode"})
    return member
