"""An account's quota as lines for the terminal: every state that the account's page has, too."""

from datetime import datetime, timedelta
from typing import Final

from django.utils.timezone import now

from accounts.models import Account
from copilot_site.terminal import Stream, bar, paint
from usage.cards import outlook_of, state_word
from usage.figures import credit_number, grouped, span
from usage.forecasts import cycle_start
from usage.quota_shapes import QuotaReading
from usage.quota_summary import Summary

CELLS: Final = 24
JUST_NOW: Final = timedelta(minutes=1)
NAMES: Final = {
    "chat": "Chat",
    "completions": "Completions",
    "premium_models": "Premium models",
    "session": "5-hour limit",
    "weekly": "Weekly limit",
}
REMEDIES: Final = {
    Account.State.NEEDS_SIGN_IN: "Run `python manage.py auth`.",
    Account.State.NO_SEAT: "Assign a seat on GitHub, then run check-usage again.",
    Account.State.FROZEN: "An administrator must release it, on its page in the dashboard.",
    Account.State.PAUSED: "An administrator can resume it, on its page in the dashboard.",
}


def lines(said: Summary, stream: Stream) -> list[str]:
    """The account in one line, its trouble if there is any, and a line for each quota."""
    rows = _rows(said, stream)
    label_width = max((len(label) for label, _ in rows), default=0)
    found = [_head(said), *_trouble(said)]
    found += [f"{label:<{label_width}}  {value}".rstrip() for label, value in rows]
    return [line.replace("\u202f", " ") for line in found]


def age(at: datetime | None) -> str:
    if at is None:
        return "never checked"
    passed = now() - at
    return "checked now" if passed < JUST_NOW else f"checked {_span(passed)} ago"


def _head(said: Summary) -> str:
    words = [said.login if said.host == "github.com" else f"{said.login}@{said.host}"]
    words.append(f"Copilot {said.plan_name}" if said.plan_name else "plan unknown")
    words.append(_reset(said.reset_at))
    words.append(age(said.polled_at))
    return " · ".join(words)


def _reset(at: datetime | None) -> str:
    if at is None:
        return "reset unknown"
    left = at - now()
    if left <= timedelta(0):
        return f"reset was due {_day(at)} {at.year}"
    return f"resets {_day(at)} {at.year} ({_span(left)})"


def _span(delta: timedelta) -> str:
    # The narrow spaces of the pages are no use where every cell is alike.
    return span(delta).replace("\u202f", " ")


def _day(at: datetime) -> str:
    return f"{at.day} {at:%b}"


def _trouble(said: Summary) -> list[str]:
    if said.account_state in ("", Account.State.ACTIVE):
        return []
    why = f": {said.account_state_reason.rstrip('.')}" if said.account_state_reason else ""
    remedy = REMEDIES.get(Account.State(said.account_state), "")
    return [f"! {state_word(said.account_state)}{why}. {remedy}".rstrip()]


def _rows(said: Summary, stream: Stream) -> list[tuple[str, str]]:
    main = "AI credits" if said.unit == "credits" else "Premium requests"
    rows: list[tuple[str, str]] = []
    # The Free plan has nothing but chat and completions of its own.
    if said.kind != "free":
        rows.append((main, _main(said, stream)))
    rows += [(_name(q), _other(q, stream)) for q in said.quotas if not _is_main(q)]
    rows += [(_name(q), _window(q, stream)) for q in said.windows]
    return rows


def _is_main(reading: QuotaReading) -> bool:
    return reading.quota_id == "premium_interactions"


def _name(reading: QuotaReading) -> str:
    known = NAMES.get(reading.quota_id)
    return known or reading.quota_id.replace("_", " ").strip().capitalize()


def _main(said: Summary, stream: Stream) -> str:
    unit = said.unit
    match said.kind:
        case "counted" | "over":
            return _counted(said, stream)
        case "pooled":
            words = f"{grouped(round(said.used or 0, 1))} {unit} used through this seat"
            ours = f" · {credit_number(said.own_credits)} of them through this gateway"
            return f"{words} · shared pool{ours if said.own_credits else ''}"
        case "unlimited":
            return "unlimited"
    return "unknown" if said.quotas else "GitHub has not said yet"


def _counted(said: Summary, stream: Stream) -> str:
    share = (said.percent_used or 0.0) / 100
    outlook, tone = outlook_of(said)
    meter = bar(share, CELLS, pace=_pace(said.reset_at), stream=stream)
    used, total = grouped(round(said.used or 0, 1)), grouped(said.entitlement or 0)
    words = f"{used} / {total}   {share * 100:.1f} %"
    if said.kind == "over":
        extra = _extra(said)
        return f"{meter}  {words}   {grouped(round(said.over or 0, 1))} over · {extra}"
    coloured = paint(outlook, tone, stream) if tone else outlook
    return f"{meter}  {words}   {coloured}"


def _extra(said: Summary) -> str:
    if not said.overage_permitted:
        return "extra use not allowed"
    limit = f" up to {grouped(said.overage_limit)}" if said.overage_limit else ""
    return f"extra use allowed{limit}"


def _pace(reset_at: datetime | None) -> float | None:
    """Where an even use of the billing cycle would stand."""
    if reset_at is None or reset_at <= now():
        return None
    start = cycle_start(reset_at)
    return (now() - start) / (reset_at - start)


def _other(reading: QuotaReading, stream: Stream) -> str:
    if reading.unlimited:
        return "unlimited"
    if reading.entitlement and reading.remaining is not None:
        used = reading.entitlement - reading.remaining
        share = used / reading.entitlement
        meter = bar(share, CELLS, stream=stream)
        left = f"{grouped(round(max(0.0, reading.remaining), 1))} left"
        figures = f"{grouped(round(used, 1))} / {grouped(reading.entitlement)}"
        return f"{meter}  {figures}   {share * 100:.1f} %   {left}"
    if reading.entitlement == 0:
        return "none in this plan"
    return "unknown"


def _window(reading: QuotaReading, stream: Stream) -> str:
    left = 100.0 if reading.percent_remaining is None else reading.percent_remaining
    used = min(100.0, max(0.0, 100.0 - left))
    resets = ""
    if reading.reset_at is not None and reading.reset_at > now():
        resets = f"   resets in {_span(reading.reset_at - now())}"
    return f"{bar(used / 100, CELLS, stream=stream)}  {used:.1f} %{resets}"
