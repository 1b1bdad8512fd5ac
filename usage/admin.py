"""The admin of usage: what was recorded is read-only, and fast with a million rows."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.html import format_html
from django.utils.timezone import now
from django.utils.translation import gettext_lazy as _
from kombu.exceptions import OperationalError as BrokerAway
from unfold.admin import ModelAdmin

from accounts import audit
from accounts.access import address_of
from accounts.admin_acts import dressed, way
from accounts.admin_rules import BoundedPaginator, Journal, ReadOnly, actor_of
from accounts.models import AuditEntry
from usage import account_admin as account_admin
from usage import bodies
from usage import channel_admin as channel_admin
from usage import key_admin as key_admin
from usage import price_admin as price_admin
from usage.admin_exports import Exported
from usage.admin_panels import Panel, WithPanels, credits_of
from usage.models import (
    ClosedLine,
    ClosedMonth,
    QuotaSnapshot,
    Reconciliation,
    Removal,
    Rollup,
    StoredBody,
    Tally,
    UsageRecord,
)

MAX_DAYS = 400
WIRES = ("chat_completions", "messages", "responses", "gemini", "embeddings", "count_tokens")


class Fixed(admin.SimpleListFilter):
    """A filter of known words: asking a million rows which words they hold takes a second."""

    words: tuple[str, ...] = ()

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(word, word) for word in self.words]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        word = self.value()
        return queryset.filter(**{self.parameter_name or "": word}) if word else queryset


class SourceFilter(Fixed):
    title = _("asked in")
    parameter_name = "source"
    words = WIRES


class OutcomeFilter(Fixed):
    title = _("outcome")
    parameter_name = "outcome"
    words = tuple(UsageRecord.Outcome.values)


class QuotaFilter(Fixed):
    title = _("quota")
    parameter_name = "quota_id"
    words = ("premium_interactions", "premium_models", "chat", "completions", "session", "weekly")


class ReadingFilter(Fixed):
    title = _("source")
    parameter_name = "source"
    words = ("poll", "header")


class SubjectFilter(Fixed):
    """Entries of the audit log by what they are about: the word before the dot."""

    title = _("about")
    parameter_name = "about"
    words = (
        "account", "key", "member", "team", "budget", "pool", "app", "invite", "group", "notice",
        "approval", "approval_rule", "model", "channel", "body", "token", "usagerecord",
        "auditentry",
    )  # fmt: skip

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        word = self.value()
        if not word:
            return queryset
        # A range, which the index of the column answers.
        return queryset.filter(action__gte=f"{word}.", action__lt=f"{word}/")


@admin.register(UsageRecord)
class UsageRecordAdmin(Exported, Journal, ModelAdmin):  # type: ignore[misc]
    """Exchanges: what was asked, by whom, how it ended, what it cost. No prompts."""

    date_hierarchy = "started_at"
    list_display = (
        "id", "started_at", "outcome", "status", "member", "team", "key", "model_used", "tokens",
        "credits", "seconds", "account",
    )  # fmt: skip
    list_filter = ("outcome", SourceFilter, "cost_source", "streamed")
    exact_search = ("id", "conversation")
    search_help_text = _("The whole id of an exchange or of a conversation")
    ordering = ("-started_at", "-id")

    @admin.display(description=_("AI credits"))
    def credits(self, record: UsageRecord) -> str:
        mark = "≈ " if record.cost_source == UsageRecord.CostSource.ESTIMATED else ""
        return f"{mark}{credits_of(record.nano_aiu)}"

    @admin.display(description=_("in / out"))
    def tokens(self, record: UsageRecord) -> str:
        return f"{record.input_tokens:,} / {record.output_tokens:,}"

    @admin.display(description=_("seconds"))
    def seconds(self, record: UsageRecord) -> str:
        return f"{record.total_ms / 1000:.1f}"


@admin.register(AuditEntry)
class AuditEntryAdmin(Exported, Journal, ModelAdmin):  # type: ignore[misc]
    """Who did what, when and from where. Rows are only ever added."""

    list_display = ("at", "actor", "action", "target", "what", "address")
    list_filter = (SubjectFilter,)
    exact_search = ("id", "actor", "action", "target", "address")
    search_help_text = _("A number, or exactly: who, what (key.revoked), on what, from where")
    date_hierarchy = "at"
    ordering = ("-at",)

    @admin.display(description=_("detail"))
    def what(self, entry: AuditEntry) -> str:
        text = ", ".join(f"{name}: {value}" for name, value in (entry.detail or {}).items())
        return text if len(text) <= 80 else f"{text[:79]}…"


class RangeForm(forms.Form):
    """Whole UTC days, both included."""

    first = forms.DateField(
        label=_("First day, UTC"), widget=forms.DateInput(attrs={"type": "date"})
    )
    last = forms.DateField(label=_("Last day, UTC"), widget=forms.DateInput(attrs={"type": "date"}))

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        first, last = data.get("first"), data.get("last")
        if first and last and not 0 <= (last - first).days < MAX_DAYS:
            raise ValidationError(
                _("From a day to a later one, at most %(days)d days.") % {"days": MAX_DAYS}
            )
        return data


@admin.register(Tally)
class TallyAdmin(Journal, ModelAdmin):  # type: ignore[misc]
    """Sums of an hour or a day of one thing alone; made anew with the rollups."""

    list_display = ("begin", "span", "kind", "number", "name", "outcome", "requests", "credits")
    list_filter = ("span", "kind")
    ordering = ("-id",)

    @admin.display(description=_("AI credits"))
    def credits(self, tally: Tally) -> str:
        return credits_of(tally.nano_aiu)


@admin.register(Rollup)
class RollupAdmin(Journal, ModelAdmin):  # type: ignore[misc]
    """Sums of an hour. They can be made anew from the records, which change nothing by it."""

    date_hierarchy = "hour"
    list_display = (
        "hour", "member_id", "team_id", "key_id", "account_id", "model", "client", "outcome",
        "requests", "input_tokens", "output_tokens", "credits",
    )  # fmt: skip
    list_filter = (OutcomeFilter,)
    ordering = ("-hour", "-id")
    actions_list = ("rebuild",)

    @admin.display(description=_("AI credits"))
    def credits(self, rollup: Rollup) -> str:
        return credits_of(rollup.nano_aiu)

    @way(_("Rebuild for range"), icon="restart_alt")
    def rebuild(self, request: HttpRequest) -> HttpResponseBase:
        """The form, then a task. Hours without records any more keep their sums."""
        from usage import tasks

        today = now().date()
        form = dressed(
            RangeForm(
                request.POST if request.method == "POST" else None,
                initial={"first": today, "last": today},
            )
        )
        back = reverse("admin:usage_rollup_changelist")
        if request.method == "POST" and form.is_valid():
            first, last = form.cleaned_data["first"], form.cleaned_data["last"]
            since, until = f"{first}T00:00:00+00:00", f"{last}T23:59:59+00:00"
            asked = {"since": str(first), "until": str(last)}
            audit.record(
                actor_of(request), "rollup.rebuild_asked", "rollups", asked, address_of(request)
            )
            try:
                task = tasks.rebuild.delay(since, until)
            except BrokerAway:
                self.message_user(request, _("The task queue is away. Check Redis."), "error")
            else:
                text = f"Task {task.id} rebuilds {first} to {last}; Health shows how it ended."
                self.message_user(request, text)
            return HttpResponseRedirect(back)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": str(_("Rebuild for range")),
            "says": _(
                "The hourly sums of these days are made anew from the records. Charts may jump "
                "while it runs."
            ),
            "kind": str(_("Days")),
            "lines": [],
            "form": form,
            "of_list": False,
            "confirmed": "confirmed",
            "back": back,
            "is_grave": False,
            "media": self.media,
        }
        status = 400 if form.errors else 200
        return render(request, "admin/act.html", context, status=status)


@admin.register(QuotaSnapshot)
class QuotaSnapshotAdmin(Journal, ModelAdmin):  # type: ignore[misc]
    """What GitHub said of quotas, when."""

    date_hierarchy = "at"
    list_display = (
        "at", "account_id", "quota_id", "remaining", "entitlement", "percent_remaining",
        "credits_used", "reset_at", "source",
    )  # fmt: skip
    list_filter = (QuotaFilter, ReadingFilter)
    exact_search = ("id", "account_id")
    search_help_text = _("The number of an account")
    ordering = ("-id",)


@admin.register(Reconciliation)
class ReconciliationAdmin(Exported, ReadOnly, ModelAdmin):  # type: ignore[misc]
    """What GitHub's quota moved by on a day, what we recorded, what is unexplained."""

    list_display = (
        "day",
        "account",
        "quota_id",
        "moved",
        "recorded",
        "unexplained",
        "unit",
        "note",
    )
    list_filter = ("unit", "quota_id")
    search_fields = ("account", "note")
    date_hierarchy = "day"
    ordering = ("-day", "account")
    paginator = BoundedPaginator

    @admin.display(description=_("quota moved"), ordering="quota_nano_aiu")
    def moved(self, row: Reconciliation) -> str:
        return "–" if row.quota_nano_aiu is None else credits_of(row.quota_nano_aiu)

    @admin.display(description=_("recorded"), ordering="recorded_nano_aiu")
    def recorded(self, row: Reconciliation) -> str:
        return credits_of(row.recorded_nano_aiu)

    @admin.display(description=_("unexplained"), ordering="unexplained_nano_aiu")
    def unexplained(self, row: Reconciliation) -> str:
        return "–" if row.unexplained_nano_aiu is None else credits_of(row.unexplained_nano_aiu)


