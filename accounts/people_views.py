"""What an administrator sets about people as a whole: invites, the notice, groups of the provider."""

from django.contrib import messages
from django.db import IntegrityError, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts import acceptable_use, audit, invites
from accounts.access import address_of, admin_page, member_of, overseer_page
from accounts.models import GroupMapping, Invite, Member, Role
from accounts.people_forms import GroupForm, InviteForm, NoticeForm
from accounts.sign_in_ways import ways


@admin_page
def new_invite(request: HttpRequest) -> HttpResponse:
    """The form, and after it the link: shown in this one answer and stored nowhere."""
    form = InviteForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        invite, token = invites.make(
            actor=member_of(request),
            role=Role(data["role"]),
            team=data["team"],
            email=data["email"],
            days=data["days"],
            address=address_of(request),
        )
        link = f"{request.scheme}://{request.get_host()}{reverse('join', args=[token])}"
        context = {"invite": invite, "link": link, "was_sent": invites.send(invite, link)}
        return render(request, "pages/invite_made.html", context)
    context = {"form": form, "can_send": invites.can_send()}
    return render(request, "pages/invite_new.html", context, status=400 if form.errors else 200)


@admin_page
@require_POST
def revoke_invite(request: HttpRequest, invite_id: int) -> HttpResponse:
    found = Invite.objects.filter(pk=invite_id).first()
    if found is None:
        raise Http404
    if invites.revoke(found, actor=member_of(request), address=address_of(request)):
        messages.success(request, _("The invite is refused from now on."))
    else:
        messages.info(request, _("The invite was used or had ended before."))
    return redirect("members")


@overseer_page
def edit_notice(request: HttpRequest) -> HttpResponse:
    """The text of the notice and who has agreed to it."""
    current = acceptable_use.current()
    form = NoticeForm(request.POST or None, initial={"text": current.text if current else ""})
    if request.method == "POST":
        if not member_of(request).is_superuser:
            raise Http404
        if form.is_valid():
            text = form.cleaned_data["text"].strip()
            if text == (current.text if current else ""):
                messages.info(request, _("The text is the same; nobody is asked again."))
            else:
                acceptable_use.publish(text, actor=member_of(request), address=address_of(request))
                messages.success(request, _("Published. Everybody is asked to agree to it."))
            return redirect("notice-edit")
    active = Member.objects.filter(is_active=True).order_by("username")
    context = {
        "form": form,
        "notice": current,
        "waiting": active.exclude(notice=current) if current else [],
        "agreed": active.filter(notice=current).count() if current else 0,
    }
    return render(request, "pages/notice_edit.html", context, status=400 if form.errors else 200)


@overseer_page
def groups(request: HttpRequest) -> HttpResponse:
    """Which group of the identity provider gives which role and team."""
    form = GroupForm(request.POST or None)
    if request.method == "POST":
        if not member_of(request).is_superuser:
            raise Http404
        if form.is_valid() and _map(request, form):
            return redirect("groups")
    context = {
        "form": form,
        "mappings": GroupMapping.objects.select_related("team"),
        "ways": ways(request, reverse("overview")),
    }
    return render(request, "pages/groups.html", context, status=400 if form.errors else 200)


def _map(request: HttpRequest, form: GroupForm) -> bool:
    name = form.cleaned_data["group"].strip()
    if name.lower().startswith("github:"):
        # GitHub does not tell the case of an organisation's name apart.
        name = name.lower()
    try:
        with transaction.atomic():
            mapping = GroupMapping.objects.create(
                group=name, role=form.cleaned_data["role"], team=form.cleaned_data["team"]
            )
    except IntegrityError:
        form.add_error("group", _("This group is mapped already."))
        return False
    detail = {"role": mapping.role, "team": str(mapping.team or "")}
    audit.record(member_of(request), "group.mapped", mapping, detail, address_of(request))
    return True


@admin_page
@require_POST
def remove_group(request: HttpRequest, mapping_id: int) -> HttpResponse:
    found = GroupMapping.objects.filter(pk=mapping_id).first()
    if found is None:
        raise Http404
    audit.record(member_of(request), "group.unmapped", found, {}, address_of(request))
    found.delete()
    messages.success(request, _("People of this group keep what they have until they sign in."))
    return redirect("groups")
