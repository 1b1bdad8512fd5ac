"""The admin of prices and heartbeats. Prices are in USD for a million tokens, as GitHub says them."""

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from django import forms
from django.contrib import admin
from unfold.admin import ModelAdmin

from accounts.admin_rules import Administrators, ReadOnly
from usage import price_files
from usage.models import Price, TaskRun

if TYPE_CHECKING:
    PriceModelForm = forms.ModelForm[Price]
else:
    PriceModelForm = forms.ModelForm

RATES: Final = ("input", "output", "cache_read", "cache_write")


def _usd(label: str, *, required: bool) -> forms.DecimalField:
    return forms.DecimalField(
        label=f"{label}, USD per million tokens",
        required=required,
        min_value=Decimal(0),
        max_value=price_files.MAX_USD,
        max_digits=16,
        decimal_places=11,
        help_text="" if required else "Empty: such tokens cost as input does.",
    )


class PriceForm(PriceModelForm):
    input_usd = _usd("Input", required=True)
    output_usd = _usd("Output", required=True)
    cache_read_usd = _usd("Cache read", required=False)
    cache_write_usd = _usd("Cache write", required=False)

    class Meta:
        model = Price
        fields = ["model", "valid_from", "above_tokens", "source"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in RATES:
            nano = getattr(self.instance, f"{name}_nano_aiu", None)
            self.initial.setdefault(f"{name}_usd", price_files.nano_to_usd(nano))

    def clean_model(self) -> str:
        return str(self.cleaned_data["model"]).strip().lower()

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        above = data.get("above_tokens") or 0
        if above and data.get("model") and data.get("valid_from"):
            same_day = Price.objects.filter(
                model__iexact=data["model"], valid_from=data["valid_from"], above_tokens=0
            )
            if not same_day.exists():
                self.add_error(
                    "above_tokens",
                    "A tier counts beside a price above 0 tokens of the same day: add that first.",
                )
        return data

    def save(self, commit: bool = True) -> Price:
        for name in RATES:
            usd = self.cleaned_data[f"{name}_usd"]
            nano = None if usd is None else price_files.usd_to_nano(usd)
            setattr(self.instance, f"{name}_nano_aiu", nano)
        return super().save(commit)


@admin.register(Price)
class PriceAdmin(Administrators, ModelAdmin):  # type: ignore[misc]
    """Dated prices that overrule the shipped table; a new price is a new row, not a changed one."""

    form = PriceForm
    list_display = ("model", "valid_from", "tier", "usd_in", "usd_cached", "usd_out", "source")
    list_filter = ("valid_from",)
    search_fields = ("model", "source")
    ordering = ("model", "-valid_from", "above_tokens")
    date_hierarchy = "valid_from"

    # The form's fields for who only reads them.
    @admin.display(description="Input, USD per million tokens")
    def input_usd(self, price: Price) -> str:
        return _text(price.input_nano_aiu)

    @admin.display(description="Output, USD per million tokens")
    def output_usd(self, price: Price) -> str:
        return _text(price.output_nano_aiu)

    @admin.display(description="Cache read, USD per million tokens")
    def cache_read_usd(self, price: Price) -> str:
        return _text(price.cache_read_nano_aiu)

    @admin.display(description="Cache write, USD per million tokens")
    def cache_write_usd(self, price: Price) -> str:
        return _text(price.cache_write_nano_aiu)

    @admin.display(description="tokens")
    def tier(self, price: Price) -> str:
        return f"above {price.above_tokens:,}" if price.above_tokens else "all"

    @admin.display(description="$ in", ordering="input_nano_aiu")
    def usd_in(self, price: Price) -> str:
        return _text(price.input_nano_aiu)

    @admin.display(description="$ cached", ordering="cache_read_nano_aiu")
    def usd_cached(self, price: Price) -> str:
        return _text(price.cache_read_nano_aiu)

    @admin.display(description="$ out", ordering="output_nano_aiu")
    def usd_out(self, price: Price) -> str:
        return _text(price.output_nano_aiu)


def _text(nano: int | None) -> str:
    usd = price_files.nano_to_usd(nano)
    return "–" if usd is None else f"{usd:f}"


@admin.register(TaskRun)
class TaskRunAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    """Heartbeats, read-only: Celery's signals write them."""

    list_display = ("name", "started_at", "duration_ms", "succeeded", "result", "next_at", "worker")
    list_filter = ("name", "succeeded")
    search_fields = ("name", "result", "task_id")
    date_hierarchy = "started_at"
    show_full_result_count = False
