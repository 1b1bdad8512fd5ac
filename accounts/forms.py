"""Forms of people's own pages: sign-in, preferences, a new API key, a sign-in to GitHub."""

import zoneinfo
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from django import forms
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import Account, ApiKey, Member

if TYPE_CHECKING:
    MemberForm = forms.ModelForm[Member]
else:
    # Only type checkers know the form's parameter.
    MemberForm = forms.ModelForm

NANO_PER_CREDIT = 1_000_000_000
MAX_CREDITS = 1_000_000
MAX_YEARS = 20


class SignInForm(forms.Form):
    username = forms.CharField(
        label=_("Name"),
        max_length=150,
        widget=forms.TextInput(attrs={"autocomplete": "username", "autocapitalize": "none"}),
    )
    password = forms.CharField(
        label=_("Password"),
        max_length=1000,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )


class PreferencesForm(MemberForm):
    class Meta:
        model = Member
        fields = ["first_name", "last_name", "email", "time_zone", "theme"]

    def clean_time_zone(self) -> str:
        name = str(self.cleaned_data["time_zone"]).strip()
        if name and name not in zoneinfo.available_timezones():
            raise forms.ValidationError(_("No time zone has this name. Example: Europe/Berlin"))
        return name


class ThemeForm(MemberForm):
    class Meta:
        model = Member
        fields = ["theme"]


class NewKeyForm(forms.Form):
    """What a key may do. Credits become nano-AIU; empty means no limit."""

    form_id = forms.UUIDField(widget=forms.HiddenInput)
    name = forms.CharField(
        label=_("Name"),
        max_length=100,
        help_text=_("Where the key will be used: laptop, ci, …"),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    expires = forms.DateField(
        label=_("Last day"),
        required=False,
        help_text=_("Empty: it does not expire."),
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )
    models_allowed = forms.CharField(
        label=_("Models"),
        required=False,
        max_length=2000,
        help_text=_("Ids with commas between them. Empty: every model."),
        widget=forms.TextInput(attrs={"list": "model-ids", "autocomplete": "off"}),
    )
    budget_day = forms.FloatField(
        label=_("Credits per day"), required=False, min_value=0, max_value=MAX_CREDITS
    )
    budget_month = forms.FloatField(
        label=_("Credits per month"), required=False, min_value=0, max_value=MAX_CREDITS
    )
    requests_per_minute = forms.IntegerField(
        label=_("Requests per minute"), required=False, min_value=0, max_value=100_000
    )
    concurrency = forms.IntegerField(
        label=_("Requests at once"), required=False, min_value=0, max_value=10_000
    )
    needs_approval = forms.BooleanField(
        label=_("Every request waits for a person's approval"), required=False
    )
    allows_web_search = forms.BooleanField(
        label=_("Claude clients may search the web, through a GPT model"), required=False
    )
    account = forms.ModelChoiceField(
        label=_("GitHub account"),
        queryset=Account.objects.none(),
        required=False,
        empty_label=_("the owner's own account"),
    )
    owner = forms.ModelChoiceField(
        label=_("Owner"), queryset=Member.objects.none(), required=False, empty_label=_("me")
    )
    is_admin = forms.BooleanField(label=_("May use the administrators' API"), required=False)

    def __init__(self, *args: Any, member: Member, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.member = member
        accounts, owners = self.fields["account"], self.fields["owner"]
        assert isinstance(accounts, forms.ModelChoiceField)
        assert isinstance(owners, forms.ModelChoiceField)
        if member.is_superuser:
            accounts.queryset = Account.objects.all()
            owners.queryset = Member.objects.filter(is_active=True).order_by("username")
        else:
            # Fields that one may not set do not exist; what is sent for them is ignored.
            accounts.queryset = Account.objects.filter(owner=member)
            del self.fields["owner"], self.fields["is_admin"]

    def clean_expires(self) -> datetime | None:
        day = self.cleaned_data["expires"]
        if day is None:
            return None
        if day.year > timezone.now().year + MAX_YEARS:
            raise forms.ValidationError(_("This day is too far away; leave it empty instead."))
        end = datetime.combine(day + timedelta(days=1), time.min, timezone.get_current_timezone())
        if end <= timezone.now():
            raise forms.ValidationError(_("This day has passed."))
        return end

    def clean_models_allowed(self) -> list[str]:
        names = str(self.cleaned_data["models_allowed"]).split(",")
        return list(dict.fromkeys(name.strip() for name in names if name.strip()))

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        account, owner = data.get("account"), data.get("owner") or self.member
        if account is not None and account.owner not in (None, owner):
            self.add_error("account", _("This account belongs to another person."))
        return data

    def limits(self) -> dict[str, Any]:
        """The limits as `accounts.keys.create` takes them."""
        data = self.cleaned_data
        return {
            "expires_at": data["expires"],
            "models_allowed": data["models_allowed"],
            "budget_day_nano_aiu": int((data["budget_day"] or 0) * NANO_PER_CREDIT),
            "budget_month_nano_aiu": int((data["budget_month"] or 0) * NANO_PER_CREDIT),
            "requests_per_minute": data["requests_per_minute"] or 0,
            "concurrency": data["concurrency"] or 0,
            "needs_approval": data["needs_approval"],
            "allows_web_search": data["allows_web_search"],
            "account": data["account"],
            "is_admin": data.get("is_admin", False),
        }


class RevokeForm(forms.Form):
    """Revoking asks for the key's name, so that no slip of the hand ends somebody's work."""

    name = forms.CharField(label=_("Name of the key"), max_length=100, strip=True)

    def __init__(self, *args: Any, key: ApiKey, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.key = key

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"])
        if name != self.key.name:
            raise forms.ValidationError(_("This is not the name of the key."))
        return name


class ConnectForm(forms.Form):
    account_type = forms.ChoiceField(
        label=_("Plan"), choices=Account.Plan.choices, initial=Account.Plan.INDIVIDUAL
    )
    host = forms.CharField(
        label=_("GitHub host"),
        max_length=255,
        initial="github.com",
        help_text=_("Another one only with data residency: company.ghe.com"),
    )
