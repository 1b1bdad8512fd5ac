"""Template filters and tags for figures, times, icons and links that keep the filters of a page."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django import template
from django.http import HttpRequest
from django.templatetags.static import static
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import localtime, now
from django.utils.translation import gettext as _

from usage import figures

register = template.Library()
DASH = format_html("{}", "–")


def _exact(short: str, exact: str) -> SafeString:
    """The short figure, isolated from the direction around it, with the exact one on hover."""
    return format_html('<bdi title="{}">{}</bdi>', exact, short)


@register.filter
def short_number(value: float | None) -> SafeString:
    if value is None:
        return DASH
    return _exact(figures.short_number(value), figures.grouped(value))


@register.filter
def tokens(value: float | None) -> SafeString:
    if value is None:
        return DASH
    return _exact(figures.short_tokens(value), figures.grouped(value))


@register.filter
def credits(nano_aiu: int | None) -> SafeString:
    """Nano-AIU as AI credits, without the word."""
    if nano_aiu is None:
        return DASH
    return _exact(figures.nano_credits(nano_aiu), figures.exact_credits(nano_aiu))


@register.filter
def credit_number(value: float | None) -> SafeString:
    """AI credits given as a plain number."""
    if value is None:
        return DASH
    return _exact(figures.credit_number(value), f"{value:,}")


@register.filter
def dollars(nano_aiu: int) -> SafeString:
    return format_html("<bdi>{}</bdi>", figures.dollars(nano_aiu))


@register.filter
def percent(share: float | None) -> SafeString:
    if share is None:
        return DASH
    return _exact(figures.percent(share), f"{share:.4f} %")


@register.filter
def duration_ms(value: float | None) -> SafeString:
    if value is None:
        return DASH
    return _exact(figures.duration_ms(value), f"{value:,.0f} ms")


@register.filter
def middle_cut(text: str, length: int = 28) -> SafeString:
    short = figures.middle_cut(str(text), int(length))
    if short == str(text):
        return format_html("<bdi>{}</bdi>", text)
    return format_html('<bdi title="{}">{}</bdi>', text, short)


def ago_text(at: datetime) -> str:
    """`now`, `2 min ago`, `3 h 5 min ago`; a time to come reads `in 5 min`."""
    delta = now() - at
    if delta < timedelta(seconds=-5):
        return _("in %(span)s") % {"span": figures.span(-delta)}
    if delta < timedelta(seconds=5):
        return _("now")
    return _("%(span)s ago") % {"span": figures.span(delta)}


@register.filter
def ago(at: datetime | None) -> SafeString:
    """An age in words that the page's script keeps true; hover gives UTC."""
    if at is None:
        return format_html("{}", _("never"))
    return format_html(
        '<time datetime="{}" title="{}" data-ago>{}</time>', figures.iso(at), _utc(at), ago_text(at)
    )


@register.filter
def until(at: datetime | None) -> SafeString:
    """What is left until a time, without a word around it."""
    if at is None:
        return DASH
    return format_html(
        '<time datetime="{}" title="{}" data-until>{}</time>',
        figures.iso(at),
        _utc(at),
        figures.span(at - now()),
    )


def _utc(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC · {figures.iso(localtime(at))}"


@register.filter
def clock(at: datetime | None) -> SafeString:
    """Time of day today, day and time before; in the person's zone, UTC on hover."""
    if at is None:
        return DASH
    local, today = localtime(at), localtime(now()).date()
    if local.date() == today:
        text = f"{local:%H:%M:%S}"
    elif local.year == today.year:
        text = f"{date_format(local, 'j M')} {local:%H:%M}"
    else:
        text = f"{date_format(local, 'j M Y')} {local:%H:%M}"
    return format_html('<time datetime="{}" title="{}">{}</time>', figures.iso(at), _utc(at), text)


@register.filter
def day(at: datetime | None) -> SafeString:
    if at is None:
        return DASH
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        figures.iso(at),
        _utc(at),
        date_format(localtime(at), "j M Y"),
    )


@register.simple_tag
def icon(name: str, label: str = "") -> SafeString:
    """One symbol of the sprite. Without a label it is decoration and hidden from readers."""
    href = f"{static('icons.svg')}#{name}"
    if label:
        return format_html(
            '<svg class="icon" width="16" height="16" role="img" aria-label="{}">'
            '<use href="{}"/></svg>',
            label,
            href,
        )
    return format_html(
        '<svg class="icon" width="16" height="16" aria-hidden="true"><use href="{}"/></svg>', href
    )


@register.simple_tag(takes_context=True)
def with_query(context: dict[str, Any], **changes: Any) -> str:
    """The page's query string with `changes`; an empty value takes the name away."""
    request: HttpRequest = context["request"]
    query = request.GET.copy()
    for name in ("after", "signin", *changes):
        query.pop(name, None)
    for name, value in changes.items():
        if value not in (None, ""):
            query[name] = str(value)
    return f"?{query.urlencode()}" if query else "?"


@register.filter
def lookup(mapping: dict[Any, Any], key: Any) -> Any:
    return mapping.get(key)


@register.simple_tag
def query_for(name: str, value: str, range_: str) -> str:
    """The query string of a list that is filtered by one thing in the same time."""
    return f"?{urlencode({'range': range_, name: value})}"


@register.filter
def compared(value: float, before: float) -> SafeString:
    """`▲ 8 %` against the period before, in words for those who do not see the arrow."""
    if not before:
        return format_html("{}", _("no period before"))
    change = (value - before) * 100 / before
    if abs(change) < 0.5:
        return format_html("{}", _("as before"))
    word = _("more than before") if change > 0 else _("less than before")
    return format_html(
        '<span class="delta" title="{}">{} <bdi>{}</bdi></span><span class="sr"> {}</span>',
        _("before: %(figure)s") % {"figure": figures.grouped(before)}
        if before < figures.NANO_PER_CREDIT / 100
        else word,
        icon("up" if change > 0 else "down"),
        figures.percent(min(abs(change), 999)),
        word,
    )


@register.filter
def usd(price: float | None) -> SafeString:
    """A price in USD: `0.25`, `2.50`, `0.025`."""
    if price is None:
        return DASH
    text = f"{price:.2f}" if price >= 0.1 or price == 0 else f"{price:.3f}"
    return format_html("<bdi>{}</bdi>", text)
