"""The admin of models and approvals: aliases, policies and rules are edited, the rest is looked at."""

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.timesince import timesince
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin

from accounts.admin_acts import dressed
from accounts.admin_forms import LimitedForm
from accounts.admin_limits import LIMIT_FIELDS, Limits
from accounts.admin_rules import Administrators, Journal, ReadOnly
from proxy import approval_rules, policies
from proxy.approval_forms import RuleForm
from proxy.models import (
    Approval,
    ApprovalRule,
    Catalog,
    CatalogChange,
    ConversationSeat,
    ModelAlias,
    ModelPolicy,
    UpstreamProbe,
)
from usage.admin_exports import Exported

if TYPE_CHECKING:
    AliasModelForm = forms.ModelForm[ModelAlias]
else:
    AliasModelForm = forms.ModelForm


class ModelAliasForm(AliasModelForm):
    class Meta:
        model = ModelAlias
        fields = ["pattern", "model", "note", "is_enabled"]

    def clean_pattern(self) -> str:
        name = _pattern(self.cleaned_data["pattern"])
        if name in listed_ids():
            raise forms.ValidationError(
                _("A model of this very name is listed, so that the alias would never be used.")
            )
        return name

    def clean_model(self) -> str:
        return _listed(str(self.cleaned_data["model"]).strip())


def listed_ids() -> set[str]:
    """The ids of all accounts' lists, as they are stored."""
    lists = Catalog.objects.values_list("entries", flat=True)
    return {str(entry.get("id")) for entries in lists for entry in entries}


def _listed(model: str) -> str:
    if model not in listed_ids():
        raise forms.ValidationError(_("No account lists a model of this id."))
    return model


def _pattern(name: str) -> str:
    try:
        policies.check_pattern(name.strip())
    except ValueError as error:
        raise forms.ValidationError(str(error)) from error
    return name.strip()


class ModelPolicyForm(LimitedForm):
    class Meta:
        model = ModelPolicy
        fields = ("model", "is_enabled", "plans", "fallback", "note")

    def clean_model(self) -> str:
        name = _pattern(self.cleaned_data["model"]).lower()
        if ModelPolicy.objects.filter(model__iexact=name).exclude(pk=self.instance.pk).exists():
            raise forms.ValidationError(_("There is a policy for this already."))
        return name

    def clean_fallback(self) -> str:
        fallback = str(self.cleaned_data["fallback"]).strip()
        return _listed(fallback) if fallback else ""

    def clean_plans(self) -> list[str]:
        plans = self.cleaned_data["plans"] or []
        if not isinstance(plans, list) or not all(isinstance(plan, str) for plan in plans):
            raise forms.ValidationError('A list of names, such as ["business", "enterprise"].')
        return [plan.strip().lower() for plan in plans if plan.strip()]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("model") and data.get("fallback"):
            others = ModelPolicy.objects.exclude(fallback="").exclude(pk=self.instance.pk)
            known = dict(others.values_list("model", "fallback"))
            try:
                policies.check_fallback(data["model"], data["fallback"], known)
            except ValueError as error:
                self.add_error("fallback", str(error))
        return data


