"""Reports: what each group of a grouping used and cost.

The sums of the lines are the sums of the records, to the nano-AIU. Names are those of the time: who
moved to another team is charged to both, each for its own requests. Past months that are closed have
figures of their own, see `usage.closing`.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

from django.db.models import QuerySet

from accounts.access import oversees
from accounts.models import Member, Team
from usage import exports, filters, group_sums
from usage.figures import NANO_PER_CREDIT
from usage.filters import Filters
from usage.forecasts import month_end, month_end_of_all
from usage.group_sums import GROUPINGS as GROUPINGS
from usage.group_sums import SUMS as SUMS
from usage.models import UsageRecord

# A lead answers for the sums of a team, not for what each of its members did.
LEAD_GROUPINGS: Final = ("model", "client", "team", "cost_centre")
OWN_GROUPINGS: Final = ("model", "key", "client", "account", "team", "cost_centre")


@dataclass(frozen=True, slots=True)
class Asked:
    """A report's question: the rows that may be seen and are asked for, and how they may be grouped."""

    filters: Filters
    rows: QuerySet[UsageRecord]
    groupings: tuple[str, ...]
    team: Team | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it is of all that was used, or of all with one outcome: tallies tell that."""
        asked = self.filters
        narrows = set(asked.named) - {"outcome"} or asked.outcome == "retried"
        return asked.scope is None and self.team is None and not narrows


def ask(member: Member, asked: Filters, team: str) -> Asked | None:
    """What the person may see of the question; None when `team` names one that is not theirs.

    Overseers see all. A member sees own records; the lead of a team, with `team`, its sums.
    """
    found = None
    if team:
        found = Team.objects.filter(pk=int(team)).first() if _is_id(team) else None
        if found is None:
            return None
    if oversees(member):
        rows = filters.records(asked)
        narrowed = rows if found is None else rows.filter(team_id=found.pk)
        return Asked(asked, narrowed, tuple(GROUPINGS), found)
    if found is None:
        return Asked(asked, filters.records(asked), OWN_GROUPINGS)
    if found.lead_id != member.pk:
        return None
    # Filters by person would turn the team's sums into one member's.
    keeps = ("model", "client", "outcome", "endpoint")
    wide = replace(
        asked,
        scope=None,
        member=None,
        key=None,
        account=None,
        q="",
        named={name: value for name, value in asked.named.items() if name in keeps},
    )
    rows = filters.records(wide).filter(team_id=found.pk)
    return Asked(wide, rows, LEAD_GROUPINGS, found)


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19


def lines(asked: Asked, grouping: str) -> list[dict[str, Any]]:
    """One line a group, the dearest first; each has the grouping's columns and the sums."""
    columns, question = GROUPINGS[grouping], asked.filters
    if asked.is_plain:
        sums = group_sums.sums(grouping, question.outcome, question.start, question.end)
    else:
        sums = group_sums.of_records(asked.rows, grouping)
    found: list[dict[str, Any]] = [
        dict(zip(columns, place, strict=True)) | dict(zip(SUMS, values, strict=True))
        for place, values in sums.items()
    ]
    found.sort(key=lambda line: (-line["nano_aiu"], -line["requests"], str(line[columns[-1]])))
    return found


def total(found: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    sums = dict.fromkeys(SUMS, 0)
    for line in found:
        for name in SUMS:
            sums[name] += line[name]
    return sums


def at_month_end(asked: Asked, grouping: str) -> dict[tuple[object, ...], int]:
    """Group -> nano-AIU that the present month will have cost."""
    if asked.is_plain:
        return month_end_of_all(grouping, asked.filters.outcome)
    # The forecast has a time of its own; every other filter holds.
    wide = replace(asked.filters, start=asked.filters.start.replace(year=2000, month=1, day=1))
    rows = filters.records(wide)
    if asked.team is not None:
        rows = rows.filter(team_id=asked.team.pk)
    return month_end(group_sums.named(rows), *group_sums.record_columns(grouping))


def place_of(line: Mapping[str, Any], grouping: str) -> tuple[object, ...]:
    return tuple(line[column] for column in GROUPINGS[grouping])


# Files


def with_money(line: Mapping[str, Any]) -> dict[str, Any]:
    """With credits and US dollars, exact to the last digit."""
    nano = int(line["nano_aiu"])
    return dict(line) | {"credits": _decimal(nano, 1), "usd": _decimal(nano, 100)}


def _decimal(nano: int, parts: int) -> str:
    """Plain digits: `0.000001` and never `1E-6`."""
    return f"{(Decimal(nano) / NANO_PER_CREDIT / parts).normalize():f}"


def csv_text(columns: Iterable[str], found: Iterable[Mapping[str, Any]]) -> str:
    """CSV with a byte order mark; no cell is a formula."""
    buffer = io.StringIO()
    buffer.write("\ufeff")
    writer = csv.writer(buffer)
    names = (*columns, "credits", "usd")
    writer.writerow(names)
    for line in found:
        money = with_money(line)
        writer.writerow([exports.cell(money[name]) for name in names])
    return buffer.getvalue()


def json_text(found: Iterable[Mapping[str, Any]]) -> str:
    """A JSON array, a line each. Credits and dollars are texts: floats would lose digits."""
    return "[\n" + ",\n".join(_json_lines(found)) + "\n]\n"


def _json_lines(found: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for line in found:
        yield json.dumps(with_money(line), ensure_ascii=False, separators=(",", ":"))
