"""Limits of a row in the admin: the same words for who may edit them and who only reads."""

from typing import Any, Final

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from accounts.admin_forms import LIMITS, RULES
from accounts.forms import NANO_PER_CREDIT

LIMIT_FIELDS: Final[Any] = (_("Limits"), {"fields": LIMITS})
RULE_FIELDS: Final[Any] = (_("Models"), {"fields": RULES})


class Limits:
    """Budgets in credits, also where the row is only read."""

    @admin.display(description=_("Credits per day"))
    def budget_day(self, row: Any) -> str:
        return _credits(row.budget_day_nano_aiu)

    @admin.display(description=_("Credits per week"))
    def budget_week(self, row: Any) -> str:
        return _credits(row.budget_week_nano_aiu)

    @admin.display(description=_("Credits per billing month"))
    def budget_month(self, row: Any) -> str:
        return _credits(row.budget_month_nano_aiu)

    @admin.display(description=_("limits"))
    def limits(self, row: Any) -> str:
        """The limits in a line."""
        parts = [
            (f"{row.requests_per_minute}/min", row.requests_per_minute),
            (f"{row.tokens_per_minute} tokens/min", row.tokens_per_minute),
            (f"{row.concurrency} at once", row.concurrency),
            (f"{_credits(row.budget_day_nano_aiu)}/day", row.budget_day_nano_aiu),
            (f"{_credits(row.budget_week_nano_aiu)}/week", row.budget_week_nano_aiu),
            (f"{_credits(row.budget_month_nano_aiu)}/month", row.budget_month_nano_aiu),
        ]
        return " · ".join(text for text, is_set in parts if is_set) or "–"


def _credits(nano: int) -> str:
    return f"{nano / NANO_PER_CREDIT:g}" if nano else "–"
