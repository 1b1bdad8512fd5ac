"""Signing in at GitHub or an OIDC provider: who comes in, and with what role and team.

allauth speaks the protocols; here is decided. A person the provider names is let in when they are
known, were invited, or when a mapped group, the GitHub organisation or the e-mail domain says so. A
name or an address that is somebody else's already never opens that one's account.
"""

import itertools
import logging
import re
from collections.abc import Iterable
from typing import Any, Final

import requests
from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.internal.flows.login import get_authentication_records
from allauth.account.internal.stagekit import clear_login
from allauth.core import context
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialAccount, SocialLogin
from allauth.socialaccount.providers.github.views import GitHubOAuth2Adapter
from django.conf import settings
from django.contrib.auth import logout
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _

from accounts import audit, groups, invites, roles, tries
from accounts.access import address_of
from accounts.groups import Grant
from accounts.invites import InviteEnded, Newcomer
from accounts.members import is_taken
from accounts.models import Invite, Member
from accounts.oidc import HOW_IN_SESSION

logger = logging.getLogger(__name__)

INVITE_IN_SESSION: Final = "invite"
GITHUB: Final = "github"
MAX_NAME_CHARS: Final = 150
MAX_GROUPS: Final = 2000
ORGS_TIMEOUT_S: Final = 10


class People(DefaultAccountAdapter):  # type: ignore[misc]
    """Our doors, words and audit log in place of allauth's."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def add_message(self, *args: Any, **kwargs: Any) -> None:
        """Our pages say themselves what has happened."""

    def send_notification_mail(self, *args: Any, **kwargs: Any) -> None:
        """Changes stand in the audit log; mails are sent by our notifications."""

    def get_client_ip(self, request: HttpRequest) -> str:
        return address_of(request) or "unknown"

    def reauthenticate(self, user: Member, password: str) -> bool:
        """Who confirms by password has as many tries as who signs in by it."""
        name, address = user.get_username(), address_of(context.request)
        if tries.passwords_are_used_up(name, address):
            return False
        is_right = bool(super().reauthenticate(user, password))
        if not is_right:
            tries.count_password(name, address, where="password, to confirm")
        return is_right

    def pre_login(
        self, request: HttpRequest, user: Member, **kwargs: Any
    ) -> HttpResponseBase | None:
        """Who belongs by a provider's word comes by the provider: another door would not ask it."""
        methods = {record["method"] for record in get_authentication_records(request, user)}
        if user.is_active and user.is_managed and "socialaccount" not in methods:
            clear_login(request)
            return redirect("/dashboard/sign-in/?sso=only")
        answer: HttpResponseBase | None = super().pre_login(request, user, **kwargs)
        return answer

    def post_login(self, request: HttpRequest, user: Member, **kwargs: Any) -> HttpResponse:
        said = get_authentication_records(request, user)
        by = [str(record.get("provider") or record["method"]) for record in said]
        detail = {"by": by[0] if by else "password"} | ({"then": by[1:]} if by[1:] else {})
        detail |= request.session.pop(HOW_IN_SESSION, {})
        audit.record(user, "member.signed_in", user, detail, address_of(request))
        if user.is_managed:
            # The provider is asked again soon: who has left it does not stay here for weeks.
            request.session.set_expiry(int(settings.GATEWAY_SSO_SESSION_H * 3600))
        answer: HttpResponse = super().post_login(request, user, **kwargs)
        return answer


class Providers(DefaultSocialAccountAdapter):  # type: ignore[misc]
    """Decides about everybody whom a provider names."""

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        return False

    def send_notification_mail(self, *args: Any, **kwargs: Any) -> None:
        """See `People`."""

    def validate_disconnect(self, account: SocialAccount, accounts: Any) -> None:
        """Who belongs by a provider's word keeps that identity: another could not say when they left."""
        if account.user.is_managed and _manages(account, account.user):
            raise ValidationError(_("This identity says that you belong here; it stays."))

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        if sociallogin.state.get("process") == "connect":
            # A member adds a way to sign in; nobody is judged.
            return
        names = groups_of(sociallogin)
        if sociallogin.is_existing:
            _welcome_back(request, sociallogin, names)
        else:
            _welcome(request, sociallogin, names)

    def on_authentication_error(
        self,
        request: HttpRequest,
        provider: Any,
        error: Any = None,
        exception: Exception | None = None,
        extra_context: dict[str, Any] | None = None,
    ) -> None:
        # The provider's own words go to the log only: they may hold what was sent to it.
        logger.warning("sign-in at %s failed: %s %r", provider, error, exception)


