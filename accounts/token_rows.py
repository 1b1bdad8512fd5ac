"""Tokens in the database: what a row offers, whose turn it is to refresh, what came of it.

Only the ORM side of `accounts.tokens`; every function runs in the database thread. Times are the
database's own clock, so that hosts whose clocks differ agree.
"""

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db.models import F, Q
from django.db.models.functions import Now

from accounts import audit, refusals, states
from accounts.encryption import Secret, Undecryptable
from accounts.errors import AccountUnavailable, GitHubRefused
from accounts.hosts import allowed
from accounts.models import Account

logger = logging.getLogger(__name__)

State = Account.State
DIRECT: Final = Account.CredentialKind.DIRECT
INSTALLATION: Final = Account.CredentialKind.INSTALLATION

# Longer than GitHub may take to answer; a claim whose holder died is void after it.
CLAIM_S: Final = 15.0
NO_SEAT_RETRY_S: Final = 900.0
LONGEST_BACK_OFF_S: Final = 20.0
# Longer waits are asked again hourly, also so that a clock set back locks nobody out.
LONGEST_WAIT_S: Final = 3600.0
DIRECT_REREAD_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Want:
    """What the asker needs: any valid token, one with `ahead_s` left, or another than `rejected`.

    `force` wants a new one although the stored is good; `manual` is a person's wish and also
    ignores the back-off.
    """

    rejected: str | None = field(default=None, repr=False)
    ahead_s: float = 0.0
    force: bool = False
    manual: bool = False


@dataclass(frozen=True, slots=True)
class Ready:
    """A usable credential. `left_s` is what remains of `lifetime_s`."""

    account_id: int
    login: str
    token: str = field(repr=False)
    base_url: str
    kind: str
    fetched_at: datetime
    lifetime_s: float
    left_s: float


@dataclass(frozen=True, slots=True)
class Claim:
    """It is the holder's turn to ask GitHub. `still` is usable meanwhile, if anything is."""

    account: Account
    github_token: str = field(repr=False)
    at: datetime
    still: Ready | None


@dataclass(frozen=True, slots=True)
class Busy:
    """Another process is asking GitHub."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What GitHub gave. For direct credentials `token` is the GitHub token itself."""

    token: str = field(repr=False)
    base_url: str
    kind: str
    lifetime_s: float
    about: dict[str, Any] = field(default_factory=dict, repr=False)


def begin(
    account_id: int, want: Want, known_token: str, known_left_s: float
) -> Ready | Claim | Busy:
    """Look at the row: a good token, the right to fetch one, or somebody else has that right.

    `known_left_s` is what the asking process knows by its monotonic clock to remain of
    `known_token`; it counts more than the row's wall-clock times.
    Raises `AccountUnavailable` when there is nothing to fetch or not yet.
    """
    rows = Account.objects.select_related("app").annotate(database_now=Now())
    row = rows.filter(pk=account_id).first()
    if row is None:
        raise AccountUnavailable("The account was removed.", code="no_account")
    at: datetime = row.database_now
    refuse_by_state(row, manual=want.manual)
    ready = _ready(row, at, known_token, known_left_s)
    is_good = ready is not None and _satisfies(ready, at, want)
    if ready is not None and is_good and ready.left_s >= _threshold(want, ready.lifetime_s):
        return ready
    still = ready if ready is not None and ready.token != want.rejected else None
    waits = row.refresh_not_before
    if waits and not want.manual and at < waits <= at + timedelta(seconds=LONGEST_WAIT_S + 60):
        if still and not want.force:
            return still
        raise _waiting(row, (waits - at).total_seconds())
    claim = _claim(row, at, still)
    if claim is not None:
        return claim
    return still if still and want.ahead_s else Busy()


