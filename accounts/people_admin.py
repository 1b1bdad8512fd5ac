"""The admin of people: members, teams, invites, groups, the notice, raises, ways of signing in."""

from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Group
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.timesince import timeuntil
from django.utils.timezone import now
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserCreationForm

from accounts import acceptable_use, audit, invites, keys, roles, second_factor, sessions
from accounts.access import address_of
from accounts.admin_acts import NotDone, act, by, is_self, way
from accounts.admin_forms import GroupForm, MemberForm, NoticeForm, RaiseModelForm, TeamForm
from accounts.admin_limits import LIMIT_FIELDS, RULE_FIELDS, Limits
from accounts.admin_rules import Administrators, ReadOnly, actor_of
from accounts.models import (
    BudgetRaise,
    GroupMapping,
    Invite,
    Member,
    Notice,
    Role,
    SignInLink,
    Team,
)

# Rights come from roles, mail addresses are a member's own, providers stand in the settings; tokens
# and secrets of providers have no page at all.
for _unused in (Group, EmailAddress, SocialApp, SocialToken):
    if admin.site.is_registered(_unused):
        admin.site.unregister(_unused)
for _replaced in (SocialAccount, Authenticator):
    if admin.site.is_registered(_replaced):
        admin.site.unregister(_replaced)


def _keys_of(member: Member) -> list[str]:
    return [str(key) for key in member.api_keys.filter(revoked_at=None).order_by("name")[:50]]


class RoleFilter(admin.SimpleListFilter):
    title = _("role")
    parameter_name = "role"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(role.value, role.label) for role in Role]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == Role.ADMIN:
            return queryset.filter(is_superuser=True)
        if self.value() == Role.AUDITOR:
            return queryset.filter(is_auditor=True)
        if self.value() == Role.MEMBER:
            return queryset.filter(is_superuser=False, is_auditor=False)
        return queryset


