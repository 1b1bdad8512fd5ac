"""Who hears the approval queue: administrators and auditors, and nobody else."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from channels.db import database_sync_to_async
from channels.testing import WebsocketCommunicator
from django.utils.timezone import now

from accounts import sockets
from accounts.models import Member
from proxy import approval
from proxy.consumers import ApprovalsConsumer
from proxy.models import Approval

pytestmark = pytest.mark.django_db(transaction=True)


def socket_of(user: Any) -> WebsocketCommunicator:
    communicator = WebsocketCommunicator(ApprovalsConsumer.as_asgi(), "/ws/approvals/")
    communicator.scope["user"] = user
    return communicator


@pytest.mark.parametrize("role", ["is_superuser", "is_auditor"])
async def test_who_oversees_hears_what_opens_and_closes(role: str) -> None:
    person = await Member.objects.acreate(username="ada", **{role: True})
    socket = socket_of(person)
    assert (await socket.connect())[0]
    assert (await socket.receive_json_from())["t"] == "hello"
    row = Approval(id="a" * 24, expires_at=now() + timedelta(minutes=1), rule="x", model="gpt-5.5")

    assert await database_sync_to_async(approval.open_row)(row) == "waiting"
    opened = await socket.receive_json_from()
    assert (opened["t"], opened["waiting"], opened["model"]) == ("approval.opened", 1, "gpt-5.5")
    await database_sync_to_async(approval.decide)(row.pk, approve=False, actor="mona")
    closed = await socket.receive_json_from()
    assert (closed["t"], closed["waiting"], closed["decided_by"]) == ("approval.closed", 0, "mona")
    assert closed["id"] > opened["id"]
    await socket.disconnect()


async def test_members_hear_nothing() -> None:
    ben = await Member.objects.acreate(username="ben")

    assert await socket_of(ben).connect() == (False, sockets.NOT_ALLOWED)


@pytest.mark.parametrize("user", [None, SimpleNamespace(is_authenticated=False)])
async def test_strangers_hear_nothing(user: Any) -> None:
    assert await socket_of(user).connect() == (False, sockets.NOT_SIGNED_IN)


async def test_somebody_who_is_no_administrator_any_more_may_not_stay() -> None:
    person = await Member.objects.acreate(username="ada", is_superuser=True)
    socket = socket_of(person)
    assert (await socket.connect())[0]
    await socket.receive_json_from()
    await Member.objects.filter(pk=person.pk).aupdate(is_superuser=False)
    consumer = SimpleNamespace(scope={}, member_id=person.pk, sees_all=True)

    may_stay = await database_sync_to_async(ApprovalsConsumer.may_stay)(consumer)  # type: ignore[arg-type]

    assert may_stay is False
    await socket.disconnect()


async def test_no_socket_opens_to_who_owes_a_second_factor(settings: Any) -> None:
    """The pages are closed to them; what waits for approval is heard by socket, too."""
    person = await Member.objects.acreate(username="ada", is_superuser=True)
    settings.GATEWAY_REQUIRE_MFA = True

    assert not (await socket_of(person).connect())[0]

    await Authenticator.objects.acreate(user=person, type=Authenticator.Type.TOTP, data={})
    socket = socket_of(person)
    assert (await socket.connect())[0]
    await socket.disconnect()
