"""The admin of GitHub accounts: state, quota, tokens, what went through them, and what to do."""

from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.timesince import timesince, timeuntil
from django.utils.timezone import now
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin

from accounts import pools, states, tokens
from accounts import tasks as account_tasks
from accounts.access import address_of
from accounts.admin_acts import NotDone, act, by
from accounts.admin_forms import AccountForm, IntoPoolForm
from accounts.admin_limits import LIMIT_FIELDS, Limits
from accounts.admin_rules import Administrators, actor_of
from accounts.hosts import DOTCOM
from accounts.models import Account
from accounts.pools import NotPooled
from usage import admin_panels, quota
from usage.admin_panels import Panel, WithPanels
from usage.forecasts import MAIN_QUOTAS
from usage.quota_shapes import QuotaReading, UpstreamShape, parse_quota, plan_name
from usage.quota_summary import WINDOWS

State = Account.State


class TroubleFilter(admin.SimpleListFilter):
    """Accounts that somebody has to look at."""

    title = _("trouble")
    parameter_name = "trouble"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("refresh", _("refresh fails")),
            ("quota", _("quota cannot be read")),
            ("ended", _("token has ended")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "refresh":
            return queryset.exclude(refresh_error="")
        if self.value() == "quota":
            return queryset.exclude(quota_error="")
        if self.value() == "ended":
            ended = [row.pk for row in queryset.defer(*_HEAVY) if _ended(row)]
            return queryset.filter(pk__in=ended)
        return queryset


_HEAVY = ("github_token", "copilot_token", "quota", "model_limits")


def _ended(account: Account) -> bool:
    ends_at = token_ends_at(account)
    return ends_at is None or ends_at <= now()


def token_ends_at(account: Account) -> datetime | None:
    if account.token_fetched_at is None:
        return None
    end: datetime = account.token_fetched_at + timedelta(seconds=account.token_lifetime_s)
    return end


def quota_words(account: Account) -> str:
    """The main quota in a few words, by the stored document: no query."""
    main = _main(account)
    if main is None:
        return "–"
    if main.is_pooled:
        return f"pooled, {main.credits_used or 0:,.1f} used"
    if main.unlimited:
        return "unlimited"
    if not main.entitlement or main.remaining is None:
        return "–"
    left = max(0.0, 100 * main.remaining / main.entitlement)
    return f"{left:.0f} % left, {main.remaining:,.1f} of {main.entitlement:,.0f}"


def _main(account: Account) -> QuotaReading | None:
    try:
        found = parse_quota(account.quota or {}, account.quota_polled_at or now())
    except UpstreamShape:
        return None
    by_name = {reading.quota_id: reading for reading in found}
    return next((by_name[name] for name in MAIN_QUOTAS if name in by_name), None)


@admin.register(Account)
class AccountAdmin(Limits, WithPanels, Administrators, ModelAdmin):  # type: ignore[misc]
    """Accounts are added by signing in to GitHub; here they are steered."""

    form = AccountForm
    list_display = (
        "name",
        "owner",
        "pool",
        "shown_plan",
        "shown_state",
        "quota_left",
        "quota_age",
        "token_ends",
        "short_error",
    )
    list_fullwidth = True
    list_filter = ("state", TroubleFilter, "pool", "account_type", "credential_kind", "host")
    search_fields = ("login", "owner__username", "pool__name", "state_reason", "refresh_error")
    list_select_related = ("owner", "pool")
    list_per_page = 50
    date_hierarchy = "state_changed_at"
    autocomplete_fields = ("owner",)
    # What an administrator decides; everything else is GitHub's word or the gateway's.
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "login",
                    "host",
                    "owner",
                    "pool",
                    "weight",
                    "account_type",
                    "shown_plan",
                    "credential_kind",
                    "token_kind",
                    "app",
                    "installation_id",
                )
            },
        ),
        (
            _("State"),
            {
                "fields": (
                    "state",
                    "state_reason",
                    "state_changed_at",
                    "cooldown_until",
                    "last_error",
                    "model_limits",
                )
            },
        ),
        (
            _("Token"),
            {
                "fields": (
                    "token_ends",
                    "token_fetched_at",
                    "api_base",
                    "refresh_failures",
                    "refresh_error",
                    "refresh_not_before",
                )
            },
        ),
        (
            _("Quota"),
            {"fields": ("quota_left", "quota_polled_at", "quota_reset_at", "quota_error")},
        ),
        LIMIT_FIELDS,
    )
    editable = frozenset(
        {"owner", "account_type", "weight", *(str(name) for name in LIMIT_FIELDS[1]["fields"])}
    )
    actions = (
        "refresh_now",
        "poll_now",
        "pause",
        "resume",
        "unfreeze",
        "into_pool",
        "out_of_pool",
    )
    actions_row = (*actions[:5], "sign_in_again", *actions[5:])
    actions_detail = (
        "refresh_now",
        "poll_now",
        "sign_in_again",
        {
            "title": _("More"),
            "icon": "more_horiz",
            "items": ["pause", "resume", "unfreeze", "into_pool", "out_of_pool"],
        },
    )

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request)
        return rows.defer("github_token", "copilot_token")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        names = [name for _title, part in self.fieldsets for name in part["fields"]]
        fixed = [name for name in names if name not in self.editable]
        # A seat that is somebody's stays theirs.
        return [*fixed, "owner"] if obj is not None and obj.owner_id else fixed

    def save_model(self, request: HttpRequest, obj: Account, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        pools.refresh()

    def delete_model(self, request: HttpRequest, obj: Account) -> None:
        number = obj.pk
        super().delete_model(request, obj)
        tokens.forget(number)
        pools.refresh()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        numbers = list(queryset.values_list("pk", flat=True))
        super().delete_queryset(request, queryset)
        for number in numbers:
            tokens.forget(number)
        pools.refresh()

    def panels(self, request: HttpRequest, row: Account) -> list[Panel]:
        return [
            admin_panels.exchanges(request, account_id=row.pk),
            admin_panels.snapshots(request, row.pk, (*MAIN_QUOTAS, *WINDOWS)),
        ]

    # Columns.

    @admin.display(description=_("plan"), ordering="plan")
    def shown_plan(self, account: Account) -> str:
        return plan_name(account.plan) or f"({account.account_type})"

    @admin.display(description=_("account"), ordering="login")
    def name(self, account: Account) -> str:
        return account.login if account.host == DOTCOM else f"{account.login} @ {account.host}"

    @admin.display(description=_("state"), ordering="state")
    def shown_state(self, account: Account) -> str:
        """The state and since when, or for how long still."""
        word = State(account.state).label
        if account.state == State.COOLING_DOWN and account.cooldown_until:
            left = account.cooldown_until
            return f"{word}, {timeuntil(left)} left" if left > now() else f"{word}, over"
        return f"{word} for {timesince(account.state_changed_at)}"

    @admin.display(description=_("last error"))
    def short_error(self, account: Account) -> str:
        text = self.last_error(account)
        return text if len(text) <= 60 else f"{text[:59]}…"

    @admin.display(description=_("quota"))
    def quota_left(self, account: Account) -> str:
        return quota_words(account)

    @admin.display(description=_("quota checked"), ordering="quota_polled_at")
    def quota_age(self, account: Account) -> str:
        at = account.quota_polled_at
        return f"{timesince(at)} ago" if at else "never"

    @admin.display(description=_("token ends"), ordering="token_fetched_at")
    def token_ends(self, account: Account) -> str:
        ends_at = token_ends_at(account)
        if account.credential_kind == Account.CredentialKind.DIRECT:
            return "sent directly"
        if ends_at is None:
            return "no token"
        return f"in {timeuntil(ends_at)}" if ends_at > now() else "ended"

    @admin.display(description=_("last error"))
    def last_error(self, account: Account) -> str:
        unwell = account.state not in (State.ACTIVE, State.PAUSED)
        text = account.refresh_error or account.quota_error
        return (account.state_reason if unwell and account.state_reason else text) or "–"

    # Acts. What asks GitHub runs as a task; Health shows what came of it.

    @act(
        _("Refresh token now"),
        says=_("A task asks GitHub for a new token; Health shows what came of it."),
        asks=False,
        icon="refresh",
    )
    def refresh_now(self, request: HttpRequest, account: Account, data: Any) -> str:
        _refuse_frozen(account)
        self._record(request, "refresh_asked", account, "")
        task = account_tasks.refresh_account.delay(account.pk)
        return f"{account.login}: task {task.id} refreshes the token; Health shows how it ended."

    @act(
        _("Poll quota now"),
        says=_("A task asks GitHub for the quota; Health shows what came of it."),
        asks=False,
        icon="speed",
    )
    def poll_now(self, request: HttpRequest, account: Account, data: Any) -> str:
        from usage.tasks import poll_account

        _refuse_frozen(account)
        if not quota.has_document(account):
            raise NotDone(_("GitHub tells no quota of installations."))
        self._record(request, "poll_asked", account, "")
        task = poll_account.delay(account.pk)
        return f"{account.login}: task {task.id} polls the quota; Health shows how it ended."

    @act(
        _("Pause"),
        says=_("No new request uses these accounts until they are resumed."),
        asks=False,
        icon="pause",
    )
    def pause(self, request: HttpRequest, account: Account, data: Any) -> str:
        _refuse_frozen(account)
        return _move(request, account, State.PAUSED)

    @act(_("Resume"), says=_("These accounts serve again."), asks=False, icon="play_arrow")
    def resume(self, request: HttpRequest, account: Account, data: Any) -> str:
        if account.state != State.PAUSED:
            raise NotDone(_("It is not paused: nothing to resume."))
        return _move(request, account, State.ACTIVE)

    @act(
        _("Unfreeze"),
        says=_(
            "GitHub warned of these accounts. Released, they serve again at once; make sure first "
            "that what the warning named has ended."
        ),
        touched=lambda account: [account.state_reason] if account.state_reason else [],
        is_grave=True,
        icon="lock_open",
    )
    def unfreeze(self, request: HttpRequest, account: Account, data: Any) -> str:
        if account.state != State.FROZEN:
            raise NotDone(_("It is not frozen."))
        return _move(request, account, State.ACTIVE)

    @act(
        _("Sign in again"),
        says=_("Leads to GitHub's sign-in. Signed in with the same account, it gets a new token."),
        one=True,
        icon="login",
    )
    def sign_in_again(
        self, request: HttpRequest, account: Account, data: Any
    ) -> str | HttpResponseBase:
        if account.app_id is not None:
            raise NotDone(_("An installation has no sign-in: its App's key is changed instead."))
        self._record(request, "sign_in_begun", account, "")
        return redirect(f"{reverse('connect')}?new=1&type={account.account_type}")

    @act(
        _("Put into a pool"),
        says=_("Teams and keys of the pool share these seats."),
        form=IntoPoolForm,
        icon="group_add",
    )
    def into_pool(self, request: HttpRequest, account: Account, data: Any) -> str:
        try:
            pools.put(account, data["pool"], weight=data["weight"], **by(request))
        except NotPooled as error:
            raise NotDone(str(error)) from None
        return f"{account.login}: in the pool {data['pool']}."

    @act(
        _("Take out of its pool"),
        says=_("Teams and keys of the pool use these seats no longer."),
        touched=lambda account: [f"pool {account.pool}"] if account.pool_id else [],
        is_grave=True,
        icon="group_remove",
    )
    def out_of_pool(self, request: HttpRequest, account: Account, data: Any) -> str:
        if account.pool is None:
            raise NotDone(_("It is in no pool."))
        pools.take_out(account, **by(request))
        return f"{account.login}: in no pool any more."


def _refuse_frozen(account: Account) -> None:
    if account.state == State.FROZEN:
        raise NotDone(_("It is frozen: nothing of it goes to GitHub until it is released."))


def _move(request: HttpRequest, account: Account, state: str) -> str:
    actor = actor_of(request)
    reason = f"Set by {actor.get_username()}."
    states.set_state(account, state, reason, None, actor, address_of(request))
    return f"{account.login}: {State(state).label}."
