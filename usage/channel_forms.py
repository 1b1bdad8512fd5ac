"""The form of a notification channel. Addresses and secrets go in and never come out."""

from typing import Any

from django import forms
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from accounts.encryption import Secret
from accounts.models import Member, Team
from usage import channels
from usage.models import Channel
from usage.notices import EVENTS

MINE = "me"
ADMINS = "admins"


def teams_of(member: Member) -> QuerySet[Team]:
    """Teams whose channels the person looks after: as their lead, or as an administrator."""
    return Team.objects.all() if member.is_superuser else Team.objects.filter(lead=member)


class ChannelForm(forms.Form):
    """A new channel, or, with `channel`, changes of one: then an empty address keeps the old one."""

    name = forms.CharField(
        label=_("Name"),
        max_length=100,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        help_text=_("As you will find it in this list: my mail, ops chat, …"),
    )
    audience = forms.ChoiceField(label=_("Tells what concerns"))
    kind = forms.ChoiceField(label=_("Kind"), choices=Channel.Kind.choices)
    address = forms.CharField(
        label=_("Address"),
        max_length=2000,
        help_text=_("A mail address, or the https address of the webhook. Stored encrypted."),
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    digest = forms.ChoiceField(label=_("When"), choices=Channel.Digest.choices)
    events = forms.MultipleChoiceField(
        label=_("Events"),
        choices=[(event.name, event.label) for event in EVENTS],
        widget=forms.CheckboxSelectMultiple,
        initial=[event.name for event in EVENTS],
    )

    def __init__(
        self, *args: Any, member: Member, channel: Channel | None = None, **kwargs: Any
    ) -> None:
        if channel is not None:
            kwargs["initial"] = {
                "name": channel.name,
                "digest": channel.digest,
                "events": channel.events or [event.name for event in EVENTS],
            }
        super().__init__(*args, **kwargs)
        self.channel = channel
        self.member = member
        if channel is None:
            self._offer_audiences(member)
            return
        del self.fields["audience"], self.fields["kind"]
        self.fields["address"].required = False
        self.fields["address"].help_text = _("Empty: it stays as it is. It is never shown again.")

    def _offer_audiences(self, member: Member) -> None:
        choices: list[tuple[str, Any]] = [(MINE, _("me"))]
        if member.is_superuser:
            choices.insert(0, (ADMINS, _("the administrators: everything")))
        choices += [(f"team-{team.pk}", team.name) for team in teams_of(member)]
        audience = self.fields["audience"]
        assert isinstance(audience, forms.ChoiceField)
        audience.choices = choices

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        address = str(data.get("address", "")).strip()
        kind = self.channel.kind if self.channel is not None else data.get("kind")
        if address and kind:
            try:
                channels.check_address(kind, address)
            except ValueError as error:
                self.add_error("address", str(error))
        return data

    def save(self) -> tuple[Channel, str]:
        """Store it; the channel, and the new webhook's secret (empty for other kinds)."""
        data = self.cleaned_data
        channel, secret = self.channel, ""
        if channel is None:
            channel = Channel(kind=data["kind"])
            audience = data["audience"]
            if audience == MINE:
                channel.member = self.member
            elif audience != ADMINS:
                channel.team_id = int(audience.removeprefix("team-"))
            if channel.kind == Channel.Kind.WEBHOOK:
                secret = channels.new_secret()
                channel.secret = Secret.of(secret)
        channel.name, channel.digest = data["name"], data["digest"]
        # All of them means: those to come as well.
        channel.events = [] if len(data["events"]) == len(EVENTS) else data["events"]
        if address := data["address"].strip():
            channel.address = Secret.of(address)
        channel.save()
        return channel, secret
