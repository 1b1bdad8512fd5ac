"""The admin of seats: pools, GitHub Apps, sign-ins to GitHub, how the gateway presents itself."""

from typing import Any

from django.contrib import admin
from django.db import transaction
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin

from accounts import installations, pools
from accounts.admin_acts import NotDone, act, by
from accounts.admin_forms import AppForm, PoolForm
from accounts.admin_rules import Administrators, ReadOnly
from accounts.models import DeviceLogin, GitHubApp, Pool, UpstreamProfile


@admin.register(Pool)
class PoolAdmin(Administrators, ModelAdmin):  # type: ignore[misc]
    """Pools of the organisation's seats. Seats come and go by the acts of accounts."""

    form = PoolForm
    list_display = ("name", "seats", "teams_count", "keys_count", "failover", "note", "updated_at")
    list_filter = ("failover",)
    search_fields = ("name", "note")
    fields = ("name", "note", "failover", "members", "teams_named", "keys_named")
    readonly_fields = ("members", "teams_named", "keys_named")

    def get_queryset(self, request: HttpRequest) -> Any:
        rows: QuerySet[Any] = super().get_queryset(request)
        return rows.annotate(
            seat_count=Count("accounts", distinct=True),
            team_count=Count("teams", distinct=True),
            key_count=Count("api_keys", distinct=True),
        )

    @admin.display(description=_("seats"), ordering="seat_count")
    def seats(self, pool: Any) -> int:
        return int(pool.seat_count)

    @admin.display(description=_("teams"), ordering="team_count")
    def teams_count(self, pool: Any) -> int:
        return int(pool.team_count)

    @admin.display(description=_("keys"), ordering="key_count")
    def keys_count(self, pool: Any) -> int:
        return int(pool.key_count)

    @admin.display(description=_("seats"))
    def members(self, pool: Pool) -> str:
        return _joined(pool.accounts.values_list("login", flat=True)) if pool.pk else "–"

    @admin.display(description=_("teams that use it"))
    def teams_named(self, pool: Pool) -> str:
        return _joined(pool.teams.values_list("name", flat=True)) if pool.pk else "–"

    @admin.display(description=_("keys that use it"))
    def keys_named(self, pool: Pool) -> str:
        return _joined(pool.api_keys.values_list("name", flat=True)) if pool.pk else "–"

    def save_model(self, request: HttpRequest, obj: Pool, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        pools.refresh()

    def delete_model(self, request: HttpRequest, obj: Pool) -> None:
        super().delete_model(request, obj)
        pools.refresh()


@admin.register(GitHubApp)
class GitHubAppAdmin(Administrators, ModelAdmin):  # type: ignore[misc]
    """Apps of the organisation. The private key goes in and never comes out."""

    form = AppForm
    list_display = ("name", "issuer", "host", "has_key", "seats", "updated_at")
    list_filter = ("host",)
    search_fields = ("name", "issuer")
    fields = ("name", "issuer", "host", "key", "installed")
    readonly_fields = ("installed",)

    def get_queryset(self, request: HttpRequest) -> Any:
        rows: QuerySet[Any] = super().get_queryset(request)
        return rows.annotate(seat_count=Count("accounts"))

    @admin.display(description=_("key stored"), boolean=True)
    def has_key(self, app: GitHubApp) -> bool:
        return bool(app.private_key)

    @admin.display(description=_("private key"))
    def key(self, app: GitHubApp) -> str:
        return str(_("stored, never shown") if app.private_key else _("missing"))

    @admin.display(description=_("seats"), ordering="seat_count")
    def seats(self, app: Any) -> int:
        return int(app.seat_count)

    @admin.display(description=_("installations"))
    def installed(self, app: GitHubApp) -> str:
        rows = app.accounts.values_list("login", "installation_id") if app.pk else []
        return _joined(f"{login} ({number})" for login, number in rows)

    def save_model(self, request: HttpRequest, obj: GitHubApp, form: Any, change: bool) -> None:
        data = form.cleaned_data
        # The same door as the page: it stores the key encrypted and lets its seats try again.
        installations.save_app(
            data["name"],
            data["issuer"],
            data["key"],
            data["host"],
            app=obj if change else None,
            **by(request),
        )
        if not change:
            obj.pk = GitHubApp.objects.values_list("pk", flat=True).get(name=data["name"])


@admin.register(UpstreamProfile)
class UpstreamProfileAdmin(Administrators, ModelAdmin):  # type: ignore[misc]
    """How the gateway presents itself; one profile is active."""

    list_display = ("name", "is_active", "valid_from", "api_version", "editor_version", "client_id")
    list_filter = ("is_active",)
    search_fields = ("name", "note")
    date_hierarchy = "valid_from"
    readonly_fields = ("is_active", "updated_at")
    actions = ("activate",)
    actions_detail = actions_row = actions

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        is_used = isinstance(obj, UpstreamProfile) and obj.is_active
        return self._may(request) and not is_used

    @act(
        _("Make this the active profile"),
        says=_("From now on every request to GitHub and Copilot carries these headers."),
        one=True,
    )
    def activate(self, request: HttpRequest, profile: UpstreamProfile, data: Any) -> str:
        if profile.is_active:
            raise NotDone(_("This profile is active already."))
        with transaction.atomic():
            UpstreamProfile.objects.filter(is_active=True).exclude(pk=profile.pk).update(
                is_active=False
            )
            UpstreamProfile.objects.filter(pk=profile.pk).update(is_active=True)
            self._record(request, "activated", profile, "")
        return f"{profile} is active now."


@admin.register(DeviceLogin)
class DeviceLoginAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    """Runs of the device flow."""

    list_display = ("user_code", "state", "account", "started_by", "host", "message", "created_at")
    list_filter = ("state", "account_type")
    list_select_related = ("account", "started_by")
    search_fields = ("user_code", "account__login", "started_by__username")
    date_hierarchy = "created_at"
    exclude = ("device_code",)


def _joined(names: Any) -> str:
    return ", ".join(map(str, list(names)[:200])) or "–"
