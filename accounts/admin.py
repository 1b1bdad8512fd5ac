"""The admin of accounts, for data surgery. Secrets are never shown; every act is audited.

Acts are list actions and so POST with a CSRF token: following a link changes nothing.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.timesince import timesince, timeuntil
from django.utils.timezone import now
from django.utils.translation import gettext_lazy as _
from kombu.exceptions import OperationalError as BrokerAway
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from accounts import audit, keys, states, tasks
from accounts.access import address_of
from accounts.models import (
    Account,
    ApiKey,
    AuditEntry,
    DeviceLogin,
    Member,
    SignInLink,
    UpstreamProfile,
)

State = Account.State


def actor_of(request: HttpRequest) -> Member:
    assert isinstance(request.user, Member)
    return request.user


class Administrators:
    """For administrators only, whatever single permissions a member was given; all audited."""

    def _may(self, request: HttpRequest) -> bool:
        return bool(request.user.is_active and request.user.is_superuser)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self._may(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self._may(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request)

    def log_addition(self, request: HttpRequest, obj: Model, message: Any) -> Any:
        self._record(request, "added", obj, message)
        return super().log_addition(request, obj, message)  # type: ignore[misc]

    def log_change(self, request: HttpRequest, obj: Model, message: Any) -> Any:
        self._record(request, "changed", obj, message)
        return super().log_change(request, obj, message)  # type: ignore[misc]

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        for obj in queryset:
            self._record(request, "deleted", obj, "")
        return super().log_deletions(request, queryset)  # type: ignore[misc]

    def _record(self, request: HttpRequest, act: str, obj: Model, message: Any) -> None:
        # The message names the fields that changed, never their values.
        detail = {"id": str(obj.pk), "what": message} if message else {"id": str(obj.pk)}
        action = f"{obj._meta.model_name}.{act}"
        audit.record(actor_of(request), action, obj, detail, address_of(request))


class ReadOnly(Administrators):
    """Rows that only the gateway writes."""

    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Account)
class AccountAdmin(Administrators, ModelAdmin):  # type: ignore[misc]
    """Accounts are added by signing in to GitHub; here they are steered."""

    list_display = (
        "login",
        "host",
        "owner",
        "state",
        "plan",
        "quota_age",
        "token_ends",
        "last_error",
        "sign_in_again",
    )
    list_filter = ("state", "host", "account_type", "credential_kind")
    search_fields = ("login", "owner__username", "state_reason", "refresh_error")
    list_select_related = ("owner",)
    list_per_page = 50
    exclude = ("github_token", "copilot_token")
    autocomplete_fields = ("owner",)
    # What an administrator decides; everything else is GitHub's word or the gateway's.
    editable = frozenset({"owner", "account_type"})
    actions = ("refresh_now", "pause", "resume", "unfreeze")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        hidden = {*self.exclude, "id"}
        names = [field.name for field in Account._meta.fields]
        return [name for name in names if name not in self.editable | hidden]

    @admin.display(description=_("quota checked"))
    def quota_age(self, account: Account) -> str:
        at = account.quota_polled_at
        return f"{timesince(at)} ago" if at else "never"

    @admin.display(description=_("token ends"))
    def token_ends(self, account: Account) -> str:
        if account.token_fetched_at is None:
            return "no token"
        if account.credential_kind == Account.CredentialKind.DIRECT:
            return "sent directly"
        ends_at: datetime = account.token_fetched_at + timedelta(seconds=account.token_lifetime_s)
        return f"in {timeuntil(ends_at)}" if ends_at > now() else "ended"

    @admin.display(description=_("last error"))
    def last_error(self, account: Account) -> str:
        unwell = account.state not in (State.ACTIVE, State.PAUSED)
        text = account.refresh_error or account.quota_error
        return (account.state_reason if unwell and account.state_reason else text) or "–"

    @admin.display(description=_("sign in"))
    def sign_in_again(self, account: Account) -> str:
        try:
            return format_html('<a href="{}">{}</a>', reverse("connect"), _("Sign in again"))
        except NoReverseMatch:
            return ""

    @admin.action(description=_("Refresh token now"), permissions=["change"])
    def refresh_now(self, request: HttpRequest, queryset: QuerySet[Account]) -> None:
        for account in queryset:
            self._record(request, "refresh_asked", account, "")
            try:
                task = tasks.refresh_account.delay(account.pk)
            except BrokerAway:
                self.message_user(
                    request,
                    _("The task queue is away. Check Redis, then try again."),
                    messages.ERROR,
                )
                return
            self.message_user(request, f"{account.login}: task {task.id} refreshes the token.")

    @admin.action(description=_("Pause: take out of service"), permissions=["change"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Account]) -> None:
        self._move(request, queryset, State.PAUSED, lambda state: state != State.FROZEN)

    @admin.action(description=_("Resume paused accounts"), permissions=["change"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Account]) -> None:
        self._move(request, queryset, State.ACTIVE, lambda state: state == State.PAUSED)

    @admin.action(description=_("Unfreeze: release frozen accounts"), permissions=["change"])
    def unfreeze(self, request: HttpRequest, queryset: QuerySet[Account]) -> None:
        self._move(request, queryset, State.ACTIVE, lambda state: state == State.FROZEN)

    def _move(
        self,
        request: HttpRequest,
        queryset: QuerySet[Account],
        state: str,
        fits: Callable[[str], bool],
    ) -> None:
        """Put the chosen accounts that `fits` into `state`, and say what was done to which."""
        moved = [account for account in queryset if fits(account.state)]
        actor, address = actor_of(request), address_of(request)
        for account in moved:
            reason = f"Set by {actor.get_username()}."
            states.set_state(account, state, reason, None, actor, address)
        named = ", ".join(account.login for account in moved)
        label = State(state).label
        if moved:
            self.message_user(request, f"{named}: {label}.")
        else:
            self.message_user(request, _("None of these accounts was changed."), messages.WARNING)


@admin.register(ApiKey)
class ApiKeyAdmin(Administrators, ModelAdmin):  # type: ignore[misc]
    """Keys are made on the keys page, which shows the secret once; here limits are changed."""

    list_display = (
        "name",
        "shown_prefix",
        "owner",
        "state",
        "account",
        "expires_at",
        "last_used_at",
    )
    list_filter = ("is_admin", "needs_approval", "allows_web_search")
    search_fields = ("name", "prefix", "owner__username")
    list_select_related = ("owner", "account")
    list_per_page = 50
    exclude = ("digest",)
    readonly_fields = ("prefix", "owner", "revoked_at", "created_at", "updated_at", "last_used_at")
    autocomplete_fields = ("account",)
    actions = ("revoke",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    @admin.display(description=_("prefix"), ordering="prefix")
    def shown_prefix(self, key: ApiKey) -> str:
        return f"{key.prefix}…"

    @admin.action(description=_("Revoke: refuse these keys from now on"), permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        actor, address = actor_of(request), address_of(request)
        revoked = [key for key in queryset if keys.revoke(key, actor=actor, address=address)]
        named = ", ".join(str(key) for key in revoked)
        self.message_user(request, f"Revoked: {named or 'none, all were revoked before'}.")


@admin.register(Member)
class MemberAdmin(Administrators, UserAdmin, ModelAdmin):  # type: ignore[misc, type-arg]
    """People of the team. An inactive member's keys are refused within two seconds."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "is_active", "is_superuser", "last_login")
    list_filter = ("is_active", "is_superuser")
    search_fields = ("username", "first_name", "last_name", "email")
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        (_("Person"), {"fields": ("first_name", "last_name", "email", "time_zone", "theme")}),
        (_("Rights"), {"fields": ("is_active", "is_staff", "is_superuser")}),
        (_("Times"), {"fields": ("last_login", "date_joined")}),
    )
    readonly_fields = ("last_login", "date_joined")
    filter_horizontal = ()
    actions = ("disable", "make_administrator")

    @admin.action(description=_("Disable, with all their keys"), permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[Member]) -> None:
        for member in queryset.exclude(pk=actor_of(request).pk):
            member.is_active = False
            member.save(update_fields=["is_active", "updated_at"])
            for key in member.api_keys.filter(revoked_at=None):
                keys.revoke(key, actor=actor_of(request), address=address_of(request))
            self._record(request, "disabled", member, "")
            self.message_user(request, f"{member}: disabled, keys revoked.")

    @admin.action(description=_("Make administrator"), permissions=["change"])
    def make_administrator(self, request: HttpRequest, queryset: QuerySet[Member]) -> None:
        for member in queryset.filter(is_superuser=False):
            member.is_superuser = member.is_staff = True
            member.save(update_fields=["is_superuser", "is_staff", "updated_at"])
            self._record(request, "made_administrator", member, "")
            self.message_user(request, f"{member}: administrator now.")


