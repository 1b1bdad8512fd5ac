"""Pages of people: members, one member, teams, one team, and what an administrator does there."""

from datetime import datetime
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Count, Max, Prefetch, Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.timezone import now
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts import audit, keys, links, roles, second_factor, sessions
from accounts.access import (
    address_of,
    admin_page,
    member_of,
    overseer_page,
    page,
    sees_all,
)
from accounts.models import Account, ApiKey, BudgetRaise, Invite, Member, Role, Team
from accounts.people_forms import LimitsForm, MemberTeamForm, RaiseForm, TeamForm
from usage import charts, people
from usage.people import Spent

A_PAGE = 50
LINK_MINUTES = 60
INVITES_SHOWN = 50


# Members.


@overseer_page
def members(request: HttpRequest) -> HttpResponse:
    """Everybody, fifty a page, with invites above."""
    query = request.GET.get("q", "").replace("\x00", "").strip()[:100]
    rows = (
        Member.objects.select_related("team", "notice")
        .annotate(live_keys=Count("api_keys", filter=Q(api_keys__revoked_at=None)))
        .prefetch_related(Prefetch("accounts", queryset=Account.objects.order_by("login")))
        .order_by("-is_active", "username")
    )
    if query:
        named = Q(username__icontains=query) | Q(team__name__icontains=query)
        rows = rows.filter(named | Q(first_name__icontains=query) | Q(last_name__icontains=query))
    found = Paginator(rows, A_PAGE).get_page(request.GET.get("page"))
    ids = [member.pk for member in found]
    uses, sums = people.seven_days("member", ids), people.spent("member", ids)
    raises, seen = people.raised("member"), people.last_seen(ids)
    lines = [
        {
            "member": member,
            "use": uses.get(member.pk),
            "spark": charts.spark(uses[member.pk].days) if member.pk in uses else None,
            "budget": people.budget_of(
                member, sums.get(member.pk, Spent()), raises.get(member.pk, {})
            ),
            "seen": _latest(member.last_login, seen.get(member.pk)),
        }
        for member in found
    ]
    context = {
        "lines": lines,
        "found": found,
        "q": query,
        "invites": Invite.objects.select_related("team", "invited_by", "member")[:INVITES_SHOWN],
    }
    return render(request, "pages/members.html", context)


def _latest(*times: datetime | None) -> datetime | None:
    return max((at for at in times if at is not None), default=None)


def _member(name: str) -> Member:
    rows = Member.objects.select_related("team", "notice")
    found = rows.filter(username=name.replace("\x00", "")[:150]).first()
    if found is None:
        raise Http404
    return found


@overseer_page
def member(request: HttpRequest, name: str) -> HttpResponse:
    """One person; an administrator sets limits and budgets here."""
    found = _member(name)
    form = LimitsForm(request.POST or None, initial=LimitsForm.initial_of(found))
    if request.method == "POST":
        if not member_of(request).is_superuser:
            raise Http404
        if form.is_valid():
            changed = form.write(found)
            if changed:
                found.save(update_fields=[*changed, "updated_at"])
                audit.record(
                    member_of(request), "member.limits_changed", found, changed, address_of(request)
                )
            messages.success(request, _("Saved."))
            return redirect("member", found.get_username())
        found.refresh_from_db()
    return _member_page(request, found, form)


def _member_page(
    request: HttpRequest,
    found: Member,
    form: LimitsForm,
    *,
    raise_form: RaiseForm | None = None,
    link: str = "",
) -> HttpResponse:
    use = people.spent("member", [found.pk]).get(found.pk, Spent())
    days = people.seven_days("member", [found.pk]).get(found.pk)
    raises = BudgetRaise.objects.filter(member=found, ends_at__gt=now())
    extra: dict[str, int] = {}
    for each in raises:
        extra[each.period] = extra.get(each.period, 0) + each.extra_nano_aiu
    context = {
        "person": found,
        "form": form,
        "team_form": MemberTeamForm(initial={"team": found.team_id}),
        "raise_form": raise_form or RaiseForm(),
        "raises": raises,
        "use": use,
        "days": days,
        "spark": charts.spark(days.days) if days else None,
        "budget": people.budget_of(found, use, extra),
        "keys": ApiKey.objects.filter(owner=found).order_by("revoked_at", "name"),
        "accounts": Account.objects.filter(owner=found).order_by("login"),
        "visits": sessions.visits(found, None),
        "has_second_factor": second_factor.has_one(found),
        "roles": [role for role in Role if role != found.role],
        "is_self": found.pk == member_of(request).pk,
        "link": link,
        "minutes": LINK_MINUTES,
    }
    has_errors = form.errors or (raise_form is not None and raise_form.errors)
    return render(request, "pages/member.html", context, status=400 if has_errors else 200)


