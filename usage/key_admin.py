"""The admin of API keys: whose, in which state, how limited, what they used, and what to do."""

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.timezone import now
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin

from accounts import key_changes, keys
from accounts.admin_acts import NotDone, act, by, shown_once, way
from accounts.admin_forms import CopyForm, ExtendForm, KeyForm, RotateForm
from accounts.admin_limits import LIMIT_FIELDS, RULE_FIELDS, Limits
from accounts.admin_rules import Administrators
from accounts.key_changes import KeyEnded
from accounts.key_forms import end_of
from accounts.models import ApiKey
from usage import admin_panels
from usage.admin_panels import Panel, WithPanels


class KeyStateFilter(admin.SimpleListFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("active", _("active")),
            ("ending", _("ends within 14 days")),
            ("unused", _("not used for 90 days")),
            ("expired", _("expired")),
            ("revoked", _("revoked")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        at = now()
        active = Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=at))
        old = at - timedelta(days=90)
        chosen = {
            "active": active,
            "ending": active & Q(expires_at__lte=at + timedelta(days=14)),
            "unused": active & (Q(last_used_at__lt=old) | Q(last_used_at=None, created_at__lt=old)),
            "expired": Q(revoked_at=None, expires_at__lte=at),
            "revoked": Q(revoked_at__isnull=False),
        }.get(self.value() or "")
        return queryset if chosen is None else queryset.filter(chosen)


@admin.register(ApiKey)
class ApiKeyAdmin(Limits, WithPanels, Administrators, ModelAdmin):  # type: ignore[misc]
    """Keys are made on the keys page, which shows the secret once; here they are steered."""

    form = KeyForm
    list_display = (
        "name",
        "shown_prefix",
        "owner",
        "state",
        "account",
        "pool",
        "lane",
        "limits",
        "expires_at",
        "last_used_at",
    )
    list_filter = (
        KeyStateFilter,
        "lane",
        "is_admin",
        "needs_approval",
        "allows_web_search",
        "pool",
        "owner__team",
    )
    search_fields = ("name", "prefix", "owner__username")
    list_select_related = ("owner", "account", "pool")
    list_per_page = 50
    list_fullwidth = True
    date_hierarchy = "created_at"
    readonly_fields = (
        "shown_prefix",
        "owner",
        "state",
        "stores_bodies_until",
        "replaces",
        "expires_at",
        "revoked_at",
        "created_at",
        "updated_at",
        "last_used_at",
    )
    fieldsets = (
        (
            None,
            {"fields": ("name", "shown_prefix", "owner", "state", "expires_at", "revoked_at")},
        ),
        (
            _("Use"),
            {
                "fields": (
                    "account",
                    "pool",
                    "lane",
                    "needs_approval",
                    "allows_web_search",
                    "is_admin",
                    "stores_bodies_until",
                )
            },
        ),
        LIMIT_FIELDS,
        RULE_FIELDS,
        (_("Times"), {"fields": ("replaces", "created_at", "updated_at", "last_used_at")}),
    )
    actions = ("revoke", "rotate", "extend", "copy_limits")
    actions_row = actions_detail = actions
    actions_list = ("new_key",)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        keys.ring.refresh(force=True)

    def panels(self, request: HttpRequest, row: ApiKey) -> list[Panel]:
        return [admin_panels.daily(_now("Thirty days"), key_id=row.pk)]

    @admin.display(description=_("prefix"), ordering="prefix")
    def shown_prefix(self, key: ApiKey) -> str:
        return f"{key.prefix}…"

    @way(_("New key"), icon="add")
    def new_key(self, request: HttpRequest) -> HttpResponseBase:
        return redirect("key-new")

    @act(
        _("Revoke"),
        says=_("Requests with these keys are refused everywhere within two seconds, for good."),
        touched=lambda key: [f"{key.owner}"],
        is_grave=True,
    )
    def revoke(self, request: HttpRequest, key: ApiKey, data: Any) -> str:
        if not keys.revoke(key, **by(request)):
            raise NotDone(_("This key was revoked before."))
        return f"{key}: revoked."

    @act(
        _("Rotate"),
        says=_("A new key with the same limits; its secret is shown once, on the next page."),
        touched=lambda key: [f"{key.owner}"],
        one=True,
        form=RotateForm,
    )
    def rotate(self, request: HttpRequest, key: ApiKey, data: Any) -> HttpResponseBase:
        grace = timedelta(hours=data["grace_h"])
        try:
            new, secret = key_changes.rotate(key, grace=grace, **by(request))
        except KeyEnded as error:
            raise NotDone(str(error)) from None
        return shown_once(
            self,
            request,
            title=_now("Your new key"),
            name=str(new),
            secret=secret,
            says=_now("Copy it now. Stored only as a hash; cannot be shown again."),
            back=reverse("admin:accounts_apikey_change", args=[new.pk]),
        )

    @act(_("Extend"), says=_("Until when these keys work."), form=ExtendForm)
    def extend(self, request: HttpRequest, key: ApiKey, data: Any) -> str:
        day = data["last_day"]
        try:
            key_changes.extend(key, None if day is None else end_of(day), **by(request))
        except KeyEnded as error:
            raise NotDone(str(error)) from None
        return f"{key}: works until {day}." if day else f"{key}: does not expire."

    @act(
        _("Copy limits"),
        says=_("The limits and model rules of these keys become those of another."),
        form=CopyForm,
    )
    def copy_limits(self, request: HttpRequest, key: ApiKey, data: Any) -> str:
        source = data["source"]
        if not key_changes.copy_limits(source, [key], **by(request)):
            raise NotDone(_("These are its own limits."))
        return f"{key}: has the limits of {source}."
