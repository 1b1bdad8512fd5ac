"""A sign-in to GitHub in the terminal: address, code, countdown, and a QR code for the phone.

The same state machine as the page's and the admin's (`accounts.device_flow`).
"""

import asyncio
import sys
from datetime import datetime
from typing import Final

from django.utils.timezone import now

from accounts import device_flow
from accounts.models import DeviceLogin, Member
from copilot_site import clipboard
from copilot_site.keypress import Keys
from copilot_site.terminal import NOT_SIGNED_IN, Failure, StatusLine, is_rich, paint, say, two_lines

REDRAW_S: Final = 0.12
NOT_GIVEN: Final = frozenset(
    {
        DeviceLogin.State.DENIED,
        DeviceLogin.State.EXPIRED,
        DeviceLogin.State.NO_SEAT,
        DeviceLogin.State.CANCELLED,
    }
)


async def sign_in(account_type: str, member: Member) -> int:
    """Show a code until GitHub has an answer; the connected account's id.

    Raises `Failure` when it was denied, has expired or has no seat, and `GitHubRefused` when there
    is no code to be had.
    """
    login = await device_flow.start(account_type=account_type, started_by=member)
    copied = is_rich() and await asyncio.to_thread(clipboard.copy, login.user_code)
    try:
        ended = await _follow(login, "   (copied)" if copied else "")
    except asyncio.CancelledError:
        # Who pressed Ctrl-C does not want a later approval to add the account.
        await asyncio.shield(device_flow.cancel(login.id, member))
        raise
    if ended.state == DeviceLogin.State.CONNECTED and ended.account_id is not None:
        return ended.account_id
    what, next_step = two_lines(
        ended.message or ended.get_state_display(), "Run `python manage.py auth` again."
    )
    code = NOT_SIGNED_IN if ended.state in NOT_GIVEN else 1
    raise Failure(what, next_step, code)


async def _follow(login: DeviceLogin, remark: str) -> DeviceLogin:
    flow = asyncio.ensure_future(device_flow.run(login.id))
    try:
        with Keys() as keys, StatusLine() as line:
            shows_qr = keys.can_read and is_rich()
            hint = "   [q] show QR" if shows_qr else ""
            say(f"  1  Open   {login.verification_uri}")
            say(f"  2  Enter  {paint(login.user_code, 'bold', sys.stderr)}{remark}{hint}")
            if not line.is_shown:
                say(f"Waiting for approval; the code is good for {_left(login.expires_at)}.")
            while not flow.done():
                line.show(f"waiting for approval · {_left(login.expires_at)}")
                await asyncio.wait({flow}, timeout=REDRAW_S if line.is_shown else None)
                if shows_qr and "q" in keys.pressed():
                    shows_qr = False
                    line.clear()
                    _show_qr(login.verification_uri)
        return flow.result()
    finally:
        flow.cancel()


def _left(until: datetime) -> str:
    minutes, seconds = divmod(max(0, round((until - now()).total_seconds())), 60)
    return f"{minutes}:{seconds:02d}"


def _show_qr(address: str) -> None:
    """The page's address only: the code is typed, so that nobody approves by accident."""
    import segno

    segno.make(address, error="m").terminal(out=sys.stderr, compact=True)