@admin.register(UpstreamProfile)
class UpstreamProfileAdmin(Administrators, ModelAdmin):  # type: ignore[misc]
    """How the gateway presents itself; one profile is active."""

    list_display = ("name", "is_active", "valid_from", "api_version", "editor_version", "client_id")
    search_fields = ("name", "note")
    readonly_fields = ("updated_at",)
    actions = ("activate",)

    @admin.action(description=_("Make this the active profile"), permissions=["change"])
    def activate(self, request: HttpRequest, queryset: QuerySet[UpstreamProfile]) -> None:
        if queryset.count() != 1:
            self.message_user(request, _("Choose exactly one profile."), messages.ERROR)
            return
        profile = queryset.get()
        UpstreamProfile.objects.filter(is_active=True).exclude(pk=profile.pk).update(
            is_active=False
        )
        UpstreamProfile.objects.filter(pk=profile.pk).update(is_active=True)
        self._record(request, "activated", profile, "")
        self.message_user(request, f"{profile} is active now.")


@admin.register(DeviceLogin)
class DeviceLoginAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    """Runs of the device flow."""

    list_display = ("user_code", "state", "account", "started_by", "message", "created_at")
    list_filter = ("state",)
    list_select_related = ("account", "started_by")
    exclude = ("device_code",)


@admin.register(SignInLink)
class SignInLinkAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    """One-use links: whose, until when, used or not."""

    list_display = ("member", "expires_at", "used_at")
    list_select_related = ("member",)
    exclude = ("digest",)


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    """Who did what, when and from where."""

    list_display = ("at", "actor", "action", "target", "address")
    list_filter = ("action",)
    search_fields = ("actor", "action", "target", "address")
    date_hierarchy = "at"
    list_per_page = 50
    show_full_result_count = False
