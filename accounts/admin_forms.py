"""Forms of the admin: limits in human units, as on the pages, and what acts ask for."""

from typing import TYPE_CHECKING, Any, Final

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from accounts import acceptable_use, installations
from accounts.admin_acts import dressed
from accounts.errors import GitHubRefused
from accounts.forms import NANO_PER_CREDIT
from accounts.hosts import known_host
from accounts.installations import UnusableKey
from accounts.key_forms import GRACES, DayForm
from accounts.members import is_taken
from accounts.models import (
    Account,
    ApiKey,
    BudgetRaise,
    GitHubApp,
    GroupMapping,
    Member,
    ModelRules,
    Notice,
    Pool,
    Team,
)
from accounts.people_forms import BUDGETS, COUNTS, LimitsForm, RaiseForm
from accounts.seat_forms import MAX_KEY_CHARS, MAX_WEIGHT

if TYPE_CHECKING:
    AnyModelForm = forms.ModelForm[Any]
else:
    AnyModelForm = forms.ModelForm

RULES: Final = ("models_allowed", "models_denied")
LIMITS: Final = (
    *COUNTS,
    "max_effort",
    "office_hours",
    *BUDGETS,
    "budget_warn_percent",
    "budget_is_hard",
)


class LimitedForm(AnyModelForm, LimitsForm):
    """A row with limits: budgets in credits, models with commas, hours that are read at once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        row = self.instance
        shown = set(self.fields)
        for name, value in self.initial_of(_Rules(row)).items():
            if name in shown:
                self.initial[name] = value
        if not isinstance(row, ModelRules):
            for name in RULES:
                self.fields.pop(name, None)
        dressed(self)

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        for name in COUNTS:
            if name in data:
                data[name] = data[name] or 0
        return data

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        for name in BUDGETS:
            if name in self.cleaned_data:
                nano = int((self.cleaned_data[name] or 0) * NANO_PER_CREDIT)
                setattr(self.instance, f"{name}_nano_aiu", nano)


class _Rules:
    """A row of which some have no rules for models."""

    def __init__(self, row: Any) -> None:
        self._row = row

    def __getattr__(self, name: str) -> Any:
        return getattr(self._row, name, [] if name in RULES else None)


class TeamForm(LimitedForm):
    class Meta:
        model = Team
        fields = ("name", "cost_centre", "lead", "pool", *RULES)

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"]).strip()
        if Team.objects.filter(name__iexact=name).exclude(pk=self.instance.pk).exists():
            raise ValidationError(_("Another team has this name."))
        return name


class MemberForm(LimitedForm):
    """A person; rights change by acts, the password on a page of its own."""

    class Meta:
        model = Member
        fields = (
            "username",
            "first_name",
            "last_name",
            "email",
            "team",
            "time_zone",
            "language",
            "theme",
            *RULES,
        )

    def clean_username(self) -> str:
        name = str(self.cleaned_data["username"])
        if name.lower() != self.instance.username.lower() and is_taken(name):
            raise ValidationError(_("Somebody has this name already."))
        return name


class KeyForm(LimitedForm):
    """What of a key may be changed: where it is used, whose seat, its limits. Never its secret."""

    class Meta:
        model = ApiKey
        fields = (
            "name",
            "account",
            "pool",
            "lane",
            "needs_approval",
            "allows_web_search",
            "is_admin",
            *RULES,
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        account = self.fields.get("account")
        if isinstance(account, forms.ModelChoiceField):
            # One person, one seat: nobody else's account can be chosen.
            mine = Q(owner=self.instance.owner_id) | Q(owner=None, pool=None)
            account.queryset = Account.objects.filter(mine)

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        if data.get("account") and data.get("pool"):
            self.add_error("pool", _("An account or a pool, not both."))
        return data


class AccountForm(LimitedForm):
    """An account's owner can be named while it has none; whose it is, it stays."""

    class Meta:
        model = Account
        fields = ("owner", "account_type", "weight")

    def clean_weight(self) -> int:
        weight = int(self.cleaned_data["weight"])
        if weight > MAX_WEIGHT:
            raise ValidationError(_("A weight is a number from 0 to 100."))
        return weight

    def clean_owner(self) -> Any:
        owner = self.cleaned_data["owner"]
        if owner is not None and self.instance.pool_id is not None:
            raise ValidationError(_("It is in a pool of the organisation: take it out first."))
        return owner