def _ready(row: Account, at: datetime, known_token: str, known_left_s: float) -> Ready | None:
    """What the row holds, while it lasts. A clock that was set back makes nothing last longer."""
    token = _stored_token(row)
    # A host that the operator names counts at once, and no longer than it is named.
    base_url = str(settings.COPILOT_API_URL) or allowed(row.api_base, row)
    if not token or row.token_fetched_at is None or not base_url:
        return None
    age_s = max(0.0, (at - row.token_fetched_at).total_seconds())
    left_s = known_left_s if token == known_token else row.token_lifetime_s - age_s
    if left_s <= 0:
        return None
    return Ready(
        account_id=row.pk,
        login=row.login,
        token=token,
        base_url=base_url,
        kind=row.credential_kind,
        fetched_at=row.token_fetched_at,
        lifetime_s=row.token_lifetime_s,
        left_s=left_s,
    )


def _stored_token(row: Account) -> str:
    field = row.github_token if row.credential_kind == DIRECT else row.copilot_token
    try:
        return str(field.reveal())
    except Undecryptable:
        # A Copilot token is fetched again; the GitHub token's loss is told by `_claim`.
        return ""


def _satisfies(ready: Ready, at: datetime, want: Want) -> bool:
    if want.manual:
        return False
    if ready.token != want.rejected and not want.force:
        return True
    # A direct credential stays the same text: its host is read anew, once a minute at most.
    age_s = (at - ready.fetched_at).total_seconds()
    return ready.kind == DIRECT and 0 <= age_s < DIRECT_REREAD_S


def _threshold(want: Want, lifetime_s: float) -> float:
    return min(want.ahead_s, lifetime_s / 4)


def _claim(row: Account, at: datetime, still: Ready | None) -> Claim | None:
    """Win the row for `CLAIM_S`, unless another process did or has finished since it was read."""
    try:
        github_token = row.github_token.reveal()
    except Undecryptable as error:
        raise AccountUnavailable(str(error), code="needs_sign_in") from None
    if not github_token and row.credential_kind != INSTALLATION:
        raise AccountUnavailable(
            f"{row.login} has no stored token. Sign in to the account again.", code="needs_sign_in"
        )
    until = at + timedelta(seconds=CLAIM_S)
    is_free = (
        Q(refresh_claimed_until=None)
        | Q(refresh_claimed_until__lt=at)
        # Written while the clock was ahead.
        | Q(refresh_claimed_until__gt=until + timedelta(seconds=CLAIM_S))
    )
    won = Account.objects.filter(
        is_free,
        pk=row.pk,
        token_fetched_at=row.token_fetched_at,
        refresh_not_before=row.refresh_not_before,
        github_token=row.github_token,
    ).update(refresh_claimed_until=until)
    return Claim(row, github_token, at, still) if won else None


def store(claim: Claim, fetched: Fetched) -> Ready:
    """Write what GitHub gave; the account that was without a seat serves again."""
    row = claim.account
    values: dict[str, Any] = {
        "token_fetched_at": claim.at,
        "token_lifetime_s": round(fetched.lifetime_s),
        "api_base": fetched.base_url,
        "credential_kind": fetched.kind,
        "copilot_token": Secret.of("" if fetched.kind == DIRECT else fetched.token),
        "refresh_claimed_until": None,
        "refresh_failures": 0,
        "refresh_error": "",
        "refresh_not_before": None,
    }
    # Not over a new sign-in that came meanwhile.
    mine = Account.objects.filter(pk=row.pk, github_token=row.github_token)
    if mine.update(**values) and row.state in (State.NO_SEAT, State.NEEDS_SIGN_IN):
        states.set_state(row, State.ACTIVE, "GitHub gave a token again.")
    return Ready(
        account_id=row.pk,
        login=row.login,
        token=fetched.token,
        base_url=fetched.base_url,
        kind=fetched.kind,
        fetched_at=claim.at,
        lifetime_s=fetched.lifetime_s,
        left_s=fetched.lifetime_s,
    )


