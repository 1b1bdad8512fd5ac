"""Figures as people read them: short on screen, exact on hover. Pure functions without Django."""

from datetime import datetime, timedelta

NANO_PER_CREDIT = 1_000_000_000
NARROW = "\u202f"  # Between a number and its unit, so that a line never breaks there.
STEPS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def grouped(value: float) -> str:
    """1284 -> `1,284`; fractions keep one decimal."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def short_number(value: float) -> str:
    """12408 -> `12,408`, 30712 -> `30.7 k`, 184000000 -> `184 M`."""
    size = abs(value)
    if size < 10_000:
        return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"
    for step, unit in STEPS:
        if size >= step * 0.9995:
            scaled = value / step
            text = f"{scaled:.0f}" if abs(scaled) >= 99.95 else f"{scaled:.1f}".removesuffix(".0")
            return f"{text}{NARROW}{unit}"
    return f"{value:,.0f}"


def short_tokens(value: float) -> str:
    """Tokens are shortened from one thousand on: 3120 -> `3.1 k`."""
    if 1000 <= abs(value) < 10_000:
        text = f"{value / 1000:.1f}".removesuffix(".0")
        return f"{text}{NARROW}k"
    return short_number(value)


def credit_number(credits_used: float) -> str:
    """One decimal, two below ten, `< 0.01` for less."""
    size = abs(credits_used)
    if size == 0:
        return "0"
    if size < 0.01:
        return "< 0.01"
    if float(credits_used).is_integer():
        return f"{credits_used:,.0f}"
    if size < 9.995:
        return f"{credits_used:.2f}"
    return f"{credits_used:,.1f}"


def nano_credits(nano_aiu: int) -> str:
    """Nano-AIU as AI credits, short."""
    return credit_number(nano_aiu / NANO_PER_CREDIT)


def exact_credits(nano_aiu: int) -> str:
    """Nano-AIU as AI credits with every digit that counts: `4.123456789`."""
    whole, rest = divmod(abs(nano_aiu), NANO_PER_CREDIT)
    digits = f"{rest:09d}".rstrip("0")
    return f"{'-' if nano_aiu < 0 else ''}{whole:,}{'.' + digits if digits else ''}"


def dollars(nano_aiu: int) -> str:
    """One AI credit is 0.01 USD."""
    amount = nano_aiu / NANO_PER_CREDIT / 100
    return f"${amount:,.2f}" if amount == 0 or amount >= 0.005 else "< $0.01"


def percent(share: float) -> str:
    """A share of 100, with one decimal below ten."""
    if share == 0:
        return f"0{NARROW}%"
    return f"{share:.1f}{NARROW}%" if abs(share) < 9.95 else f"{share:.0f}{NARROW}%"


def duration_ms(value: float | None) -> str:
    """`640 ms`, `2.4 s`, `1 min 12 s`, `3 h 5 min`."""
    if value is None:
        return "–"
    if value < 999.5:
        return f"{value:.0f}{NARROW}ms"
    seconds = value / 1000
    if seconds < 59.95:
        return f"{seconds:.1f}{NARROW}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{NARROW}min {rest}{NARROW}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}{NARROW}h {minutes}{NARROW}min"


def span(delta: timedelta) -> str:
    """The two largest units: `10 d 16 h`, `3 h 5 min`, `12 min`, `40 s`."""
    seconds = max(0, int(delta.total_seconds()))
    days, rest = divmod(seconds, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, left = divmod(rest, 60)
    if days:
        return f"{days}{NARROW}d {hours}{NARROW}h" if hours else f"{days}{NARROW}d"
    if hours:
        return f"{hours}{NARROW}h {minutes}{NARROW}min"
    if minutes:
        return f"{minutes}{NARROW}min"
    return f"{left}{NARROW}s"


def iso(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds" if at.microsecond else "seconds")


def middle_cut(text: str, length: int = 28) -> str:
    """A long name with its middle left out; beginning and end tell most."""
    if len(text) <= length:
        return text
    head = (length - 1) * 2 // 3
    return f"{text[:head]}…{text[-(length - 1 - head) :]}"
