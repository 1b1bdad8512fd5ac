"""Pages of reports: chargeback by grouping, closed months, reconciliation; each as a file, too."""

import json
from typing import Any, Final

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.timezone import now
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts.access import (
    address_of,
    admin_page,
    member_of,
    overseer_page,
    page,
    scope_of,
    zone_of,
)
from accounts.models import Team
from usage import chargeback, closing, filters
from usage.chargeback import Asked
from usage.models import ClosedMonth, Reconciliation

TYPES: Final = {"csv": "text/csv; charset=utf-8", "json": "application/json"}
MAX_LINES: Final = 250
MAX_RECONCILED: Final = 500


def _asked(request: HttpRequest) -> Asked:
    asked = filters.read(
        request.GET, zone=zone_of(request), scope=scope_of(request), default="cycle"
    )
    found = chargeback.ask(member_of(request), asked, request.GET.get("team", ""))
    if found is None:
        raise Http404
    return found


def _grouping(asked: Asked, grouping: str) -> str:
    if grouping not in asked.groupings:
        raise Http404
    return grouping


@page
def report(request: HttpRequest, grouping: str = "model") -> HttpResponse:
    asked = _asked(request)
    _grouping(asked, grouping)
    lines = chargeback.lines(asked, grouping)
    is_cycle = asked.filters.range == "cycle"
    expected = chargeback.at_month_end(asked, grouping) if is_cycle else {}
    column = chargeback.GROUPINGS[grouping][-1]
    rows = [
        {
            "name": line[column],
            "owner": line["member"] if grouping == "key" else "",
            "line": line,
            "expected": expected.get(chargeback.place_of(line, grouping), line["nano_aiu"]),
        }
        for line in lines[:MAX_LINES]
    ]
    context = {
        "asked": asked.filters,
        "team": asked.team,
        "grouping": grouping,
        "groupings": asked.groupings,
        "rows": rows,
        "is_cut": len(lines) > MAX_LINES,
        "total": chargeback.total(lines),
        "expected": sum(
            expected.get(chargeback.place_of(line, grouping), line["nano_aiu"]) for line in lines
        ),
        "is_cycle": is_cycle,
        "teams": _teams(request),
        "at": now(),
    }
    return render(request, "pages/report.html", context)


def _teams(request: HttpRequest) -> list[tuple[str, str]]:
    """The teams that may be asked for: all, or those that the person leads."""
    rows = Team.objects.all()
    if scope_of(request) is not None:
        rows = rows.filter(lead=member_of(request))
    return [(str(team.pk), team.name) for team in rows[:200]]


@page
def report_file(request: HttpRequest, grouping: str, kind: str) -> HttpResponse:
    asked = _asked(request)
    lines = chargeback.lines(asked, _grouping(asked, grouping))
    columns = (*chargeback.GROUPINGS[grouping], *chargeback.SUMS)
    text = chargeback.csv_text(columns, lines) if kind == "csv" else chargeback.json_text(lines)
    days = f"{asked.filters.start:%Y-%m-%d}_{asked.filters.last_day:%Y-%m-%d}"
    return _file(text, kind, f"{grouping}_{days}")


def _file(text: str, kind: str, name: str) -> HttpResponse:
    response = HttpResponse(text, content_type=TYPES[kind])
    response.headers["Content-Disposition"] = f'attachment; filename="{name}.{kind}"'
    return response


# Closed months


@overseer_page
def months(request: HttpRequest) -> HttpResponse:
    last_month = closing.last_month(now())
    closed = list(ClosedMonth.objects.all())
    is_closed = any(row.month == last_month for row in closed)
    context = {"closed": closed, "open_month": None if is_closed else last_month}
    return render(request, "pages/months.html", context)


@admin_page
@require_POST
def close_month(request: HttpRequest) -> HttpResponse:
    month = closing.month_of(request.POST.get("month", "")[:7])
    if month is None:
        raise Http404
    try:
        closed = closing.close(month, member_of(request), address=address_of(request))
    except closing.NotClosable as error:
        messages.error(request, str(error))
        return redirect("months")
    messages.success(request, _("The month is closed; its figures stay as they are now."))
    return redirect("month", f"{closed.month:%Y-%m}")


def _closed(month: str) -> ClosedMonth:
    asked = closing.month_of(month[:7]) if len(month) == 7 else None
    found = ClosedMonth.objects.filter(month=asked).first() if asked else None
    if found is None:
        raise Http404
    return found


BY: Final = ("cost_centre", "team", "member", "model", "account")


@overseer_page
def month(request: HttpRequest, month: str) -> HttpResponse:
    """A closed month, to look through, print and sign off."""
    found = _closed(month)
    by = request.GET.get("by", "team")
    by = by if by in BY else "team"
    lines = [closing.as_dict(line) for line in found.lines.all()]
    late = closing.after_closing(found)
    context = {
        "closing": found,
        "by": by,
        "by_all": BY,
        "groups": _summed(lines, by),
        "total": _summed(lines, "")[0] if lines else None,
        "lines": lines[:MAX_LINES],
        "line_count": len(lines),
        "is_untouched": closing.is_untouched(found),
        "late": late[:MAX_LINES],
        "late_nano": sum(row.nano_aiu for row in late),
        "late_requests": sum(row.requests for row in late),
    }
    return render(request, "pages/month.html", context)


def _summed(lines: list[dict[str, Any]], by: str) -> list[dict[str, Any]]:
    """Sums of the lines by one of their names; with an empty one, of all."""
    groups: dict[str, dict[str, Any]] = {}
    for line in lines:
        name = line[by] if by else ""
        group = groups.setdefault(name, {"name": name} | dict.fromkeys(closing.SUMS, 0))
        for column in closing.SUMS:
            group[column] += line[column]
    return sorted(groups.values(), key=lambda group: (-group["nano_aiu"], group["name"]))


@overseer_page
def month_file(request: HttpRequest, month: str, kind: str) -> HttpResponse:
    found = _closed(month)
    lines = [closing.as_dict(line) for line in found.lines.all()]
    if kind == "csv":
        columns = (*closing.NAMES, *closing.SUMS)
        return _file(chargeback.csv_text(columns, lines), kind, f"month_{month}")
    document = {
        "month": month,
        "closed_at": found.closed_at.isoformat(),
        "closed_by": found.closed_by,
        "signed_off_at": found.signed_off_at.isoformat() if found.signed_off_at else None,
        "signed_off_by": found.signed_off_by,
        "sha256": found.digest,
        "requests": found.records,
        "nano_aiu": found.nano_aiu,
        "lines": [chargeback.with_money(line) for line in lines],
        "after_closing": [chargeback.with_money(row.line) for row in closing.after_closing(found)],
    }
    return _file(json.dumps(document, ensure_ascii=False, indent=1) + "\n", kind, f"month_{month}")


@admin_page
@require_POST
def sign_off(request: HttpRequest, month: str) -> HttpResponse:
    found = _closed(month)
    if not closing.is_untouched(found):
        messages.error(request, _("The lines are not those of the closing; this needs a look."))
    elif closing.sign_off(found, member_of(request), address_of(request)):
        messages.success(request, _("Signed off."))
    return redirect("month", month)


# Reconciliation


@overseer_page
def reconciliations(request: HttpRequest) -> HttpResponse:
    rows = Reconciliation.objects.order_by("-day", "account", "quota_id")[:MAX_RECONCILED]
    return render(request, "pages/reconciliation.html", {"rows": rows})
