"""The device flow as its page needs it: synchronous doors, steps in words, the QR code."""

from dataclasses import dataclass
from io import BytesIO
from typing import Final

import segno
from asgiref.sync import async_to_sync
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _

from accounts import audit, device_flow
from accounts.errors import GitHubRefused
from accounts.models import DeviceLogin, Member

State = DeviceLogin.State
RUNNING: Final = (State.PENDING, State.CHECKING)
LINKED: Final = ("https://", "http://")


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the progress list; `state` is done, now, failed or empty for to come."""

    text: str
    state: str

    @property
    def icon(self) -> str:
        return {"done": "ok-circle", "now": "dot", "failed": "failed-circle"}.get(
            self.state, "ring"
        )


def start(account_type: str, host: str, member: Member, address: str) -> DeviceLogin | str:
    """Ask GitHub for a code; words for people when it gives none."""
    try:
        login = async_to_sync(device_flow.start)(account_type, member, host)
    except GitHubRefused as error:
        return error.message
    audit.record(member, "account.connect_started", login.user_code, {}, address)
    return login


def step(login: DeviceLogin) -> DeviceLogin:
    """Ask GitHub if it is time to; the row as it stands then."""
    if login.state not in RUNNING:
        return login
    return async_to_sync(device_flow.step)(login.pk)


def cancel(login: DeviceLogin, member: Member) -> None:
    async_to_sync(device_flow.cancel)(login.pk, member)


def steps_of(login: DeviceLogin) -> list[Step]:
    """Code made, approval, seat check, token and models: where this sign-in stands."""
    texts = [_("code made"), _("approval on GitHub"), _("seat check"), _("token and models")]
    at, ended = {
        State.PENDING: (1, "now"),
        State.CHECKING: (2, "now"),
        State.CONNECTED: (4, ""),
        State.NO_SEAT: (2, "failed"),
    }.get(State(login.state), (1, "failed"))
    return [
        Step(text, "done" if i < at else ended if i == at else "") for i, text in enumerate(texts)
    ]


def qr(address: str) -> SafeString:
    """A QR code of the sign-in page's address as inline SVG; the code itself is not in it."""
    if not address.startswith(LINKED):
        return SafeString("")
    stream = BytesIO()
    segno.make(address, error="m").save(
        stream, kind="svg", xmldecl=False, svgns=True, border=1, omitsize=True, svgclass=None
    )
    # Made by segno from modules, not from text: nothing of the address is in the markup.
    return mark_safe(stream.getvalue().decode())  # noqa: S308
