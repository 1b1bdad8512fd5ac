"""Pages of one's own: the notice to agree to, joining by an invite, language, sessions."""

from allauth.account.internal.flows.reauthentication import did_recently_reauthenticate
from allauth.core.exceptions import ReauthenticationRequired
from django import forms
from django.conf import settings
from django.contrib import messages
from django.db import IntegrityError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import translation
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts import acceptable_use, audit, invites, sessions, sso, tries
from accounts.access import address_of, member_of, own_page
from accounts.access import sign_in as begin_session
from accounts.models import Invite, Member
from accounts.people_forms import JoinForm
from accounts.sign_in_ways import ways


@own_page
def notice(request: HttpRequest) -> HttpResponse:
    """The notice of acceptable use, with the button that agrees to it."""
    member = member_of(request)
    current = acceptable_use.current()
    status = 200
    if request.method == "POST":
        given = request.POST.get("notice", "")
        number = int(given) if given.isascii() and given.isdigit() and len(given) < 19 else 0
        if acceptable_use.agree(member, number, address=address_of(request)):
            messages.success(request, _("Noted. Your keys work."))
            return redirect("notice")
        messages.error(request, _("The text has changed meanwhile. Read it once more."))
        status = 409
    context = {"notice": current, "has_agreed": acceptable_use.owed_by(member) is None}
    return render(request, "pages/notice.html", context, status=status)


def join(request: HttpRequest, token: str) -> HttpResponseBase:
    """Where an invite leads: a name and a password, or a provider, and one is a member."""
    if tries.LINK.are_used_up(address_of(request)):
        return render(request, "pages/join_ended.html", {"state": "unknown"}, status=429)
    invite = invites.find(token)
    if invite is None:
        tries.LINK.count(address_of(request))
        return render(request, "pages/join_ended.html", {"state": "unknown"}, status=404)
    if invite.state != "open":
        return render(request, "pages/join_ended.html", {"state": invite.state}, status=410)
    if isinstance(request.user, Member):
        return render(request, "pages/join_ended.html", {"state": "signed_in"}, status=409)
    # A sign-in at a provider comes back without the link.
    request.session[sso.INVITE_IN_SESSION] = invite.pk
    form = JoinForm(request.POST or None, initial={"email": invite.email})
    if request.method == "POST" and form.is_valid():
        try:
            member = _accept(request, invite, form)
        except invites.InviteEnded:
            return render(request, "pages/join_ended.html", {"state": "used"}, status=410)
        if member is not None:
            request.session.pop(sso.INVITE_IN_SESSION, None)
            begin_session(request, member)
            return redirect("overview")
    context = {"form": form, "invite": invite, "ways": ways(request, "/dashboard/")}
    return render(request, "pages/join.html", context, status=400 if form.errors else 200)


def _accept(request: HttpRequest, invite: Invite, form: JoinForm) -> Member | None:
    """The new member, None when the name was taken while the form was on its way."""
    try:
        return invites.accept(invite, form.newcomer(), by="password", address=address_of(request))
    except IntegrityError:
        form.add_error("username", _("Somebody has this name already."))
        return None


class LanguageForm(forms.Form):
    language = forms.ChoiceField(choices=[("", ""), *settings.LANGUAGES], required=False)


@own_page
@require_POST
def language(request: HttpRequest) -> HttpResponse:
    """Kept with the member for every browser; empty: as the browser says."""
    form = LanguageForm(request.POST)
    if not form.is_valid():
        raise Http404
    member = member_of(request)
    member.language = form.cleaned_data["language"]
    member.save(update_fields=["language", "updated_at"])
    response = redirect("me")
    if member.language:
        translation.activate(member.language)
        response.set_cookie(
            settings.LANGUAGE_COOKIE_NAME,
            member.language,
            max_age=365 * 86400,
            samesite="Lax",
            secure=settings.SESSION_COOKIE_SECURE,
        )
    else:
        response.delete_cookie(settings.LANGUAGE_COOKIE_NAME)
    return response


@own_page
@require_POST
def end_session(request: HttpRequest) -> HttpResponse:
    """End one other session, or all others; who asks has just shown who they are."""
    if not did_recently_reauthenticate(request):
        # The page that asks for it goes on here afterwards.
        raise ReauthenticationRequired
    member, name = member_of(request), request.POST.get("session", "")
    if name == "others":
        count = sessions.end_all(member, keep=request.session.session_key)
        audit.record(
            member, "member.sessions_ended", member, {"sessions": count}, address_of(request)
        )
        messages.success(request, _("%(count)d other sessions have ended.") % {"count": count})
    elif sessions.end(member, name):
        audit.record(member, "member.sessions_ended", member, {"sessions": 1}, address_of(request))
        messages.success(request, _("The session has ended."))
    else:
        messages.info(request, _("This session had ended already."))
    return redirect("me")
