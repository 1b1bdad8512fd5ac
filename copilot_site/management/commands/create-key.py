# ruff: noqa: N999 - commands carry the names that people type.
"""`manage.py create-key NAME`: a new API key; its secret alone on stdout, this once."""

import difflib
from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from django.utils.timezone import now

from accounts import keys
from accounts.members import solo_member
from accounts.models import Account, ApiKey, Member
from copilot_site.terminal import USAGE, DatabaseCommand, Failure, say

NANO_PER_CREDIT: Final = 1_000_000_000
MAX_COUNT: Final = 1_000_000
MAX_CREDITS: Final = 1_000_000
MAX_NAME_CHARS: Final = 100
MOST_SHOWN: Final = 8


class Command(DatabaseCommand):
    help = "Make an API key and print its secret, once, on stdout."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add("name", type=_name, help="where the key will be used: laptop, ci")
        add("--member", metavar="M", help="whose key it is (the owner of this gateway)")
        add("--models", metavar="A,B", type=_models, default=[], help="models it may use (all)")
        add("--rpm", metavar="N", type=_count, default=0, help="requests per minute")
        add("--concurrency", metavar="N", type=_count, default=0, help="requests at once")
        credits_help = "AI credits it may spend in a"
        add("--budget-day", metavar="CREDITS", type=_nano, default=0, help=f"{credits_help} day")
        add(
            "--budget-month", metavar="CREDITS", type=_nano, default=0, help=f"{credits_help} month"
        )
        add("--expires", metavar="ISO", type=_moment, help="last day, or time with offset (UTC)")
        add("--web-search", action="store_true", help="Claude clients may search the web with it")
        add("--admin", action="store_true", help="may use the administrators' API")
        add("--account", metavar="LOGIN", help="use this account's seat only")

    def run(self, **options: Any) -> None:
        owner = _member(options["member"])
        if options["admin"] and not owner.is_superuser:
            raise Failure(
                f"{owner} is no administrator, so a key of theirs cannot be one.",
                "Leave --admin out, or name a --member who is.",
                USAGE,
            )
        account = _account(options["account"]) if options["account"] else None
        key, secret = keys.create(
            options["name"],
            owner,
            actor="terminal",
            account=account,
            models_allowed=options["models"],
            requests_per_minute=options["rpm"],
            concurrency=options["concurrency"],
            budget_day_nano_aiu=options["budget_day"],
            budget_month_nano_aiu=options["budget_month"],
            allows_web_search=options["web_search"],
            is_admin=options["admin"],
            expires_at=options["expires"],
        )
        self._hand_over(key, secret)
        say(f"✓ Key {key.name} ({key.prefix}…) for {owner}. Stored only as a hash:")
        say("  this was the one time that it is shown.")
        if key.expires_at:
            say(f"  Valid until {key.expires_at:%Y-%m-%d %H:%M} UTC.")
        _remark_on(key.models_allowed)

    def _hand_over(self, key: ApiKey, secret: str) -> None:
        """A secret that reached nobody is worth nothing: then the key goes, too."""
        try:
            self.out(secret)
            self.stdout.flush()
        except (OSError, ValueError) as error:
            keys.revoke(key, actor="terminal")
            raise Failure(
                f"The secret could not be written to stdout: {error}.",
                "The key was revoked. Correct that, then make another one.",
            ) from error


def _member(name: str | None) -> Member:
    if name is None:
        return solo_member()
    found = Member.objects.filter(username=name).first()
    if found is None:
        names = list(Member.objects.order_by("username").values_list("username", flat=True))
        raise Failure(f"There is no member {name!r}.", _suggest(name, names), USAGE)
    if not found.is_active:
        raise Failure(
            f"{found} is inactive, so the key would be refused.",
            "Activate the member in the admin first.",
            USAGE,
        )
    return found


def _account(login: str) -> Account:
    found: Account | None = Account.objects.filter(login__iexact=login).first()
    if found is None:
        logins = list(Account.objects.order_by("login").values_list("login", flat=True))
        raise Failure(f"There is no account {login!r}.", _suggest(login, logins), USAGE)
    return found


def _suggest(given: str, names: list[str]) -> str:
    near = difflib.get_close_matches(given, names, n=3)
    if near:
        return f"Did you mean {' or '.join(near)}?"
    if not names:
        return "There is none yet."
    return f"There are: {', '.join(names[:MOST_SHOWN])}{'…' if len(names) > MOST_SHOWN else ''}"


def _remark_on(models: list[str]) -> None:
    """A name that no account has now may come to be; a slip of the hand is told."""
    if not models:
        return
    # Only here: to load it takes a third of this command's time, and few keys name models.
    from proxy import catalog

    catalog.book.refresh(force=True)
    known = {m for one in catalog.book.value.by_account.values() for m in one.entries}
    for name in models:
        if known and name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1)
            say(f"! No account offers {name!r} now.{f' Did you mean {near[0]}?' if near else ''}")


# What options hold.


def _name(text: str) -> str:
    name = text.strip()
    if not name or len(name) > MAX_NAME_CHARS or not name.isprintable():
        raise ArgumentTypeError(f"a name has 1 to {MAX_NAME_CHARS} printable characters.")
    return name


def _models(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise ArgumentTypeError("write the models' ids with commas between them.")
    return list(dict.fromkeys(names))


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 1 <= value <= MAX_COUNT:
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1 to {MAX_COUNT:,}.")
    return value


def _nano(text: str) -> int:
    """Credits, also fractions, as nano-AIU."""
    try:
        credits_given = Decimal(text)
    except InvalidOperation:
        credits_given = Decimal(0)
    if not credits_given.is_finite() or not 0 < credits_given <= MAX_CREDITS:
        raise ArgumentTypeError(f"{text!r} is not a number of credits above 0, up to 1,000,000.")
    return max(1, round(credits_given * NANO_PER_CREDIT))


def _moment(text: str) -> datetime:
    """A time; of a bare date the end, because it is the key's last day as on the page."""
    try:
        day = _day(text.strip())
        at = datetime.fromisoformat(text.strip()) if day is None else _end_of(day)
        at = (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ArgumentTypeError(
            f"{text!r} is not an ISO date or time such as 2026-12-31 or 2026-12-31T18:00+01:00."
        ) from None
    if at <= now():
        raise ArgumentTypeError(f"{text!r} has passed.")
    return at


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _end_of(day: date) -> datetime:
    return datetime.combine(day + timedelta(days=1), time.min)