@admin.register(Member)
class MemberAdmin(Limits, Administrators, UserAdmin, ModelAdmin):  # type: ignore[misc, type-arg]
    """People of the team. An inactive member's keys are refused within two seconds."""

    form = MemberForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = (
        "username",
        "email",
        "shown_role",
        "team",
        "is_active",
        "active_keys",
        "notice_agreed_at",
        "last_login",
        "limits",
    )
    list_filter = (RoleFilter, "is_active", "team", "is_managed")
    list_select_related = ("team",)
    list_per_page = 50
    search_fields = ("username", "first_name", "last_name", "email")
    date_hierarchy = "date_joined"
    fieldsets = (
        (None, {"fields": ("username", "signs_in", "first_name", "last_name", "email")}),
        (_("Rights"), {"fields": ("shown_role", "is_active", "team", "is_managed", "left_at")}),
        LIMIT_FIELDS,
        RULE_FIELDS,
        (_("Preferences"), {"fields": ("time_zone", "language", "theme")}),
        (_("Times"), {"fields": ("last_login", "date_joined", "notice_agreed_at")}),
    )
    autocomplete_fields = ("team",)
    # Rights change by the actions and the members page, which keep one administrator at least.
    readonly_fields = (
        "signs_in",
        "shown_role",
        "is_active",
        "is_managed",
        "left_at",
        "last_login",
        "date_joined",
        "notice_agreed_at",
    )
    filter_horizontal = ()
    actions = (
        "make_administrator",
        "make_auditor",
        "make_member",
        "disable",
        "enable",
        "end_sessions",
        "drop_factor",
    )
    actions_row = actions
    actions_detail = (
        "disable",
        {
            "title": _("More"),
            "icon": "more_horiz",
            "items": [name for name in actions if name != "disable"],
        },
    )
    actions_list = ("invite",)
    list_fullwidth = True

    def get_queryset(self, request: HttpRequest) -> Any:
        active = Count("api_keys", filter=Q(api_keys__revoked_at=None))
        rows: QuerySet[Any] = super().get_queryset(request)
        return rows.annotate(key_count=active)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Nobody deletes the last administrator; whoever is one is made a member first.
        is_one = isinstance(obj, Member) and obj.is_superuser
        return self._may(request) and not is_one

    def save_model(self, request: HttpRequest, obj: Member, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        keys.ring.refresh(force=True)

    @admin.display(description=_("role"))
    def shown_role(self, member: Member) -> str:
        return str(member.role.label)

    @admin.display(description=_("keys"), ordering="key_count")
    def active_keys(self, member: Any) -> int:
        return int(member.key_count)

    @admin.display(description=_("signs in"))
    def signs_in(self, member: Member) -> str:
        factor = _("with a second factor") if second_factor.has_one(member) else ""
        if not member.has_usable_password():
            return f"{_('without a password')} {factor}".strip()
        address = reverse("admin:auth_user_password_change", args=[member.pk])
        change = format_html('<a href="{}">{}</a>', address, _("Change password"))
        return format_html("{} {} · {}", _("by password"), factor, change)

    @way(_("Invite"), icon="mail")
    def invite(self, request: HttpRequest) -> HttpResponseBase:
        return redirect("invite-new")

    def _set_role(self, request: HttpRequest, member: Member, role: Role) -> str:
        try:
            if not roles.set_role(member, role, **by(request)):
                raise NotDone(_("This is their role already."))
        except roles.LastAdministrator as error:
            raise NotDone(_(error.message)) from None
        return f"{member}: {role.label}."

    @act(_("Make administrator"), says=_("They may see and change everything."), is_grave=True)
    def make_administrator(self, request: HttpRequest, member: Member, data: Any) -> str:
        return self._set_role(request, member, Role.ADMIN)

    @act(_("Make auditor"), says=_("They see everything and change nothing."))
    def make_auditor(self, request: HttpRequest, member: Member, data: Any) -> str:
        return self._set_role(request, member, Role.AUDITOR)

    @act(_("Make member"), says=_("They keep their own keys and see their own use only."))
    def make_member(self, request: HttpRequest, member: Member, data: Any) -> str:
        return self._set_role(request, member, Role.MEMBER)

    @act(
        _("Disable, with all their keys"),
        says=_("These people are signed out. These keys are refused from now on, for good:"),
        touched=_keys_of,
        is_grave=True,
    )
    def disable(self, request: HttpRequest, member: Member, data: Any) -> str:
        if is_self(request, member):
            raise NotDone(_("Another administrator has to do this."))
        try:
            was_active = roles.disable(member, why="by an administrator", **by(request))
        except roles.LastAdministrator as error:
            raise NotDone(_(error.message)) from None
        if not was_active:
            raise NotDone(_("This member was disabled before."))
        return f"{member}: disabled, keys revoked."

    @act(_("Enable"), says=_("They may sign in again, and need new keys."), asks=False)
    def enable(self, request: HttpRequest, member: Member, data: Any) -> str:
        if not roles.enable(member, why="by an administrator", **by(request)):
            raise NotDone(_("This member is active."))
        return f"{member}: enabled."

    @act(_("End all sessions"), says=_("They have to sign in again in every browser."))
    def end_sessions(self, request: HttpRequest, member: Member, data: Any) -> str:
        keep = request.session.session_key if is_self(request, member) else None
        count = sessions.end_all(member, keep=keep)
        audit.record(
            actor_of(request),
            "member.signed_out",
            member,
            {"sessions": count},
            address_of(request),
        )
        return f"{member}: {count} sessions have ended."

    @act(
        _("Take the second factor away"),
        says=_("They sign in without a second factor until they set up another."),
        is_grave=True,
    )
    def drop_factor(self, request: HttpRequest, member: Member, data: Any) -> str:
        if not second_factor.has_one(member):
            raise NotDone(_("There is no second factor."))
        second_factor.drop(member, **by(request))
        return f"{member}: no second factor any more."


@admin.register(Team)
class TeamAdmin(Limits, Administrators, ModelAdmin):  # type: ignore[misc]
    """Teams; their members stay when a team is deleted."""

    form = TeamForm
    list_display = ("name", "cost_centre", "lead", "pool", "people", "limits", "updated_at")
    list_filter = ("pool",)
    list_select_related = ("lead", "pool")
    search_fields = ("name", "cost_centre", "lead__username")
    autocomplete_fields = ("lead", "pool")
    fieldsets = (
        (None, {"fields": ("name", "cost_centre", "lead", "pool")}),
        LIMIT_FIELDS,
        RULE_FIELDS,
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        rows: QuerySet[Any] = super().get_queryset(request)
        return rows.annotate(count=Count("members", filter=Q(members__is_active=True)))

    @admin.display(description=_("members"), ordering="count")
    def people(self, team: Any) -> int:
        return int(team.count)

    def save_model(self, request: HttpRequest, obj: Team, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        keys.ring.refresh(force=True)


class OpenFilter(admin.SimpleListFilter):
    """Invites by whether they can still be used."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("open", _("open")), ("used", _("used")), ("ended", _("revoked or expired"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        is_open = Q(used_at=None, revoked_at=None, expires_at__gt=now())
        if self.value() == "open":
            return queryset.filter(is_open)
        if self.value() == "used":
            return queryset.exclude(used_at=None)
        if self.value() == "ended":
            return queryset.filter(used_at=None).exclude(is_open)
        return queryset


@admin.register(Invite)
class InviteAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    """Invites are made on the invite page, which shows the link once."""

    list_display = ("email", "role", "team", "state", "invited_by", "created_at", "ends", "member")
    list_filter = (OpenFilter, "role")
    list_select_related = ("team", "invited_by", "member")
    search_fields = ("email", "member__username", "invited_by__username")
    date_hierarchy = "created_at"
    list_display_links = ("email", "role")
    actions = ("revoke",)
    actions_detail = actions_row = actions
    actions_list = ("invite",)

    @admin.display(description=_("ends"), ordering="expires_at")
    def ends(self, invite: Invite) -> str:
        return timeuntil(invite.expires_at) if invite.state == "open" else "–"

    @way(_("Invite"), icon="mail")
    def invite(self, request: HttpRequest) -> HttpResponseBase:
        return redirect("invite-new")

    @act(_("Revoke"), says=_("The link of this invite is refused from now on."), is_grave=True)
    def revoke(self, request: HttpRequest, invite: Invite, data: Any) -> str:
        if not invites.revoke(invite, **by(request)):
            raise NotDone(_("The invite was used or had ended before."))
        return f"{invite}: revoked."


@admin.register(GroupMapping)
class GroupMappingAdmin(Administrators, ModelAdmin):  # type: ignore[misc]
    """Which group of the identity provider gives which role and team, at the next sign-in."""

    form = GroupForm
    list_display = ("group", "role", "team")
    list_filter = ("role",)
    list_select_related = ("team",)
    search_fields = ("group", "team__name")
    autocomplete_fields = ("team",)


@admin.register(Notice)
class NoticeAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    """Texts of acceptable use. A new one is published; what people agreed to is not rewritten."""

    form = NoticeForm
    list_display = ("published_at", "published_by", "beginning", "agreed")
    search_fields = ("text", "published_by")
    date_hierarchy = "published_at"
    fields = ("text",)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request)

    def get_queryset(self, request: HttpRequest) -> Any:
        rows: QuerySet[Any] = super().get_queryset(request)
        agreed = Member.objects.filter(notice=OuterRef("pk")).order_by().values("notice")
        count = Subquery(agreed.annotate(n=Count("pk")).values("n"))
        return rows.annotate(agreed_count=Coalesce(count, 0))

    def save_model(self, request: HttpRequest, obj: Notice, form: Any, change: bool) -> None:
        published = acceptable_use.publish(obj.text, **by(request))
        obj.pk = published.pk
        obj.published_at, obj.published_by = published.published_at, published.published_by

    @admin.display(description=_("text"))
    def beginning(self, notice: Notice) -> str:
        return notice.text[:80] or "–"

    @admin.display(description=_("agreed"))
    def agreed(self, notice: Any) -> int:
        return int(notice.agreed_count)


class RunningFilter(admin.SimpleListFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("running", _("running")), ("ended", _("ended"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "running":
            return queryset.filter(ends_at__gt=now())
        if self.value() == "ended":
            return queryset.filter(ends_at__lte=now())
        return queryset


@admin.register(BudgetRaise)
class BudgetRaiseAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    """Raises are given and ended; the row stays to be read later."""

    form = RaiseModelForm
    list_display = ("subject", "period", "extra_credits", "reason", "granted_by", "ends_at", "ends")
    list_filter = (RunningFilter, "period")
    list_select_related = ("key", "member", "team")
    search_fields = ("key__name", "member__username", "team__name", "reason", "granted_by")
    date_hierarchy = "created_at"
    autocomplete_fields = ("key", "member", "team")
    actions = ("end",)
    actions_detail = actions_row = actions

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        subject = ("key", "member", "team", "period")
        if obj is None:
            return (*subject, "extra", "last_day", "reason")
        return (*subject, "extra_credits", "reason", "granted_by", "created_at", "ends_at")

    def save_model(self, request: HttpRequest, obj: BudgetRaise, form: Any, change: bool) -> None:
        obj.granted_by = actor_of(request).get_username()
        super().save_model(request, obj, form, change)
        detail = {
            "period": obj.period,
            "credits": form.cleaned_data["extra"],
            "reason": obj.reason,
            "ends_at": obj.ends_at.isoformat(),
        }
        target = obj.key or obj.member or obj.team or ""
        audit.record(actor_of(request), "budget.raised", target, detail, address_of(request))
        keys.ring.refresh(force=True)

    @admin.display(description=_("for"))
    def subject(self, row: BudgetRaise) -> str:
        return str(row.key or row.member or row.team)

    @admin.display(description=_("credits more"), ordering="extra_nano_aiu")
    def extra_credits(self, row: BudgetRaise) -> str:
        return f"{row.extra_nano_aiu / 1e9:g}"

    @admin.display(description=_("left"))
    def ends(self, row: BudgetRaise) -> str:
        return timeuntil(row.ends_at) if row.ends_at > now() else str(_("ended"))

    @act(_("End now"), says=_("From now on the ordinary budget counts again."))
    def end(self, request: HttpRequest, row: BudgetRaise, data: Any) -> str:
        if row.ends_at <= now():
            raise NotDone(_("This raise has ended before."))
        row.ends_at = now()
        row.save(update_fields=["ends_at", "updated_at"])
        audit.record(actor_of(request), "budget.raise_ended", row, {}, address_of(request))
        keys.ring.refresh(force=True)
        return f"{row}: ended."


@admin.register(SignInLink)
class SignInLinkAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    """One-use links: whose, until when, used or not."""

    list_display = ("member", "expires_at", "used_at", "asks_factor")
    list_select_related = ("member",)
    search_fields = ("member__username",)
    date_hierarchy = "expires_at"
    exclude = ("digest",)


@admin.register(SocialAccount)
class SocialAccountAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    """Who is whom at the identity provider; what the provider said of them is not shown."""

    list_display = ("user", "provider", "uid", "last_login", "date_joined")
    list_filter = ("provider",)
    list_select_related = ("user",)
    search_fields = ("user__username", "uid")
    date_hierarchy = "date_joined"
    exclude = ("extra_data",)


@admin.register(Authenticator)
class AuthenticatorAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    """Second factors: whose, of which kind, last used when. Their secrets have no page."""

    list_display = ("user", "type", "created_at", "last_used_at")
    list_filter = ("type",)
    list_select_related = ("user",)
    search_fields = ("user__username",)
    date_hierarchy = "created_at"
    fields = ("user", "type", "created_at", "last_used_at")

    def get_queryset(self, request: HttpRequest) -> Any:
        rows: QuerySet[Any] = super().get_queryset(request)
        return rows.defer("data")