class PoolForm(AnyModelForm):
    class Meta:
        model = Pool
        fields = ("name", "note", "failover")

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"]).strip()
        if Pool.objects.filter(name__iexact=name).exclude(pk=self.instance.pk).exists():
            raise ValidationError(_("There is a pool of this name already."))
        return name


class AppForm(AnyModelForm):
    """A GitHub App. The key is only ever written: empty keeps the one that is stored."""

    key = forms.CharField(
        label=_("Private key"),
        required=False,
        max_length=MAX_KEY_CHARS,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 4, "autocomplete": "off", "spellcheck": "false"}),
        help_text=_("The whole .pem file. It is encrypted and never shown again."),
    )

    class Meta:
        model = GitHubApp
        fields = ("name", "issuer", "host")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        dressed(self)

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"]).strip()
        if GitHubApp.objects.filter(name__iexact=name).exclude(pk=self.instance.pk).exists():
            raise ValidationError(_("There is an App of this name already."))
        return name

    def clean_host(self) -> str:
        try:
            return known_host(str(self.cleaned_data["host"]))
        except GitHubRefused as refused:
            raise ValidationError(refused.message) from None

    def clean_key(self) -> str:
        pem = str(self.cleaned_data["key"])
        if not pem.strip():
            if self.instance.pk is None:
                raise ValidationError(_("The App's private key is missing."))
            return ""
        try:
            return installations.read_key(pem)
        except UnusableKey as error:
            raise ValidationError(str(error)) from None


class RaiseModelForm(AnyModelForm):
    """More to spend for a while, for one key, member or team."""

    extra = RaiseForm.base_fields["extra"]
    last_day = RaiseForm.base_fields["last_day"]
    clean_last_day = RaiseForm.clean_last_day

    class Meta:
        model = BudgetRaise
        fields = ("key", "member", "team", "period", "reason")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        dressed(self)

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if sum(bool(data.get(name)) for name in ("key", "member", "team")) != 1:
            raise ValidationError(_("Choose one: a key, a member or a team."))
        return data

    def _post_clean(self) -> None:
        data = self.cleaned_data
        if data.get("extra"):
            self.instance.extra_nano_aiu = int(data["extra"] * NANO_PER_CREDIT)
        if data.get("last_day"):
            self.instance.ends_at = data["last_day"]
        super()._post_clean()  # type: ignore[misc]


class GroupForm(AnyModelForm):
    class Meta:
        model = GroupMapping
        fields = ("group", "role", "team")

    def clean_group(self) -> str:
        name = str(self.cleaned_data["group"]).strip()
        # GitHub does not tell the case of an organisation's name apart.
        return name.lower() if name.lower().startswith("github:") else name


class NoticeForm(AnyModelForm):
    class Meta:
        model = Notice
        fields = ("text",)

    def clean_text(self) -> str:
        text = str(self.cleaned_data["text"]).strip()
        if len(text) > acceptable_use.MAX_CHARS:
            raise ValidationError(_("This text is too long."))
        current = acceptable_use.current()
        if current is not None and current.text == text:
            raise ValidationError(_("The text is the same; nobody is asked again."))
        return text


# What acts ask for.


class RowsForm(forms.Form):
    """A form of an act: it knows the rows."""

    def __init__(self, *args: Any, rows: list[Any], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rows = rows


class RotateForm(RowsForm):
    grace_h = forms.TypedChoiceField(
        label=_("The old secret ends"), choices=GRACES, coerce=int, initial=24
    )


class ExtendForm(DayForm):
    """The last day that the keys work; empty: they do not expire."""

    def __init__(self, *args: Any, rows: list[ApiKey], **kwargs: Any) -> None:
        super().__init__(*args, key=rows[0], **kwargs)


class CopyForm(RowsForm):
    source = forms.ModelChoiceField(label=_("Limits of"), queryset=ApiKey.objects.none())

    def __init__(self, *args: Any, rows: list[ApiKey], **kwargs: Any) -> None:
        super().__init__(*args, rows=rows, **kwargs)
        source = self.fields["source"]
        assert isinstance(source, forms.ModelChoiceField)
        others = ApiKey.objects.filter(revoked_at=None)
        if len(rows) == 1:
            others = others.exclude(pk=rows[0].pk)
        source.queryset = others.order_by("name")


class IntoPoolForm(RowsForm):
    pool = forms.ModelChoiceField(label=_("Pool"), queryset=Pool.objects.all())
    weight = forms.IntegerField(
        label=_("Weight"),
        min_value=0,
        max_value=MAX_WEIGHT,
        initial=1,
        help_text=_("Its share of the new conversations. 0: it gets none."),
    )
