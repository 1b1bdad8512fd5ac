"""Forms of seats: pools with what uses them, GitHub Apps, and their installations."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts.errors import GitHubRefused
from accounts.hosts import DOTCOM, known_host
from accounts.models import Account, ApiKey, GitHubApp, Pool, Team

MAX_WEIGHT = 100
MAX_KEY_CHARS = 20_000


class NewPoolForm(forms.Form):
    name = forms.CharField(
        label=_("Name"),
        max_length=100,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"])
        if Pool.objects.filter(name__iexact=name).exists():
            raise forms.ValidationError(_("There is a pool of this name already."))
        return name


class PoolForm(forms.Form):
    """A pool's name and note, whether it fails over, and who uses it."""

    name = forms.CharField(label=_("Name"), max_length=100)
    note = forms.CharField(
        label=_("Note"), required=False, max_length=2000, widget=forms.Textarea(attrs={"rows": 2})
    )
    failover = forms.BooleanField(
        label=_("Failover"),
        required=False,
        help_text=_(
            "When a seat meets its limit or fails, a conversation that only begins goes on with "
            "another seat of this pool. What has a history stays where it is. Off: the request "
            "fails and says when to come back."
        ),
    )
    teams = forms.ModelMultipleChoiceField(
        label=_("Teams that use it"),
        queryset=Team.objects.all(),
        required=False,
        help_text=_("For members without an account of their own."),
    )
    keys = forms.ModelMultipleChoiceField(
        label=_("API keys that use it"),
        queryset=ApiKey.objects.none(),
        required=False,
        help_text=_("These keys use the pool whatever account their owner has."),
    )

    def __init__(self, *args: Any, pool: Pool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pool = pool
        keys = self.fields["keys"]
        assert isinstance(keys, forms.ModelMultipleChoiceField)
        keys.queryset = ApiKey.objects.filter(revoked_at=None).select_related("owner")
        self.initial = {
            "name": pool.name,
            "note": pool.note,
            "failover": pool.failover,
            "teams": list(pool.teams.values_list("pk", flat=True)),
            "keys": list(pool.api_keys.values_list("pk", flat=True)),
        }

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"])
        if Pool.objects.filter(name__iexact=name).exclude(pk=self.pool.pk).exists():
            raise forms.ValidationError(_("There is a pool of this name already."))
        return name


class SeatForm(forms.Form):
    """A seat of the organisation for a pool. Personal accounts are offered too: the refusal says why."""

    account = forms.ModelChoiceField(label=_("Account"), queryset=Account.objects.none())
    weight = forms.IntegerField(
        label=_("Weight"),
        min_value=0,
        max_value=MAX_WEIGHT,
        initial=1,
        help_text=_("Its share of the new conversations. 0: it gets none."),
    )

    def __init__(self, *args: Any, pool: Pool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        accounts = self.fields["account"]
        assert isinstance(accounts, forms.ModelChoiceField)
        accounts.queryset = Account.objects.exclude(pool=pool).order_by("login")


class WeightForm(forms.Form):
    weight = forms.IntegerField(min_value=0, max_value=MAX_WEIGHT)


class AppForm(forms.Form):
    """A GitHub App. The key is only ever written: empty keeps the one that is stored."""

    name = forms.CharField(label=_("Name"), max_length=100)
    issuer = forms.CharField(
        label=_("Client id"),
        max_length=64,
        help_text=_("From the App's settings on GitHub; its number works as well."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    host = forms.CharField(
        label=_("GitHub host"),
        max_length=255,
        initial=DOTCOM,
        help_text=_("github.com, or your enterprise's address such as example.ghe.com."),
    )
    key = forms.CharField(
        label=_("Private key"),
        required=False,
        max_length=MAX_KEY_CHARS,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 4, "autocomplete": "off", "spellcheck": "false"}),
        help_text=_("The whole .pem file. It is encrypted and never shown again."),
    )

    def __init__(self, *args: Any, app: GitHubApp | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.app = app
        if app is not None:
            self.initial = {"name": app.name, "issuer": app.issuer, "host": app.host}

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"])
        others = GitHubApp.objects.filter(name__iexact=name)
        if (others.exclude(pk=self.app.pk) if self.app else others).exists():
            raise forms.ValidationError(_("There is an App of this name already."))
        return name

    def clean_host(self) -> str:
        try:
            return known_host(str(self.cleaned_data["host"]))
        except GitHubRefused as refused:
            raise forms.ValidationError(refused.message) from None


class InstallationForm(forms.Form):
    """One installation of an App, as a seat of the organisation."""

    login = forms.SlugField(
        label=_("Name"),
        max_length=100,
        help_text=_("How the seat is called here, such as the organisation's name."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    installation_id = forms.IntegerField(
        label=_("Installation number"),
        min_value=1,
        max_value=2**62,
        help_text=_("The last part of the address of the installation's settings on GitHub."),
    )
    account_type = forms.ChoiceField(
        label=_("Plan"), choices=Account.Plan.choices, initial=Account.Plan.BUSINESS
    )
    pool = forms.ModelChoiceField(
        label=_("Pool"), queryset=Pool.objects.all(), required=False, empty_label=_("none yet")
    )
