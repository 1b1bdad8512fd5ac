"""Forms of one API key: rotate, extend, store bodies, seat and lane, limits of another key."""

from datetime import datetime, timedelta
from typing import Any, Final

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import Account, ApiKey, Lane, Pool

GRACES: Final = (
    (0, _("at once")),
    (1, _("in an hour")),
    (24, _("in a day")),
    (168, _("in a week")),
)
MAX_STORE_DAYS: Final = 30
MAX_YEARS: Final = 50


def end_of(day: Any) -> datetime:
    """The end of a day in the person's zone."""
    zone = timezone.get_current_timezone()
    return datetime.combine(day + timedelta(days=1), datetime.min.time(), zone)


class RotateForm(forms.Form):
    grace_h = forms.TypedChoiceField(
        label=_("The old secret ends"), choices=GRACES, coerce=int, initial=24
    )

    @property
    def grace(self) -> timedelta:
        return timedelta(hours=self.cleaned_data["grace_h"])


class DayForm(forms.Form):
    """A last day, empty for none."""

    last_day = forms.DateField(
        label=_("Last day"),
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )
    # The last day may lie so far away.
    reach = timedelta(days=366 * MAX_YEARS)
    column = "expires_at"

    def __init__(self, *args: Any, key: ApiKey, **kwargs: Any) -> None:
        until = getattr(key, self.column)
        if until is not None:
            last = timezone.localtime(until) - timedelta(seconds=1)
            kwargs.setdefault("initial", {"last_day": last.date()})
        super().__init__(*args, **kwargs)

    def clean_last_day(self) -> Any:
        day = self.cleaned_data["last_day"]
        if day is None:
            return None
        today = timezone.localdate()
        if day < today:
            raise ValidationError(_("This day has passed."))
        if day - today > self.reach:
            raise ValidationError(_("This day is too far away."))
        return day

    @property
    def until(self) -> datetime | None:
        day = self.cleaned_data["last_day"]
        return None if day is None else end_of(day)


class ExtendForm(DayForm):
    """The last day that the key works; empty: it does not expire."""


class StoreForm(DayForm):
    """The last day on which bodies are kept; empty: none are."""

    reach = timedelta(days=MAX_STORE_DAYS)
    column = "stores_bodies_until"


class SeatForm(forms.Form):
    """Whose seat the key uses, and how it goes."""

    account = forms.ModelChoiceField(
        label=_("GitHub account"),
        queryset=Account.objects.none(),
        required=False,
        empty_label=_("the owner's own account"),
    )
    pool = forms.ModelChoiceField(
        label=_("Pool of seats"),
        queryset=Pool.objects.all(),
        required=False,
        empty_label=_("none"),
    )
    lane = forms.ChoiceField(
        label=_("Lane"),
        choices=Lane.choices,
        help_text=_("Bulk jobs wait behind people in the batch lane."),
    )
    needs_approval = forms.BooleanField(
        label=_("Every request waits for a person's approval"), required=False
    )
    allows_web_search = forms.BooleanField(
        label=_("Claude clients may search the web, through a GPT model"), required=False
    )

    def __init__(self, *args: Any, key: ApiKey, **kwargs: Any) -> None:
        names = ("account", "pool", "lane", "needs_approval", "allows_web_search")
        kwargs["initial"] = {name: getattr(key, name) for name in names}
        super().__init__(*args, **kwargs)
        accounts = self.fields["account"]
        assert isinstance(accounts, forms.ModelChoiceField)
        # One person, one seat: nobody else's account can be chosen.
        accounts.queryset = Account.objects.filter(Q(owner=key.owner) | Q(owner=None, pool=None))

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("account") and data.get("pool"):
            self.add_error("pool", _("An account or a pool, not both."))
        return data

    def write(self, key: ApiKey) -> dict[str, Any]:
        """Set the columns of `key`, unsaved; `{column: [before, after]}` of those that changed."""
        changed: dict[str, Any] = {}
        for name, value in self.cleaned_data.items():
            before = getattr(key, name)
            if before != value:
                plain = isinstance(value, bool)
                shown = [before, value] if plain else [str(before or ""), str(value or "")]
                changed[name] = shown
                setattr(key, name, value)
        return changed


class CopyLimitsForm(forms.Form):
    source = forms.ModelChoiceField(label=_("From"), queryset=ApiKey.objects.none())

    def __init__(self, *args: Any, key: ApiKey, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        source = self.fields["source"]
        assert isinstance(source, forms.ModelChoiceField)
        source.queryset = ApiKey.objects.filter(revoked_at=None).exclude(pk=key.pk).order_by("name")
