"""The device flow on a row: every end, several pollers, and a restart in between."""

import asyncio
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.utils.timezone import now

from accounts import device_flow
from accounts.database import in_database
from accounts.encryption import Secret
from accounts.errors import GitHubRefused
from accounts.models import Account, AuditEntry, DeviceLogin, Member
from simulator.testing import SimulatorThread

POLL = "/login/oauth/access_token"
EXCHANGE = "/copilot_internal/v2/token"
State = DeviceLogin.State


@pytest.fixture(autouse=True)
def _quick(simulator: SimulatorThread, settings: Any, transactional_db: None) -> None:
    settings.GATEWAY_DEVICE_FLOW_MARGIN_S = 0.05
    simulator.config(device_interval_s=0.2)


async def due(login: DeviceLogin) -> None:
    """Let the interval have passed."""
    await in_database(
        DeviceLogin.objects.filter(pk=login.pk).update, next_poll_at=now() - timedelta(seconds=1)
    )


async def finish(login: DeviceLogin) -> DeviceLogin:
    async with asyncio.timeout(10):
        return await device_flow.run(login.pk)


async def test_an_approved_sign_in_ends_connected(simulator: SimulatorThread, ben: Member) -> None:
    login = await device_flow.start("business", ben)
    assert login.state == State.PENDING
    assert login.verification_uri.endswith("/login/device")
    simulator.approve_device("mona", login.user_code)

    ended = await finish(login)

    assert ended.state == State.CONNECTED
    assert ended.account is not None
    assert (ended.account.login, ended.account.owner_id) == ("mona", ben.pk)
    assert ended.account.account_type == "business"
    assert not ended.device_code
    actions = await in_database(
        lambda: set(AuditEntry.objects.filter(actor="ben").values_list("action", flat=True))
    )
    assert actions == {"sign_in.started", "sign_in.connected", "account.added"}


async def test_t14_a_refused_sign_in_ends_denied(simulator: SimulatorThread) -> None:
    login = await device_flow.start()
    simulator.deny_device(login.user_code)

    ended = await finish(login)

    assert ended.state == State.DENIED
    assert "refused on GitHub" in ended.message


async def test_t14_a_code_that_github_let_expire_ends_expired(simulator: SimulatorThread) -> None:
    login = await device_flow.start()
    simulator.expire_devices()

    assert (await finish(login)).state == State.EXPIRED


async def test_a_code_past_its_time_expires_without_asking(simulator: SimulatorThread) -> None:
    login = await device_flow.start()
    await in_database(DeviceLogin.objects.update, expires_at=now() - timedelta(seconds=1))
    await due(login)

    assert (await device_flow.step(login.pk)).state == State.EXPIRED
    assert simulator.received_on(POLL) == []


async def test_an_account_without_a_seat_ends_so_and_says_which(
    simulator: SimulatorThread,
) -> None:
    login = await device_flow.start()
    simulator.approve_device("noseat", login.user_code)

    ended = await finish(login)

    assert ended.state == State.NO_SEAT
    assert ended.message.startswith("Signed in as noseat.")
    assert await in_database(Account.objects.count) == 0


async def test_a_setup_fault_ends_failed_with_the_next_step(simulator: SimulatorThread) -> None:
    login = await device_flow.start()
    simulator.play("json_200", body='{"error": "device_flow_disabled"}', match={"path": POLL})

    ended = await finish(login)

    assert ended.state == State.FAILED
    assert "Choose another client id" in ended.message


async def test_github_is_not_asked_before_the_interval(simulator: SimulatorThread) -> None:
    simulator.config(device_interval_s=30)
    login = await device_flow.start()

    for _ in range(5):
        assert (await device_flow.step(login.pk)).state == State.PENDING

    assert simulator.received_on(POLL) == []
    assert device_flow.seconds_to_next(login) > 20


async def test_t14_slow_down_makes_every_later_wait_longer(simulator: SimulatorThread) -> None:
    login = await device_flow.start()
    await due(login)
    body = '{"error": "slow_down", "interval": 7}'
    simulator.play("json_200", body=body, match={"path": POLL}, times=1)

    slowed = await device_flow.step(login.pk)
    assert slowed.interval_s == 7

    simulator.play("json_200", body='{"error": "slow_down"}', match={"path": POLL}, times=1)
    await due(login)
    again = await device_flow.step(login.pk)
    assert again.interval_s == 12

    simulator.play("json_200", body='{"error": "authorization_pending"}', match={"path": POLL})
    await due(login)
    assert (await device_flow.step(login.pk)).interval_s == 12


async def test_the_simulators_own_slow_down_is_survived(simulator: SimulatorThread) -> None:
    login = await device_flow.start()
    await due(login)

    assert (await device_flow.step(login.pk)).interval_s > 5