def store_failure(claim: Claim, refused: GitHubRefused, rejected: str | None) -> AccountUnavailable:
    """Write why GitHub gave nothing and when to ask again; gives what to tell the asker."""
    row = claim.account
    state, code, wait_s = verdict(refused, row.refresh_failures + 1)
    at: datetime = Account.objects.annotate(n=Now()).values_list("n", flat=True).get(pk=row.pk)
    values: dict[str, Any] = {
        "refresh_claimed_until": None,
        "refresh_failures": F("refresh_failures") + 1,
        "refresh_error": refused.message,
        "refresh_not_before": at + timedelta(seconds=wait_s) if wait_s else None,
    }
    if rejected and claim.still is None:
        # Other processes must not go on with a token that the upstream refuses.
        values["token_lifetime_s"] = 0
    mine = Account.objects.filter(pk=row.pk, github_token=row.github_token)
    if mine.update(**values) and state is not None:
        states.set_state(row, state, refused.message, None, audit.GATEWAY)
    logger.warning("account %s: no token: %s (%s)", row.login, refused.message, refused.reason)
    message = f"{row.login}: {refused.message}"
    return AccountUnavailable(message, code=code, retry_after_s=wait_s)


def verdict(refused: GitHubRefused, failures: int) -> tuple[str | None, str, float | None]:
    """The state that a refusal means (None: no change), its word, seconds until the next try.

    Source: docs/upstream.md#exchange-errors.
    """
    reason = refused.reason
    if refused.status == 401 or reason in (refusals.NOT_ALLOWED, refusals.UNUSABLE):
        return State.NEEDS_SIGN_IN, "needs_sign_in", None
    if reason in refusals.SUSPICIOUS:
        return State.FROZEN, "frozen", None
    is_passing = reason in refusals.PASSING or reason == refusals.RATE_LIMITED
    if refused.status == 403 and not is_passing:
        return State.NO_SEAT, "no_seat", NO_SEAT_RETRY_S
    back_off_s = min(LONGEST_BACK_OFF_S, 2.0 ** min(failures - 1, 10))
    if refused.retry_after_s:
        back_off_s = max(back_off_s, refused.retry_after_s)
    return None, "refresh_failed", min(back_off_s, LONGEST_WAIT_S)


def refuse_by_state(seat: Any, *, manual: bool = False) -> None:
    """Raise `AccountUnavailable` for accounts that wait for a person. `seat`: a row or a view."""
    reason = seat.state_reason.rstrip(".") or "no reason given"
    if seat.state == State.FROZEN:
        raise AccountUnavailable(
            f"{seat.login} is frozen: {reason}. An administrator must release it.", code="frozen"
        )
    if seat.state == State.PAUSED:
        raise AccountUnavailable(
            f"{seat.login} is paused. An administrator can resume it.", code="paused"
        )
    if seat.state == State.NEEDS_SIGN_IN and not manual:
        raise AccountUnavailable(
            f"{seat.login} must sign in to GitHub again: {reason}.", code="needs_sign_in"
        )


def _waiting(row: Account, seconds: float) -> AccountUnavailable:
    code = "no_seat" if row.state == State.NO_SEAT else "refresh_failed"
    said = row.refresh_error or row.state_reason or "GitHub gave no token."
    return AccountUnavailable(f"{row.login}: {said}", code=code, retry_after_s=max(1.0, seconds))


def due(ahead_s: float) -> dict[int, datetime | None]:
    """The accounts whose token ends within `ahead_s`, with the time their token is from."""
    rows = Account.objects.annotate(database_now=Now()).exclude(
        state__in=(State.FROZEN, State.PAUSED, State.NEEDS_SIGN_IN)
    )
    found: dict[int, datetime | None] = {}
    for row in rows.defer("github_token", "copilot_token"):
        at: datetime = row.database_now
        waits = row.refresh_not_before is not None and row.refresh_not_before > at
        if not waits and _ends_within(row, at, ahead_s):
            found[row.pk] = row.token_fetched_at
    return found


def _ends_within(row: Account, at: datetime, ahead_s: float) -> bool:
    if row.token_fetched_at is None:
        return True
    age_s = max(0.0, (at - row.token_fetched_at).total_seconds())
    return row.token_lifetime_s - age_s < min(ahead_s, row.token_lifetime_s / 4)
