"""The second factor: an authenticator app, passkeys and recovery codes, by allauth.

Secrets are encrypted as all others; every change is in the audit log. With GATEWAY_REQUIRE_MFA an
administrator without one sees only the pages where one is set up.
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
    """An administrator who must set one up before anything else."""
    return settings.GATEWAY_REQUIRE_MFA and member.is_superuser and not has_one(member)


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


class SecondFactorRequired:
    """Keeps administrators to the pages where a second factor is set up, until they have one."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if (
            settings.GATEWAY_REQUIRE_MFA
            and not request.path.startswith(OPEN)
            and isinstance(request.user, Member)
            and owes_one(request.user)
        ):
            if request.method not in ("GET", "HEAD"):
                return HttpResponseForbidden(_("Set up a second factor first."))
            messages.warning(request, _("Administrators need a second factor here. Set one up."))
            return redirect(HOME)
        return self.get_response(request)