def _welcome_back(request: HttpRequest, sociallogin: SocialLogin, names: set[str]) -> None:
    """A known person: role and team follow the groups; who is in none of them has left."""
    member: Member = sociallogin.user
    account: SocialAccount = sociallogin.account
    grant = groups.grant_of(names)
    address = address_of(request)
    is_first = _manages(account, member)
    may_be_managed = grant.is_mapped and is_first and not member.has_usable_password()
    if may_be_managed and not member.is_managed:
        member.is_managed = True
        member.save(update_fields=["is_managed", "updated_at"])
    if not member.is_managed:
        return
    if not is_first:
        # The provider by which they belong would not be asked whether they still do.
        raise ImmediateHttpResponse(HttpResponseRedirect("/dashboard/sign-in/?sso=only"))
    if not _is_let_in(account.provider, grant, names):
        _leave(request, member, address)
    if member.left_at is not None:
        roles.enable(member, actor=audit.GATEWAY, why="back in a group", address=address)
    if grant.is_mapped:
        groups.apply(member, grant, address=address)


def _leave(request: HttpRequest, member: Member, address: str) -> None:
    if request.user == member:
        # This session ends with the others; without leaving it first it could not be saved.
        logout(request)
    try:
        roles.disable(
            member,
            actor=audit.GATEWAY,
            why="in no group of the identity provider",
            address=address,
            has_left=True,
        )
    except roles.LastAdministrator:
        detail = {"why": "last administrator; in no group of the identity provider"}
        audit.record(audit.GATEWAY, "member.role_kept", member, detail, address)
        return
    _refuse(request, member.get_username(), "left")


def _welcome(request: HttpRequest, sociallogin: SocialLogin, names: set[str]) -> None:
    """Somebody new: made a member if something lets them in, refused otherwise."""
    account: SocialAccount = sociallogin.account
    grant = groups.grant_of(names)
    person = _newcomer(sociallogin)
    # Taken out: an invite is for the sign-in that follows it.
    invited = request.session.pop(INVITE_IN_SESSION, None)
    invite = Invite.objects.select_related("team", "invited_by").filter(pk=invited).first()
    may_come = (
        (invite is not None and invite.state == "open")
        or _is_let_in(account.provider, grant, names)
        or _is_of_our_domain(sociallogin)
    )
    if not may_come:
        _refuse(request, person.username, "unknown")
    if person.email and Member.objects.filter(email__iexact=person.email).exists():
        _refuse(request, person.username, "taken")
    address = address_of(request)
    with transaction.atomic():
        if invite is not None and invite.state == "open":
            try:
                member = invites.accept(invite, person, by=account.provider, address=address)
            except InviteEnded:
                _refuse(request, person.username, "unknown")
        else:
            member = _join(person, account.provider, address)
        if _is_let_in(account.provider, grant, names):
            member.is_managed = True
            member.save(update_fields=["is_managed", "updated_at"])
        if grant.is_mapped:
            groups.apply(member, grant, address=address)
        account.user = member
        account.save()
    sociallogin.user = member


def _join(person: Newcomer, provider: str, address: str) -> Member:
    member = Member(
        username=person.username,
        first_name=person.first_name,
        last_name=person.last_name,
        email=person.email,
    )
    member.set_unusable_password()
    member.save(force_insert=True)
    audit.record(member, "member.joined", member, {"by": provider}, address)
    return member


def _refuse(request: HttpRequest, name: str, why: str) -> None:
    audit.record(audit.GATEWAY, "member.refused", name, {"why": why}, address_of(request))
    raise ImmediateHttpResponse(render(request, "pages/not_let_in.html", {"why": why}, status=403))