@admin_page
@require_POST
def act_on_member(request: HttpRequest, name: str, action: str) -> HttpResponse:
    """One of the buttons of a person's page."""
    found, actor = _member(name), member_of(request)
    known: dict[str, Any] = {
        "disable": _disable,
        "enable": _enable,
        "sign-out": _sign_out,
        "drop-second-factor": _drop_second_factor,
        "team": _set_team,
        **{f"make-{role.value}": _set_role for role in Role},
    }
    if action == "link":
        return _sign_in_link(request, found, actor)
    if action not in known:
        raise Http404
    try:
        known[action](request, found, actor, action)
    except roles.LastAdministrator as error:
        messages.error(request, _(error.message))
    return redirect("member", found.get_username())


def _disable(request: HttpRequest, found: Member, actor: Member, action: str) -> None:
    if found.pk == actor.pk:
        messages.error(request, _("Another administrator has to do this."))
        return
    roles.disable(found, actor=actor, why="by an administrator", address=address_of(request))
    messages.success(
        request,
        _("%(name)s is disabled; keys are revoked, sessions have ended.")
        % {"name": found.display_name},
    )


def _enable(request: HttpRequest, found: Member, actor: Member, action: str) -> None:
    roles.enable(found, actor=actor, why="by an administrator", address=address_of(request))
    messages.success(
        request, _("%(name)s may sign in again, and needs new keys.") % {"name": found.display_name}
    )


def _sign_out(request: HttpRequest, found: Member, actor: Member, action: str) -> None:
    keep = request.session.session_key if found.pk == actor.pk else None
    count = sessions.end_all(found, keep=keep)
    audit.record(actor, "member.signed_out", found, {"sessions": count}, address_of(request))
    messages.success(request, _("%(count)d sessions have ended.") % {"count": count})


def _drop_second_factor(request: HttpRequest, found: Member, actor: Member, action: str) -> None:
    second_factor.drop(found, actor=actor, address=address_of(request))
    messages.success(
        request,
        _("%(name)s signs in without a second factor now.") % {"name": found.display_name},
    )


def _set_team(request: HttpRequest, found: Member, actor: Member, action: str) -> None:
    form = MemberTeamForm(request.POST)
    if not form.is_valid():
        raise Http404
    before, after = found.team, form.cleaned_data["team"]
    if before == after:
        return
    found.team = after
    found.save(update_fields=["team", "updated_at"])
    detail = {"before": str(before or ""), "after": str(after or "")}
    audit.record(actor, "member.team_changed", found, detail, address_of(request))
    keys.ring.refresh(force=True)
    messages.success(request, _("Saved."))


def _set_role(request: HttpRequest, found: Member, actor: Member, action: str) -> None:
    role = Role(action.removeprefix("make-"))
    if roles.set_role(found, role, actor=actor, address=address_of(request)):
        words = {"name": found.display_name, "role": role.label}
        messages.success(request, _("%(name)s: %(role)s.") % words)


def _sign_in_link(request: HttpRequest, found: Member, actor: Member) -> HttpResponse:
    """A link that signs the member in once: for who has lost a password. Shown this once."""
    if not found.is_active:
        raise Http404
    token = links.make(found, minutes=LINK_MINUTES, asks_factor=True)
    audit.record(actor, "member.link_made", found, {}, address_of(request))
    link = f"{request.scheme}://{request.get_host()}/dashboard/?signin={token}"
    form = LimitsForm(initial=LimitsForm.initial_of(found))
    return _member_page(request, found, form, link=link)


# Raises.


def _raise(request: HttpRequest, form: RaiseForm, **subject: Any) -> None:
    given = BudgetRaise.objects.create(
        period=form.cleaned_data["period"],
        extra_nano_aiu=form.extra_nano_aiu,
        reason=form.cleaned_data["reason"],
        granted_by=member_of(request).get_username(),
        ends_at=form.cleaned_data["last_day"],
        **subject,
    )
    detail = {
        "period": given.period,
        "credits": form.cleaned_data["extra"],
        "reason": given.reason,
        "ends_at": given.ends_at.isoformat(),
    }
    (target,) = subject.values()
    audit.record(member_of(request), "budget.raised", target, detail, address_of(request))
    messages.success(request, _("The budget is raised."))


@admin_page
@require_POST
def raise_member(request: HttpRequest, name: str) -> HttpResponse:
    found, form = _member(name), RaiseForm(request.POST)
    if not form.is_valid():
        limits = LimitsForm(initial=LimitsForm.initial_of(found))
        return _member_page(request, found, limits, raise_form=form)
    _raise(request, form, member=found)
    return redirect("member", found.get_username())


@admin_page
@require_POST
def raise_team(request: HttpRequest, team_id: int) -> HttpResponse:
    found, form = _team(team_id), RaiseForm(request.POST)
    if not form.is_valid():
        return _team_page(request, found, raise_form=form)
    _raise(request, form, team=found)
    return redirect("team", found.pk)