@admin.register(ClosedMonth)
class ClosedMonthAdmin(WithPanels, ReadOnly, ModelAdmin):  # type: ignore[misc]
    """Months that are closed: their figures do not change any more."""

    list_display = (
        "month", "records", "credits", "closed_at", "closed_by", "signed_off_by", "signed_off_at",
    )  # fmt: skip
    search_fields = ("closed_by", "signed_off_by", "digest")
    date_hierarchy = "month"

    @admin.display(description=_("AI credits"), ordering="nano_aiu")
    def credits(self, month: ClosedMonth) -> str:
        return credits_of(month.nano_aiu)

    def panels(self, request: HttpRequest, row: ClosedMonth) -> list[Panel]:
        lines = row.lines.order_by("-nano_aiu", "pk")[:20]
        cells = [
            [one.cost_centre or "–", one.team or "–", one.member or "–", one.key or "–",
             one.model or "–", f"{one.requests:,}", credits_of(one.nano_aiu)]
            for one in lines
        ]  # fmt: skip
        headers = ("cost centre", "team", "member", "key", "model", "requests", "credits")
        address = f"{reverse('admin:usage_closedline_changelist')}?closing={row.pk}"
        return [Panel(str(_("Largest lines")), headers, cells, [(str(_("All of them")), address)])]


