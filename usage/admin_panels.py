"""Read-only panels below a row of the admin: what was used through it. Bounded, a page at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db.models import QuerySet, Sum
from django.http import HttpRequest
from django.urls import reverse
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.timezone import localtime, now
from django.utils.translation import gettext as _

from usage.models import QuotaSnapshot, Rollup, UsageRecord
from usage.pricing import NANO_PER_CREDIT

ROWS: Final = 20
MAX_PAGES: Final = 100
DAYS: Final = 30
WEEK: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Panel:
    """A table below the form; `links` are (words, address)."""

    title: str
    headers: Sequence[str]
    rows: list[list[Any]]
    links: list[tuple[str, str]] = field(default_factory=list)

    @property
    def table(self) -> dict[str, Any]:
        return {"headers": self.headers, "rows": self.rows}


class WithPanels:
    """An admin whose rows have panels: `panels(request, row)` makes them; by itself it has none."""

    change_form_outer_after_template = "admin/panels.html"

    def panels(self, request: HttpRequest, row: Any) -> list[Panel]:
        return []

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        context = extra_context or {}
        if self.has_view_permission(request):  # type: ignore[attr-defined]
            row = self.get_object(request, object_id)  # type: ignore[attr-defined]
            if row is not None:
                context["panels"] = self.panels(request, row)
        return super().change_view(request, object_id, form_url, context)  # type: ignore[misc]


def at(moment: datetime | None) -> str:
    return date_format(localtime(moment), "Y-m-d H:i:s") if moment else "–"


def credits_of(nano_aiu: int) -> str:
    return f"{nano_aiu / NANO_PER_CREDIT:,.2f}"


def list_of(model: str, **filters: Any) -> str:
    query = "&".join(f"{name}={value}" for name, value in filters.items())
    return f"{reverse(f'admin:usage_{model}_changelist')}?{query}"


def exchanges(request: HttpRequest, **whose: int) -> Panel:
    """The last exchanges, twenty to a page."""
    rows = UsageRecord.objects.filter(**whose).order_by("-started_at", "-id")
    found, links = _page(request, rows, "exchanges")
    cells = [
        [
            format_html(
                '<a href="{}">{}</a>',
                reverse("admin:usage_usagerecord_change", args=[row.pk]),
                at(row.started_at),
            ),
            row.get_outcome_display(),
            row.status or "–",
            row.member or "–",
            row.key or "–",
            row.model_used or row.model_asked or "–",
            credits_of(row.nano_aiu),
        ]
        for row in found
    ]
    headers = (
        _("time"), _("outcome"), _("status"), _("member"), _("key"), _("model"), _("credits"),
    )  # fmt: skip
    links.append((_("All of them"), list_of("usagerecord", **whose)))
    return Panel(_("Last exchanges"), headers, cells, links)


def snapshots(request: HttpRequest, account_id: int, quota_ids: Sequence[str]) -> Panel:
    """What GitHub said of the quota in the last seven days, twenty to a page."""
    rows = QuotaSnapshot.objects.filter(
        account_id=account_id, quota_id__in=quota_ids, at__gte=now() - WEEK
    ).order_by("-at", "-pk")
    found, links = _page(request, rows, "snapshots")
    cells = [
        [
            at(row.at),
            row.quota_id,
            _figure(row.remaining),
            _figure(row.entitlement),
            f"{row.percent_remaining:.0f} %" if row.percent_remaining is not None else "–",
            _figure(row.credits_used),
            row.source,
        ]
        for row in found
    ]
    headers = (
        _("time"), _("quota"), _("left"), _("of"), _("left, %"), _("used"), _("source"),
    )  # fmt: skip
    links.append((_("All of them"), list_of("quotasnapshot", account_id=account_id)))
    return Panel(_("Quota, seven days"), headers, cells, links)


def daily(title: str, **whose: int) -> Panel:
    """Thirty UTC days of one key, from the hourly sums."""
    today = now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first = today - timedelta(days=DAYS - 1)
    rows = Rollup.objects.filter(hour__gte=first, **whose).order_by()
    names = ("requests", "input_tokens", "output_tokens", "nano_aiu")
    days: dict[datetime, list[int]] = {}
    for hour, *sums in (
        rows.values("hour")
        .annotate(**{f"{name}_sum": Sum(name) for name in names})
        .values_list("hour", *(f"{name}_sum" for name in names))
    ):
        day = hour.astimezone(UTC).replace(hour=0)
        days[day] = [a + b for a, b in zip(days.get(day, [0] * 4), sums, strict=True)]
    total = [sum(column) for column in zip(*days.values(), strict=True)] or [0] * 4
    cells = [[_("all"), *_cells(total)]]
    cells += [[f"{day:%Y-%m-%d}", *_cells(days[day])] for day in sorted(days, reverse=True)]
    headers = (_("day, UTC"), _("requests"), _("in"), _("out"), _("credits"))
    return Panel(title, headers, cells, [(_("Exchanges"), list_of("usagerecord", **whose))])


def _cells(sums: list[int]) -> list[str]:
    requests, tokens_in, tokens_out, nano = sums
    return [f"{requests:,}", f"{tokens_in:,}", f"{tokens_out:,}", credits_of(nano)]


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}"


def _page(
    request: HttpRequest, rows: QuerySet[Any], name: str
) -> tuple[list[Any], list[tuple[str, str]]]:
    """One page of the rows, and the ways to the pages beside it."""
    number = _number(request.GET.get(name, ""))
    start = (number - 1) * ROWS
    found = list(rows[start : start + ROWS + 1])
    links = []
    if number > 1:
        links.append((_("Newer"), f"?{name}={number - 1}"))
    if len(found) > ROWS and number < MAX_PAGES:
        links.append((_("Older"), f"?{name}={number + 1}"))
    return found[:ROWS], links


def _number(text: str) -> int:
    fits = text.isascii() and text.isdecimal() and len(text) < 4
    return min(MAX_PAGES, max(1, int(text))) if fits else 1