@admin_page
@require_POST
def end_raise(request: HttpRequest, raise_id: int) -> HttpResponse:
    """End a raise now; the row stays to be read later."""
    found = BudgetRaise.objects.select_related("member", "team", "key").filter(pk=raise_id).first()
    if found is None:
        raise Http404
    if found.ends_at > now():
        found.ends_at = now()
        found.save(update_fields=["ends_at", "updated_at"])
        audit.record(member_of(request), "budget.raise_ended", found, {}, address_of(request))
        messages.success(request, _("The raise has ended."))
    if found.member is not None:
        return redirect("member", found.member.get_username())
    if found.team is not None:
        return redirect("team", found.team.pk)
    assert found.key is not None
    return redirect("key", found.key.prefix)


# Teams.


@overseer_page
def teams(request: HttpRequest) -> HttpResponse:
    form = TeamForm(request.POST or None)
    if request.method == "POST":
        if not member_of(request).is_superuser:
            raise Http404
        if form.is_valid():
            made = Team()
            form.write(made)
            made.save()
            audit.record(member_of(request), "team.made", made, {}, address_of(request))
            return redirect("team", made.pk)
    rows = Team.objects.select_related("lead", "pool").annotate(
        people=Count("members", filter=Q(members__is_active=True)),
        seen=Max("members__last_login"),
    )
    sums, uses, raises = (
        people.spent("team"),
        people.seven_days("team"),
        people.raised("team"),
    )
    lines = [
        {
            "team": each,
            "spent": sums.get(each.pk, Spent()),
            "spark": charts.spark(uses[each.pk].days) if each.pk in uses else None,
            "budget": people.budget_of(each, sums.get(each.pk, Spent()), raises.get(each.pk, {})),
        }
        for each in rows
    ]
    context = {"lines": lines, "form": form}
    return render(request, "pages/teams.html", context, status=400 if form.errors else 200)


def _team(team_id: int) -> Team:
    found: Team | None = Team.objects.select_related("lead", "pool").filter(pk=team_id).first()
    if found is None:
        raise Http404
    return found


@page
def team(request: HttpRequest, team_id: int) -> HttpResponse:
    """One team: for who sees all, and for its lead, who sees sums only."""
    found = _team(team_id)
    person = member_of(request)
    if not sees_all(request) and found.lead_id != person.pk:
        raise Http404
    if request.method != "POST":
        return _team_page(request, found)
    if not person.is_superuser:
        raise Http404
    facts, limits = TeamForm(request.POST, team=found), LimitsForm(request.POST)
    if not (facts.is_valid() and limits.is_valid()):
        return _team_page(request, found, facts=facts, limits=limits)
    changed = facts.write(found) | limits.write(found)
    if changed:
        found.save(update_fields=[*changed, "updated_at"])
        audit.record(person, "team.changed", found, changed, address_of(request))
        keys.ring.refresh(force=True)
    messages.success(request, _("Saved."))
    return redirect("team", found.pk)


def _team_page(
    request: HttpRequest,
    found: Team,
    *,
    facts: TeamForm | None = None,
    limits: LimitsForm | None = None,
    raise_form: RaiseForm | None = None,
) -> HttpResponse:
    use = people.spent("team", [found.pk]).get(found.pk, Spent())
    days = people.seven_days("team", [found.pk]).get(found.pk)
    raises = BudgetRaise.objects.filter(team=found, ends_at__gt=now())
    by_member = people.in_team(found)
    lines = [
        {"member": each, "spent": by_member.pop(each.pk, Spent())}
        for each in people.members_of(found)
    ]
    # Who was in the team this month and is not now; what they spent stays the team's.
    gone = Member.objects.filter(pk__in=list(by_member))
    lines += [{"member": each, "spent": by_member[each.pk], "has_left": True} for each in gone]
    context = {
        "team": found,
        "facts": facts or TeamForm(team=found),
        "limits": limits or LimitsForm(initial=LimitsForm.initial_of(found)),
        "raise_form": raise_form or RaiseForm(),
        "raises": raises,
        "use": use,
        "days": days,
        "spark": charts.spark(days.days) if days else None,
        "budget": people.budget_of(found, use, people.raised("team").get(found.pk, {})),
        "lines": lines,
        "has_full_view": sees_all(request),
    }
    forms = [form for form in (facts, limits, raise_form) if form is not None]
    has_errors = any(form.errors for form in forms)
    return render(request, "pages/team.html", context, status=400 if has_errors else 200)


@admin_page
@require_POST
def delete_team(request: HttpRequest, team_id: int) -> HttpResponse:
    """Its members stay, without a team; its limits and raises go with it."""
    found = _team(team_id)
    name = found.name
    found.delete()
    audit.record(member_of(request), "team.deleted", name, {"team": team_id}, address_of(request))
    keys.ring.refresh(force=True)
    messages.success(request, _("The team %(name)s is gone.") % {"name": name})
    return redirect("teams")
