"""Nobody has signed in yet: show the device code in the terminal until somebody has.

The same state machine as the page's and the admin's (`accounts.device_flow`). GitHub may be away; the
gateway serves meanwhile and answers API calls with the reason.
"""

import asyncio
from collections.abc import Callable

from accounts import book as account_book
from accounts import device_flow
from accounts.database import in_database
from accounts.errors import GitHubRefused
from accounts.members import solo_member
from accounts.models import DeviceLogin
from proxy.errors import GatewayError
from proxy.routing import warm

RETRY_S = 15.0
LOOK_AGAIN_S = 1.0
Say = Callable[[str], None]


async def until_signed_in(say: Say, account_type: str) -> None:
    """Run device flows until an account is there, by whatever door it came."""
    while not await signed_in():
        try:
            login = await device_flow.start(
                account_type=account_type, started_by=await in_database(solo_member)
            )
        except GitHubRefused as error:
            say(f"! GitHub cannot be asked for a sign-in code: {error.message}")
            say(f"  Trying again in {RETRY_S:.0f} s; the gateway answers 503 until then.")
            await asyncio.sleep(RETRY_S)
            continue
        say("Nobody has signed in to GitHub yet:")
        say(f"  1  Open   {login.verification_uri}")
        say(f"  2  Enter  {login.user_code}")
        ended = await follow(login)
        if ended is None:
            return
        if ended.state == DeviceLogin.State.CONNECTED and ended.account_id is not None:
            await greet(say, ended.account_id)
            return
        say(f"! Sign-in ended: {ended.message or ended.get_state_display()}")
        await asyncio.sleep(LOOK_AGAIN_S)


async def follow(login: DeviceLogin) -> DeviceLogin | None:
    """Wait for this flow's end; None when an account came by another door meanwhile."""
    flow = asyncio.ensure_future(device_flow.run(login.id))
    try:
        while True:
            done, _ = await asyncio.wait({flow}, timeout=LOOK_AGAIN_S)
            if done:
                return flow.result()
            if await signed_in():
                await device_flow.cancel(login.id)
                return None
    finally:
        flow.cancel()


async def signed_in() -> bool:
    return bool(account_book.all_accounts())


async def greet(say: Say, account_id: int) -> None:
    await in_database(account_book.snapshot.refresh, force=True)
    account = account_book.get(account_id)
    if account is None:
        return
    say(f"✓ Signed in as {account.login}; the gateway is ready.")
    try:
        await warm(account_id)
    except (GatewayError, TimeoutError) as error:
        say(f"! Its models could not be read yet: {error}")