@admin.register(ModelPolicy)
class ModelPolicyAdmin(Limits, Administrators, ModelAdmin):  # type: ignore[misc]
    """On or off, plans, fallback and limits; the models page has the same without limits."""

    form = ModelPolicyForm
    list_display = ("model", "is_enabled", "plans", "fallback", "limits", "note", "updated_at")
    list_filter = ("is_enabled",)
    search_fields = ("model", "fallback", "note")
    fieldsets = (
        (None, {"fields": ("model", "is_enabled", "plans", "fallback", "note")}),
        LIMIT_FIELDS,
    )

    def save_model(self, request: HttpRequest, obj: ModelPolicy, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        policies.book.refresh(force=True)


@admin.register(CatalogChange)
class CatalogChangeAdmin(Exported, Journal, ModelAdmin):  # type: ignore[misc]
    """What changed in the model lists: prices, limits, terms."""

    list_display = ("at", "model", "kind", "account", "before", "after")
    list_filter = ("kind", "account")
    exact_search = ("id", "model")
    search_help_text = _("The whole id of a model")
    date_hierarchy = "at"
    list_select_related = ("account",)
    ordering = ("-at",)


@admin.register(UpstreamProbe)
class UpstreamProbeAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    """What the canary heard last of our versions and headers."""

    list_display = ("host", "kind", "state", "status", "header", "sent", "at", "since", "age")
    list_filter = ("state", "kind")
    search_fields = ("host", "message")
    date_hierarchy = "at"

    @admin.display(description=_("for"), ordering="since")
    def age(self, probe: UpstreamProbe) -> str:
        return timesince(probe.since)


@admin.register(ModelAlias)
class ModelAliasAdmin(Administrators, ModelAdmin):  # type: ignore[misc]
    """Names that clients use for Copilot's ids."""

    form = ModelAliasForm
    list_display = ("pattern", "model", "is_enabled", "note", "updated_at")
    list_filter = ("is_enabled",)
    search_fields = ("pattern", "model", "note")


@admin.register(Catalog)
class CatalogAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    """Copilot's own list: read-only, because the next refresh would undo a change."""

    list_display = ("account", "model_count", "fetched_at", "age", "error")
    list_select_related = ("account",)
    search_fields = ("account__login", "error")
    date_hierarchy = "fetched_at"
    fields = ("account", "model_names", "fetched_at", "error", "updated_at")
    readonly_fields = ("model_names",)

    @admin.display(description=_("models"))
    def model_count(self, catalog: Catalog) -> int:
        return len(catalog.entries)

    @admin.display(description=_("age"), ordering="fetched_at")
    def age(self, catalog: Catalog) -> str:
        return timesince(catalog.fetched_at) if catalog.fetched_at else str(_("never read"))

    @admin.display(description=_("models"))
    def model_names(self, catalog: Catalog) -> str:
        return ", ".join(sorted(str(entry.get("id")) for entry in catalog.entries))


@admin.register(ConversationSeat)
class ConversationSeatAdmin(Journal, ModelAdmin):  # type: ignore[misc]
    """Which account a conversation has."""

    list_display = ("conversation", "account_id", "bound_at", "seen_at", "exchanges")
    exact_search = ("conversation",)
    search_help_text = _("The whole id of a conversation")
    date_hierarchy = "seen_at"
    ordering = ("-seen_at",)

    @admin.display(description=_("exchanges"))
    def exchanges(self, seat: ConversationSeat) -> str:
        address = reverse("admin:usage_usagerecord_changelist")
        return format_html('<a href="{}?q={}">{}</a>', address, seat.pk, _("Exchanges"))


class RuleAdminForm(RuleForm):
    """The form of the rules' page, dressed for the admin."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        dressed(self)


@admin.register(ApprovalRule)
class ApprovalRuleAdmin(Administrators, ModelAdmin):  # type: ignore[misc]
    """When a person is asked."""

    form = RuleAdminForm
    list_display = ("name", "is_enabled", "models", "above_credits", "above_tokens",
                    "younger_than_h", "outside_hours", "team", "key")  # fmt: skip
    list_filter = ("is_enabled", "team")
    list_select_related = ("team", "key")
    search_fields = ("name", "team__name", "key__name")
    fields = (
        "name",
        "is_enabled",
        "models",
        "above_credits",
        "above_tokens",
        "younger_than_h",
        "outside_hours",
        "team",
        "key",
    )

    @admin.display(description=_("models"))
    def models(self, rule: ApprovalRule) -> str:
        return ", ".join(map(str, rule.for_models or ())) or str(_("any"))

    @admin.display(description=_("credits above"), ordering="above_nano_aiu")
    def above_credits(self, rule: ApprovalRule) -> str:
        return f"{rule.above_nano_aiu / 1e9:g}" if rule.above_nano_aiu else "–"

    @admin.display(description=_("tokens above"), ordering="above_context_tokens")
    def above_tokens(self, rule: ApprovalRule) -> str:
        return f"{rule.above_context_tokens:,}" if rule.above_context_tokens else "–"

    @admin.display(description=_("keys younger than, h"), ordering="key_younger_than_h")
    def younger_than_h(self, rule: ApprovalRule) -> str:
        return str(rule.key_younger_than_h or "–")

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        if not self.has_change_permission(request, obj):
            # Who only reads has no fields to choose teams and keys in.
            kwargs["form"] = forms.ModelForm
        return super().get_form(request, obj, change, **kwargs)

    def save_model(self, request: HttpRequest, obj: ApprovalRule, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        approval_rules.rules.refresh(force=True)


@admin.register(Approval)
class ApprovalAdmin(Exported, Journal, ModelAdmin):  # type: ignore[misc]
    """What people were asked, and who answered what. Answered on the approvals page."""

    list_display = ("id", "opened_at", "state", "scope", "member", "key", "model", "input_tokens",
                    "credits", "rule", "decided_by", "waited")  # fmt: skip
    list_filter = ("state", "scope")
    exact_search = ("id", "conversation", "member", "key", "decided_by")
    search_help_text = _("A whole id, or the name of a member, key or decider")
    date_hierarchy = "opened_at"
    ordering = ("-opened_at",)

    @admin.display(description=_("credits"))
    def credits(self, row: Approval) -> str:
        nano = row.estimated_nano_aiu
        return "–" if nano is None else f"≈ {nano / 1e9:,.2f}"

    @admin.display(description=_("waited"))
    def waited(self, row: Approval) -> str:
        return f"{(row.decided_at - row.opened_at).total_seconds():.0f} s" if row.decided_at else ""
