"""Forms of the models page: aliases, policies, terms."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from proxy import policies
from proxy.models import ModelAlias, ModelPolicy

MODEL_IDS = {"list": "model-ids", "autocomplete": "off", "autocapitalize": "none"}


def _pattern(value: str) -> str:
    """An id or `gpt-5*`; what is wrong is said in the form."""
    name = value.strip()
    try:
        policies.check_pattern(name)
    except ValueError:
        raise forms.ValidationError(
            _("Letters, digits and . - _ : / make an id; a star may stand at its end.")
        ) from None
    return name


class AliasForm(forms.Form):
    """A name that clients use for one of Copilot's models. `known` are the ids of all lists."""

    pattern = forms.CharField(
        label=_("Name that clients use"),
        max_length=policies.MAX_PATTERN,
        help_text=_("Such as sonnet, or gpt-4-* for all that begin so."),
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none"}),
    )
    model = forms.CharField(
        label=_("Model that serves"), max_length=100, widget=forms.TextInput(attrs=MODEL_IDS)
    )
    note = forms.CharField(label=_("Note"), max_length=200, required=False)

    def __init__(self, *args: Any, known: set[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.known = known

    def clean_pattern(self) -> str:
        name = _pattern(self.cleaned_data["pattern"])
        if name in self.known:
            raise forms.ValidationError(
                _("A model of this very name is listed, so that the alias would never be used.")
            )
        if ModelAlias.objects.filter(pattern=name).exists():
            raise forms.ValidationError(_("There is an alias of this name already."))
        return name

    def clean_model(self) -> str:
        model = str(self.cleaned_data["model"]).strip()
        if model not in self.known:
            raise forms.ValidationError(_("No account lists a model of this id."))
        return model


class PolicyForm(forms.Form):
    """What the team does with a model, or with all that begin with a pattern."""

    model = forms.CharField(
        label=_("Model"),
        max_length=policies.MAX_PATTERN,
        help_text=_("An id, or gpt-5* for all that begin so. The longest that fits counts."),
        widget=forms.TextInput(attrs=MODEL_IDS),
    )
    is_enabled = forms.BooleanField(
        label=_("May be used"),
        required=False,
        initial=True,
        help_text=_("Off: nobody may, and no list shows it."),
    )
    plans = forms.CharField(
        label=_("Plans"),
        required=False,
        max_length=500,
        help_text=_(
            "Only accounts of these plans may serve it: business, enterprise, pro, pro_plus, …, "
            "with commas between them. Empty: all."
        ),
    )
    fallback = forms.CharField(
        label=_("Fallback"),
        required=False,
        max_length=100,
        help_text=_(
            "Serves in its place where it is missing, off, or waits for its terms; the answer says "
            "so. Never at a limit."
        ),
        widget=forms.TextInput(attrs=MODEL_IDS),
    )
    note = forms.CharField(label=_("Note"), max_length=200, required=False)

    def __init__(
        self, *args: Any, known: set[str], policy: ModelPolicy | None = None, **kwargs: Any
    ) -> None:
        if policy is not None:
            kwargs["initial"] = {
                "model": policy.model,
                "is_enabled": policy.is_enabled,
                "plans": ", ".join(map(str, policy.plans or ())),
                "fallback": policy.fallback,
                "note": policy.note,
            }
        super().__init__(*args, **kwargs)
        self.known, self.policy = known, policy

    def clean_model(self) -> str:
        name = _pattern(self.cleaned_data["model"]).lower()
        same = ModelPolicy.objects.filter(model__iexact=name)
        if self.policy is not None:
            same = same.exclude(pk=self.policy.pk)
        if same.exists():
            raise forms.ValidationError(_("There is a policy for this already."))
        return name

    def clean_plans(self) -> list[str]:
        try:
            return [name.lower() for name in policies.read_patterns(self.cleaned_data["plans"])]
        except ValueError:
            raise forms.ValidationError(_("Names of plans with commas between them.")) from None

    def clean_fallback(self) -> str:
        fallback = str(self.cleaned_data["fallback"]).strip()
        if fallback and fallback not in self.known:
            raise forms.ValidationError(_("No account lists a model of this id."))
        return fallback

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("fallback") and data.get("model"):
            others = ModelPolicy.objects.exclude(fallback="")
            if self.policy is not None:
                others = others.exclude(pk=self.policy.pk)
            known = dict(others.values_list("model", "fallback"))
            try:
                policies.check_fallback(data["model"], data["fallback"], known)
            except ValueError as error:
                self.add_error("fallback", str(error))
        return data


class TermsForm(forms.Form):
    agreed = forms.BooleanField(
        label=_("I have read these terms, and I may agree to them for this account.")
    )
