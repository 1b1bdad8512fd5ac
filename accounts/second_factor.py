"""The second factor: an authenticator app, passkeys and recovery codes, by allauth.

Secrets are encrypted as all others; every change and every wrong code is in the audit log. With
GATEWAY_REQUIRE_MFA an administrator, with GATEWAY_REQUIRE_MFA_OF_ALL everybody without one sees only the
pages where one is set up.
"""

from collections.abc import Callable
from typing import Any, Final

from allauth.mfa import signals
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseForbidden
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from accounts import audit, encryption
from accounts.access import address_of
from accounts.models import Member

HOME: Final = "/dashboard/me/second-factor/"
# What stays open without one: setting it up, proving who one is, leaving, and what pages load.
OPEN: Final = (
    HOME,
    "/dashboard/sign-in/",
    "/dashboard/sign-out/",
    "/dashboard/sso/",
    "/dashboard/me/theme/",
    "/static/",
    "/i18n/",
)
FACTORS: Final = [Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN]


class Factors(DefaultMFAAdapter):  # type: ignore[misc]
    """Secrets as ciphertext; nothing is mailed."""

    def encrypt(self, text: str) -> str:
        return encryption.encrypt(text)

    def decrypt(self, encrypted_text: str) -> str:
        return encryption.decrypt(encrypted_text)

    def get_totp_issuer(self) -> str:
        return "Copilot Gateway"

    def get_totp_label(self, user: Member) -> str:
        return user.get_username()

    def send_notification_mail(self, *args: Any, **kwargs: Any) -> None:
        """Changes stand in the audit log."""


def has_one(member: Member) -> bool:
    return bool(is_mfa_enabled(member, FACTORS))


def owes_one(member: Member) -> bool:
    """Somebody who must set one up before anything else.

    The provider sees to the factors of those who belong by its word, but for administrators.
    """
    of_all = settings.GATEWAY_REQUIRE_MFA_OF_ALL and not member.is_managed
    of_them = settings.GATEWAY_REQUIRE_MFA and member.is_superuser
    return bool((of_all or of_them) and not has_one(member))


def drop(member: Member, *, actor: Member, address: str = "") -> int:
    """Take every factor of a member away: they lost their phone. How many there were."""
    count = int(Authenticator.objects.filter(user=member).delete()[0])
    audit.record(actor, "member.second_factor_dropped", member, {"factors": count}, address)
    return count


def _changed(action: str) -> Callable[..., None]:
    def note(
        sender: object, request: HttpRequest, user: Member, authenticator: Authenticator, **_: Any
    ) -> None:
        detail = {"kind": str(authenticator.type)}
        audit.record(user, action, user, detail, address_of(request))

    return note


for _signal, _action in (
    (signals.authenticator_added, "member.second_factor_added"),
    (signals.authenticator_removed, "member.second_factor_removed"),
    (signals.authenticator_reset, "member.recovery_codes_made"),
):
    _signal.connect(_changed(_action), weak=False, dispatch_uid=f"second_factor.{_action}")


def _failed(
    sender: object,
    request: HttpRequest,
    user: Member,
    authenticator: Authenticator,
    reauthentication: bool,
    **_: Any,
) -> None:
    """A wrong code is in the audit log like a wrong password."""
    detail = {"by": "second factor", "kind": str(authenticator.type)}
    if reauthentication:
        detail["to"] = "confirm"
    audit.record(audit.GATEWAY, "member.sign_in_failed", user, detail, address_of(request))


signals.authentication_failed.connect(_failed, weak=False, dispatch_uid="second_factor.failed")


class SecondFactorRequired:
    """Keeps who owes one to the pages where a second factor is set up, until they have one."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if (
            (settings.GATEWAY_REQUIRE_MFA or settings.GATEWAY_REQUIRE_MFA_OF_ALL)
            and not request.path.startswith(OPEN)
            and isinstance(request.user, Member)
            and owes_one(request.user)
        ):
            if request.method not in ("GET", "HEAD"):
                return HttpResponseForbidden(_("Set up a second factor first."))
            messages.warning(request, _("You need a second factor here. Set one up."))
            return redirect(HOME)
        return self.get_response(request)