@pytest.mark.parametrize("name", ["error_503", "html_200", "reset_before"])
async def test_github_being_away_keeps_the_code_good(simulator: SimulatorThread, name: str) -> None:
    login = await device_flow.start()
    simulator.play(name, match={"path": POLL}, times=1)
    await due(login)

    waiting = await device_flow.step(login.pk)
    assert waiting.state == State.PENDING
    assert waiting.message

    simulator.approve_device("octocat", login.user_code)
    assert (await finish(login)).state == State.CONNECTED


async def test_of_many_pollers_one_asks_at_a_time(simulator: SimulatorThread) -> None:
    login = await device_flow.start()
    simulator.approve_device("octocat", login.user_code)

    ends = await asyncio.gather(*(finish(login) for _ in range(8)))

    assert {end.state for end in ends} == {State.CONNECTED}
    assert simulator.exchanges("octocat") == 1
    assert len(simulator.received_on(POLL)) == 1


async def test_a_cancelled_sign_in_stays_cancelled(simulator: SimulatorThread, ada: Member) -> None:
    login = await device_flow.start()
    simulator.approve_device("octocat", login.user_code)

    cancelled = await device_flow.cancel(login.pk, ada)

    assert cancelled.state == State.CANCELLED
    assert not cancelled.device_code
    assert (await finish(login)).state == State.CANCELLED
    assert simulator.received_on(POLL) == []


async def test_cancelling_while_github_is_asked_wins(simulator: SimulatorThread) -> None:
    login = await device_flow.start()
    simulator.approve_device("octocat", login.user_code)
    simulator.play("slow", seconds=0.3, match={"path": POLL})
    running = asyncio.create_task(device_flow.run(login.pk))
    assert await asyncio.to_thread(simulator.wait_received, 1, path=POLL)

    await device_flow.cancel(login.pk)

    async with asyncio.timeout(10):
        assert (await running).state == State.CANCELLED


async def test_an_ended_sign_in_cannot_be_cancelled(simulator: SimulatorThread) -> None:
    login = await device_flow.start()
    simulator.approve_device("octocat", login.user_code)
    await finish(login)

    assert (await device_flow.cancel(login.pk)).state == State.CONNECTED


async def test_a_restart_goes_on_where_the_sign_in_stood(simulator: SimulatorThread) -> None:
    login = await device_flow.start()
    simulator.approve_device("octocat", login.user_code)
    # The process that polled was killed while it did.
    await in_database(DeviceLogin.objects.update, claimed_until=now() - timedelta(seconds=1))

    assert await device_flow.resume_pending() == 1
    async with asyncio.timeout(10):
        assert (await device_flow.follow(login.pk)).state == State.CONNECTED
    assert await device_flow.resume_pending() == 0


async def test_a_restart_after_the_approval_still_checks_the_seat(
    simulator: SimulatorThread,
) -> None:
    login = await device_flow.start()
    await in_database(
        DeviceLogin.objects.update, state=State.CHECKING, device_code=Secret.of("ghu_octocat")
    )
    await due(login)

    ended = await finish(login)

    assert ended.state == State.CONNECTED
    assert not ended.device_code
    assert simulator.received_on(POLL) == []


async def test_the_seat_is_checked_again_when_github_stumbles(simulator: SimulatorThread) -> None:
    login = await device_flow.start()
    simulator.approve_device("octocat", login.user_code)
    simulator.play("error_503", match={"path": EXCHANGE}, times=1)
    await asyncio.sleep(0.3)
    checking = await device_flow.step(login.pk)
    assert checking.state == State.CHECKING

    await due(login)
    assert (await device_flow.step(login.pk)).state == State.CONNECTED


async def test_shutting_down_leaves_the_sign_in_for_the_next_process(
    simulator: SimulatorThread,
) -> None:
    login = await device_flow.start()
    device_flow.follow(login.pk)
    await asyncio.sleep(0)

    await device_flow.stop_following()

    row = await in_database(DeviceLogin.objects.get, pk=login.pk)
    assert (row.state, row.claimed_until) == (State.PENDING, None)


async def test_no_code_can_be_had_from_a_github_that_is_away(simulator: SimulatorThread) -> None:
    simulator.play("error_503", match={"path": "/login/device/code"})

    with pytest.raises(GitHubRefused):
        await device_flow.start()
    assert await in_database(DeviceLogin.objects.count) == 0


@pytest.mark.parametrize("uri", ["javascript:alert(1)", "", 5])
async def test_an_address_that_is_no_link_is_refused(simulator: SimulatorThread, uri: Any) -> None:
    body = f'{{"device_code": "d", "user_code": "u", "verification_uri": {uri!r}}}'.replace(
        "'", '"'
    )
    simulator.play("json_200", body=body, match={"path": "/login/device/code"})

    with pytest.raises(GitHubRefused):
        await device_flow.start()


async def test_an_unknown_sign_in_is_said_so(simulator: SimulatorThread) -> None:
    with pytest.raises(DeviceLogin.DoesNotExist):
        await device_flow.step(uuid.uuid4())
