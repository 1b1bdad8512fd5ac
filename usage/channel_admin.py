"""The admin of notifications: channels, whose addresses go in and never come out, and deliveries."""

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseBase
from django.urls import reverse
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from accounts.admin_acts import NotDone, act, dressed, shown_once
from accounts.admin_rules import Administrators, BoundedPaginator, Journal, ReadOnly
from accounts.encryption import Secret
from usage import channels, deliveries
from usage.models import Channel, Delivery, Notification
from usage.notices import EVENTS

if TYPE_CHECKING:
    ChannelModelForm = forms.ModelForm[Channel]
else:
    ChannelModelForm = forms.ModelForm

SHOWN_ONCE = _("Copy it now. It is stored encrypted and not shown again.")


class ChannelForm(ChannelModelForm):
    """A channel. Empty keeps the address that is stored; a webhook's secret is made for it."""

    new_address = forms.CharField(
        label=_("Address"),
        required=False,
        max_length=2000,
        help_text=_(
            "A mail address, or the https address of the webhook. Stored encrypted, never shown. "
            "Empty: it stays as it is."
        ),
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    wanted = forms.MultipleChoiceField(
        label=_("Events"),
        choices=[(event.name, event.label) for event in EVENTS],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
    )

    class Meta:
        model = Channel
        fields = ("name", "kind", "member", "team", "digest", "is_enabled")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["wanted"] = self.instance.events or [event.name for event in EVENTS]
        dressed(self)

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("member") and data.get("team"):
            raise ValidationError(_("Somebody's, a team's, or the administrators': not both."))
        address = str(data.get("new_address", "")).strip()
        kind = data.get("kind") or self.instance.kind
        if not address and self.instance._state.adding:
            self.add_error("new_address", _("An address is missing."))
        if address and kind:
            try:
                channels.check_address(kind, address)
            except ValueError as error:
                self.add_error("new_address", str(error))
        return data

    def save(self, commit: bool = True) -> Channel:
        data = self.cleaned_data
        if address := data["new_address"].strip():
            self.instance.address = Secret.of(address)
        # All of them means: those to come as well.
        self.instance.events = [] if len(data["wanted"]) == len(EVENTS) else data["wanted"]
        return super().save(commit)


@admin.register(Channel)
class ChannelAdmin(Administrators, ModelAdmin):  # type: ignore[misc]
    """Where notices go. What is stored of an address is whether there is one."""

    form = ChannelForm
    list_display = (
        "name", "kind", "audience", "digest", "is_enabled", "has_address", "last_digest_at",
        "updated_at",
    )  # fmt: skip
    list_filter = ("kind", "digest", "is_enabled", "team")
    list_select_related = ("member", "team")
    search_fields = ("name", "member__username", "team__name")
    date_hierarchy = "created_at"
    autocomplete_fields = ("member", "team")
    fields = ("name", "kind", "member", "team", "new_address", "digest", "wanted", "is_enabled")
    actions = ("test", "enable", "disable", "renew_secret")
    actions_row = actions_detail = actions

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        # Whose it is and how its address is read stay as they were made.
        return () if obj is None else ("kind", "member", "team")

    @admin.display(description=_("tells"))
    def audience(self, channel: Channel) -> str:
        return str(channel.member or channel.team or _("administrators"))

    @admin.display(description=_("address stored"), boolean=True)
    def has_address(self, channel: Channel) -> bool:
        return bool(channel.address)

    @admin.display(description=_("address"))
    def new_address(self, channel: Channel) -> str:
        return str(_("stored, never shown") if channel.address else _("missing"))

    @admin.display(description=_("events"))
    def wanted(self, channel: Channel) -> str:
        return ", ".join(map(str, channel.events)) or str(_("all"))

    def save_model(self, request: HttpRequest, obj: Channel, form: Any, change: bool) -> None:
        if not change and obj.kind == Channel.Kind.WEBHOOK:
            secret = channels.new_secret()
            obj.secret = Secret.of(secret)
            # For the answer to this very request, and nothing else.
            request.META["gateway.new_secret"] = secret
        super().save_model(request, obj, form, change)

    def response_add(
        self, request: HttpRequest, obj: Channel, post_url_continue: str | None = None
    ) -> Any:
        secret = request.META.pop("gateway.new_secret", "")
        if secret:
            return self._shown_once(request, obj, secret)
        return super().response_add(request, obj, post_url_continue)

    def _shown_once(self, request: HttpRequest, channel: Channel, secret: str) -> HttpResponseBase:
        return shown_once(
            self,
            request,
            title=_now("The secret of the webhook"),
            name=str(channel),
            secret=secret,
            says=str(SHOWN_ONCE),
            back=reverse("admin:usage_channel_change", args=[channel.pk]),
        )

    @act(_("Send a test"), says=_("A message goes to each of these channels now."), asks=False)
    def test(self, request: HttpRequest, channel: Channel, data: Any) -> str:
        problem = deliveries.send_test(channel, request.user.get_username())
        self._record(request, "tested", channel, problem)
        if problem:
            raise NotDone(problem)
        return f"{channel}: the test was taken."

    @act(_("Enable"), says=_("From now on notices go there."), asks=False)
    def enable(self, request: HttpRequest, channel: Channel, data: Any) -> str:
        return self._switch(request, channel, True)

    @act(_("Disable"), says=_("Nothing goes there; what waits is dropped."), is_grave=True)
    def disable(self, request: HttpRequest, channel: Channel, data: Any) -> str:
        # Nobody wants last month's notices on the day it is switched on again.
        channel.deliveries.filter(state=Delivery.State.WAITING).delete()
        return self._switch(request, channel, False)

    def _switch(self, request: HttpRequest, channel: Channel, is_enabled: bool) -> str:
        channel.is_enabled = is_enabled
        channel.save(update_fields=["is_enabled", "updated_at"])
        self._record(request, "enabled" if is_enabled else "disabled", channel, "")
        return f"{channel}: {_('enabled') if is_enabled else _('disabled')}."

    @act(
        _("Renew the secret"),
        says=_("Messages are signed with the new secret at once: the receiver has to learn it."),
        one=True,
        is_grave=True,
    )
    def renew_secret(self, request: HttpRequest, channel: Channel, data: Any) -> HttpResponseBase:
        if channel.kind != Channel.Kind.WEBHOOK:
            raise NotDone(_("Only signed webhooks have a secret."))
        secret = channels.new_secret()
        channel.secret = Secret.of(secret)
        channel.save(update_fields=["secret", "updated_at"])
        self._record(request, "secret_renewed", channel, "")
        return self._shown_once(request, channel, secret)


class EventFilter(admin.SimpleListFilter):
    title = _("event")
    parameter_name = "event"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(event.name, event.word) for event in EVENTS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(event=self.value()) if self.value() else queryset


@admin.register(Notification)
class NotificationAdmin(Journal, ModelAdmin):  # type: ignore[misc]
    """What was worth telling, once each."""

    list_display = ("at", "event", "title", "member_id", "team_id")
    list_filter = (EventFilter,)
    exact_search = ("id", "dedupe", "event")
    date_hierarchy = "at"
    ordering = ("-at",)


@admin.register(Delivery)
class DeliveryAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    """Notices on their way; the error names no address."""

    list_display = (
        "notification", "channel", "state", "attempts", "next_try_at", "sent_at", "error",
    )  # fmt: skip
    list_filter = ("state", "channel")
    list_select_related = ("notification", "channel")
    search_fields = ("notification__title", "channel__name")
    date_hierarchy = "next_try_at"
    ordering = ("-next_try_at",)
    list_per_page = 50
    paginator = BoundedPaginator
    actions = ("again",)
    actions_row = actions_detail = actions

    @act(_("Try again"), says=_("It is tried again within a minute."), asks=False)
    def again(self, request: HttpRequest, delivery: Delivery, data: Any) -> str:
        deliveries.try_again(delivery)
        self._record(request, "tried_again", delivery, "")
        return f"{delivery}: tried again within a minute."
