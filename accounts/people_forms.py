"""Forms about people: joining, inviting, limits and budgets in human units, raises, groups."""

from datetime import datetime, time, timedelta
from typing import Any, Final

from django import forms
from django.contrib.auth.password_validation import validate_password
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import acceptable_use, hours, invites
from accounts.forms import MAX_CREDITS, NANO_PER_CREDIT
from accounts.invites import Newcomer
from accounts.members import is_taken
from accounts.models import BudgetRaise, Effort, Member, Pool, Role, Team

MAX_COUNT: Final = 2_000_000_000
MAX_RAISE_DAYS: Final = 366


class JoinForm(forms.Form):
    """What a person says of themselves at the invite's link."""

    username = forms.CharField(
        label=_("Name to sign in with"),
        max_length=150,
        validators=[UnicodeUsernameValidator()],
        widget=forms.TextInput(attrs={"autocomplete": "username", "autocapitalize": "none"}),
    )
    first_name = forms.CharField(label=_("First name"), max_length=150, required=False)
    last_name = forms.CharField(label=_("Last name"), max_length=150, required=False)
    email = forms.EmailField(label=_("E-mail"), required=False)
    password = forms.CharField(
        label=_("Password"),
        max_length=1000,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )
    repeated = forms.CharField(
        label=_("Password once more"),
        max_length=1000,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def clean_username(self) -> str:
        name = str(self.cleaned_data["username"])
        if is_taken(name):
            raise ValidationError(_("Somebody has this name already."))
        return name

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        given = data.get("password")
        if given and given != data.get("repeated"):
            self.add_error("repeated", _("The two passwords differ."))
        elif given:
            person = Member(username=data.get("username", ""), email=data.get("email", ""))
            try:
                validate_password(given, person)
            except ValidationError as error:
                self.add_error("password", error)
        return data

    def newcomer(self) -> Newcomer:
        data = self.cleaned_data
        return Newcomer(
            data["username"],
            password=data["password"],
            first_name=data["first_name"],
            last_name=data["last_name"],
            email=data["email"],
        )


class InviteForm(forms.Form):
    email = forms.EmailField(
        label=_("E-mail"),
        required=False,
        help_text=_("Only to know whom it is for, and to send it."),
    )
    role = forms.ChoiceField(label=_("Role"), choices=Role.choices, initial=Role.MEMBER)
    team = forms.ModelChoiceField(
        label=_("Team"), queryset=Team.objects.all(), required=False, empty_label=_("none")
    )
    days = forms.IntegerField(
        label=_("Days until it expires"),
        min_value=1,
        max_value=invites.MAX_DAYS,
        initial=invites.DEFAULT_DAYS,
    )


class NoticeForm(forms.Form):
    text = forms.CharField(
        label=_("Text"),
        required=False,
        max_length=acceptable_use.MAX_CHARS,
        widget=forms.Textarea(attrs={"rows": 14}),
        help_text=_("Plain text; blank lines make paragraphs. Empty: nothing is asked any more."),
    )


class GroupForm(forms.Form):
    group = forms.CharField(
        label=_("Group"),
        max_length=200,
        help_text=_("As the provider names it; for GitHub: github:organisation"),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    role = forms.ChoiceField(label=_("Role"), choices=Role.choices, initial=Role.MEMBER)
    team = forms.ModelChoiceField(
        label=_("Team"), queryset=Team.objects.all(), required=False, empty_label=_("none")
    )


def _count(label: Any) -> forms.IntegerField:
    return forms.IntegerField(label=label, required=False, min_value=0, max_value=MAX_COUNT)


def _credits(label: Any) -> forms.FloatField:
    return forms.FloatField(label=label, required=False, min_value=0, max_value=MAX_CREDITS)


COUNTS: Final = (
    "requests_per_minute",
    "tokens_per_minute",
    "concurrency",
    "max_context_tokens",
    "max_output_tokens",
)
BUDGETS: Final = ("budget_day", "budget_week", "budget_month")


class LimitsForm(forms.Form):
    """The columns of `Limited` and `ModelRules` in human units; empty means no limit.

    `initial_of(row)` fills it, `write(row)` sets the columns and names those that changed.
    """

    requests_per_minute = _count(_("Requests per minute"))
    tokens_per_minute = _count(_("Tokens per minute"))
    concurrency = _count(_("Requests at once"))
    max_context_tokens = _count(_("Largest context, tokens"))
    max_output_tokens = _count(_("Largest output, tokens"))
    max_effort = forms.ChoiceField(
        label=_("Highest reasoning effort"),
        choices=[("", _("any")), *Effort.choices],
        required=False,
    )
    office_hours = forms.CharField(
        label=_("Office hours"),
        max_length=200,
        required=False,
        help_text=_("Mon-Fri 08:00-19:00 Europe/Berlin; several with ; between them"),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    models_allowed = forms.CharField(
        label=_("Models allowed"),
        required=False,
        max_length=2000,
        help_text=_("Ids or gpt-5*, with commas between them. Empty: every model."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    models_denied = forms.CharField(
        label=_("Models denied"),
        required=False,
        max_length=2000,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    budget_day = _credits(_("Credits per day"))
    budget_week = _credits(_("Credits per week"))
    budget_month = _credits(_("Credits per billing month"))
    budget_warn_percent = forms.IntegerField(
        label=_("Warn from, %"), min_value=1, max_value=100, initial=80
    )
    budget_is_hard = forms.BooleanField(
        label=_("Refuse requests above a budget"),
        required=False,
        help_text=_("Else it only warns."),
    )

    @staticmethod
    def initial_of(row: Any) -> dict[str, Any]:
        found: dict[str, Any] = {name: getattr(row, name) or None for name in COUNTS}
        for name in BUDGETS:
            nano = getattr(row, f"{name}_nano_aiu")
            found[name] = f"{nano / NANO_PER_CREDIT:g}" if nano else None
        for name in ("max_effort", "office_hours", "budget_warn_percent", "budget_is_hard"):
            found[name] = getattr(row, name)
        for name in ("models_allowed", "models_denied"):
            found[name] = ", ".join(str(each) for each in getattr(row, name) or ())
        return found

    def clean_office_hours(self) -> str:
        text = "; ".join(filter(None, map(str.strip, self.cleaned_data["office_hours"].split(";"))))
        try:
            hours.parse(text)
        except ValueError as error:
            raise ValidationError(str(error)) from None
        return text

    def clean_models_allowed(self) -> list[str]:
        return _names(self.cleaned_data["models_allowed"])

    def clean_models_denied(self) -> list[str]:
        return _names(self.cleaned_data["models_denied"])

    def values(self) -> dict[str, Any]:
        """The columns and what they become."""
        data = self.cleaned_data
        found: dict[str, Any] = {name: data[name] or 0 for name in COUNTS}
        for name in BUDGETS:
            found[f"{name}_nano_aiu"] = int((data[name] or 0) * NANO_PER_CREDIT)
        for name in (
            "max_effort",
            "office_hours",
            "models_allowed",
            "models_denied",
            "budget_warn_percent",
            "budget_is_hard",
        ):
            found[name] = data[name]
        return found

    def write(self, row: Any) -> dict[str, Any]:
        """Set the columns of `row`, unsaved; `{column: [before, after]}` of those that changed."""
        changed: dict[str, Any] = {}
        for name, value in self.values().items():
            before = getattr(row, name)
            if before != value:
                changed[name] = [before, value]
                setattr(row, name, value)
        return changed


class RaiseForm(forms.Form):
    """More to spend for a while."""

    period = forms.ChoiceField(label=_("Budget of"), choices=BudgetRaise.Period.choices)
    extra = forms.FloatField(label=_("Credits more"), min_value=0.01, max_value=MAX_CREDITS)
    reason = forms.CharField(label=_("Reason"), max_length=500)
    last_day = forms.DateField(
        label=_("Last day"), widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
    )

    def clean_last_day(self) -> datetime:
        day = self.cleaned_data["last_day"]
        zone = timezone.get_current_timezone()
        if day.year > timezone.now().year + 2:
            raise ValidationError(_("This day is too far away."))
        end = datetime.combine(day + timedelta(days=1), time.min, zone)
        if end <= timezone.now():
            raise ValidationError(_("This day has passed."))
        if end > timezone.now() + timedelta(days=MAX_RAISE_DAYS):
            raise ValidationError(_("This day is too far away."))
        return end

    @property
    def extra_nano_aiu(self) -> int:
        return int(self.cleaned_data["extra"] * NANO_PER_CREDIT)


class TeamForm(forms.Form):
    name = forms.CharField(label=_("Name"), max_length=100)
    cost_centre = forms.CharField(label=_("Cost centre"), max_length=100, required=False)
    lead = forms.ModelChoiceField(
        label=_("Lead"),
        queryset=Member.objects.none(),
        required=False,
        empty_label=_("nobody"),
        help_text=_("Sees the sums of the team and of its members, not their requests."),
    )
    pool = forms.ModelChoiceField(
        label=_("Pool of seats"),
        queryset=Pool.objects.all(),
        required=False,
        empty_label=_("none, own seats"),
    )

    def __init__(self, *args: Any, team: Team | None = None, **kwargs: Any) -> None:
        if team is not None:
            kwargs["initial"] = {
                "name": team.name,
                "cost_centre": team.cost_centre,
                "lead": team.lead_id,
                "pool": team.pool_id,
            }
        super().__init__(*args, **kwargs)
        self.team = team
        lead = self.fields["lead"]
        assert isinstance(lead, forms.ModelChoiceField)
        lead.queryset = Member.objects.filter(is_active=True).order_by("username")

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"]).strip()
        others = Team.objects.filter(name__iexact=name)
        if self.team is not None:
            others = others.exclude(pk=self.team.pk)
        if others.exists():
            raise ValidationError(_("Another team has this name."))
        return name

    def write(self, team: Team) -> dict[str, Any]:
        changed: dict[str, Any] = {}
        for name in ("name", "cost_centre", "lead", "pool"):
            before, value = getattr(team, name), self.cleaned_data[name]
            if before != value:
                changed[name] = [str(before or ""), str(value or "")]
                setattr(team, name, value)
        return changed


class MemberTeamForm(forms.Form):
    """Which team a member is in."""

    team = forms.ModelChoiceField(
        label=_("Team"), queryset=Team.objects.all(), required=False, empty_label=_("none")
    )


def _names(text: Any) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in str(text).split(",") if name.strip()))