@admin.register(ClosedLine)
class ClosedLineAdmin(Exported, ReadOnly, ModelAdmin):  # type: ignore[misc]
    """Lines of closed months."""

    list_display = (
        "month", "cost_centre", "team", "member", "key", "account", "model", "requests", "credits",
    )  # fmt: skip
    list_filter = ("closing",)
    list_select_related = ("closing",)
    search_fields = ("cost_centre", "team", "member", "key", "model")
    ordering = ("-closing__month", "cost_centre", "team", "member", "pk")
    paginator = BoundedPaginator

    @admin.display(description=_("month"), ordering="closing__month")
    def month(self, line: ClosedLine) -> str:
        return str(line.closing)

    @admin.display(description=_("AI credits"), ordering="nano_aiu")
    def credits(self, line: ClosedLine) -> str:
        return credits_of(line.nano_aiu)


@admin.register(StoredBody)
class StoredBodyAdmin(Journal, ModelAdmin):  # type: ignore[misc]
    """That bodies are stored, of what, how large and until when: never what they say."""

    list_display = (
        "exchange_id", "member_id", "key_id", "request_bytes", "response_bytes", "is_cut",
        "stored_at", "expires_at", "record",
    )  # fmt: skip
    list_filter = ("is_cut",)
    exact_search = ("exchange_id", "member_id", "key_id")
    search_help_text = _("The id of an exchange, or the number of a member or key")
    date_hierarchy = "expires_at"
    ordering = ("-expires_at",)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request)

    @admin.display(description=_("exchange"))
    def record(self, row: StoredBody) -> str:
        address = reverse("admin:usage_usagerecord_change", args=[row.pk])
        return format_html('<a href="{}">{}</a>', address, _("Record"))

    def delete_model(self, request: HttpRequest, obj: StoredBody) -> None:
        self._remove(request, obj.pk)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for pk in list(queryset.values_list("pk", flat=True)):
            self._remove(request, pk)

    def _remove(self, request: HttpRequest, exchange_id: str) -> None:
        bodies.delete(
            scope=None,
            actor=actor_of(request),
            exchange_id=exchange_id,
            address=address_of(request),
        )


@admin.register(Removal)
class RemovalAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    """Proof of what retention and people removed."""

    list_display = ("at", "kind", "actor", "before", "removed", "left", "note")
    list_filter = ("kind",)
    search_fields = ("actor", "note")
    date_hierarchy = "at"