def _is_let_in(provider: str, grant: Grant, names: set[str]) -> bool:
    """Whether the provider's groups make somebody one of us."""
    organisation = settings.GATEWAY_GITHUB_ORG.lower()
    in_organisation = bool(organisation) and f"{GITHUB}:{organisation}" in names
    return grant.is_mapped or (provider == GITHUB and in_organisation)


def _is_of_our_domain(sociallogin: SocialLogin) -> bool:
    """An address that the provider has verified, of a domain that the settings name."""
    domains = {domain.lower().lstrip("@") for domain in settings.GATEWAY_SSO_DOMAINS}
    # Some providers write words: `false` is one, too.
    return any(
        (each.verified is True or each.verified == "true")
        and each.email.rpartition("@")[2].lower() in domains
        for each in sociallogin.email_addresses
    )


def _manages(account: SocialAccount, member: Member) -> bool:
    """The provider by which a member came first says whether they still belong."""
    first = SocialAccount.objects.filter(user=member).order_by("pk").first()
    return first is not None and first.pk == account.pk


def groups_of(sociallogin: SocialLogin) -> set[str]:
    """The names of the groups that the provider says the person is in."""
    if sociallogin.account.provider == GITHUB:
        return _organisations(sociallogin)
    said = sociallogin.account.extra_data
    found: set[str] = set()
    for part in (said.get("id_token"), said.get("userinfo"), said):
        found |= _named(_claim(part, settings.GATEWAY_OIDC_GROUPS_CLAIM))
    # Only GitHub says who belongs to an organisation of GitHub, however a group is called elsewhere.
    return {name for name in found if not name.lower().startswith(f"{GITHUB}:")}


def _claim(said: Any, path: str) -> Any:
    """The claim of that name; `realm_access.roles` looks inside when no claim is named so."""
    if not isinstance(said, dict) or path in said:
        return said.get(path) if isinstance(said, dict) else None
    for part in path.split("."):
        said = said.get(part) if isinstance(said, dict) else None
    return said


def _named(value: Any) -> set[str]:
    """Groups as a list of names, or as one text with commas between them."""
    items: Iterable[Any] = value.split(",") if isinstance(value, str) else value or ()
    if not isinstance(items, list):
        return set()
    return {str(item).strip() for item in items[:MAX_GROUPS]} - {""}


def _organisations(sociallogin: SocialLogin) -> set[str]:
    """`github:<organisation>` for each that GitHub names; asked only when it matters."""
    if sociallogin.token is None or not (settings.GATEWAY_GITHUB_ORG or groups.is_used()):
        return set()
    headers = {
        "Authorization": f"Bearer {sociallogin.token.token}",
        "Accept": "application/vnd.github+json",
    }
    url = f"{GitHubOAuth2Adapter.api_url}/user/orgs?per_page=100"
    try:
        answer = requests.get(url, headers=headers, timeout=ORGS_TIMEOUT_S)
        answer.raise_for_status()
        rows = answer.json()
    except (requests.RequestException, ValueError) as error:
        # Not knowing is no reason to throw somebody out.
        logger.warning("GitHub does not name the organisations: %r", error)
        raise ImmediateHttpResponse(HttpResponseRedirect("/dashboard/sign-in/?sso=away")) from None
    found = {row["login"] for row in rows if isinstance(row, dict) and row.get("login")}
    return {f"{GITHUB}:{login.lower()}" for login in found}


def _newcomer(sociallogin: SocialLogin) -> Newcomer:
    """A person as the provider describes them, under a name that nobody has yet."""
    said: Member = sociallogin.user
    email = said.email or next((each.email for each in sociallogin.email_addresses), "")
    wish = said.username or email.partition("@")[0] or sociallogin.account.uid
    return Newcomer(
        free_name(wish),
        first_name=said.first_name[:MAX_NAME_CHARS],
        last_name=said.last_name[:MAX_NAME_CHARS],
        email=email,
    )


def free_name(wish: str) -> str:
    """`wish` as a user name, with a number behind it when somebody has it."""
    name = re.sub(r"[^\w.@+-]+", "-", wish).strip("-")[: MAX_NAME_CHARS - 8] or _("member")
    candidates = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
    return next(each for each in candidates if not is_taken(each))
