"""The form of an approval rule. Credits become nano-AIU; empty means that a condition is not set."""

from typing import TYPE_CHECKING, Any

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts import hours
from accounts.models import ApiKey, Team
from proxy.models import ApprovalRule

if TYPE_CHECKING:
    RuleModelForm = forms.ModelForm[ApprovalRule]
else:
    # Only type checkers know the form's parameter.
    RuleModelForm = forms.ModelForm

NANO_PER_CREDIT = 1_000_000_000
MAX_CREDITS = 1_000_000
MAX_MODELS = 100


class RuleForm(RuleModelForm):
    models = forms.CharField(
        label=_("Models"),
        required=False,
        max_length=2000,
        help_text=_("Ids or beginnings such as claude-opus*, with commas. Empty: every model."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    above_credits = forms.DecimalField(
        label=_("Estimated credits above"),
        required=False,
        min_value=0,
        max_value=MAX_CREDITS,
        decimal_places=4,
    )
    above_tokens = forms.IntegerField(
        label=_("Input tokens above"), required=False, min_value=0, max_value=100_000_000
    )
    younger_than_h = forms.IntegerField(
        label=_("Keys younger than, in hours"), required=False, min_value=0, max_value=87_600
    )

    class Meta:
        model = ApprovalRule
        fields = ["name", "is_enabled", "outside_hours", "team", "key"]
        labels = {
            "name": _("Name"),
            "is_enabled": _("This rule is on"),
            "outside_hours": _("Outside of these hours"),
            "team": _("Team"),
            "key": _("API key"),
        }
        help_texts = {
            "name": _("What the person who is asked reads: more than 20 credits."),
            "outside_hours": _("Mon-Fri 08:00-19:00 Europe/Berlin; several joined by ;"),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        row = self.instance
        keys = ApiKey.objects.filter(revoked_at=None) | ApiKey.objects.filter(pk=row.key_id or 0)
        for name, rows, every in (
            ("team", Team.objects.order_by("name"), _("every team")),
            ("key", keys.order_by("name"), _("every key")),
        ):
            field = self.fields[name]
            assert isinstance(field, forms.ModelChoiceField)
            field.queryset, field.empty_label = rows, every
        self.initial = {
            **self.initial,
            "models": ", ".join(str(name) for name in row.for_models or ()),
            "above_credits": (row.above_nano_aiu / NANO_PER_CREDIT) if row.above_nano_aiu else None,
            "above_tokens": row.above_context_tokens or None,
            "younger_than_h": row.key_younger_than_h or None,
        }

    def clean_name(self) -> str:
        return str(self.cleaned_data["name"]).strip()

    def clean_models(self) -> list[str]:
        names = [name.strip() for name in str(self.cleaned_data["models"]).split(",")]
        found = list(dict.fromkeys(name for name in names if name))
        if len(found) > MAX_MODELS or any(len(name) > 100 for name in found):
            raise forms.ValidationError(_("At most a hundred models, by their ids."))
        return found

    def clean_outside_hours(self) -> str:
        text = str(self.cleaned_data["outside_hours"]).strip()
        hours.validate(text)
        return text

    def save(self, commit: bool = True) -> ApprovalRule:
        given, row = self.cleaned_data, self.instance
        row.for_models = given["models"]
        row.above_nano_aiu = int((given["above_credits"] or 0) * NANO_PER_CREDIT)
        row.above_context_tokens = given["above_tokens"] or 0
        row.key_younger_than_h = given["younger_than_h"] or 0
        return super().save(commit)
