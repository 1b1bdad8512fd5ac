"""What a visitor sees before anybody has signed in, and in the demo."""

import uuid
from datetime import timedelta

import pytest
from django.test import Client
from django.utils.timezone import now

from accounts.encryption import Secret
from accounts.models import Account, DeviceLogin

SIGN_IN = "/dashboard/sign-in/"
pytestmark = pytest.mark.django_db


@pytest.fixture
def waiting() -> DeviceLogin:
    return DeviceLogin.objects.create(
        id=uuid.uuid4(),
        user_code="WDJB-MJHT",
        device_code=Secret.of("3f00d1aa"),
        verification_uri="https://github.com/login/device",
        expires_at=now() + timedelta(minutes=15),
    )


def test_the_code_is_shown_on_this_machine_until_an_account_is_there(
    client: Client, waiting: DeviceLogin
) -> None:
    assert "WDJB-MJHT" in client.get(SIGN_IN).content.decode()

    Account.objects.create(login="octocat")
    assert "WDJB-MJHT" not in client.get(SIGN_IN).content.decode()


@pytest.mark.parametrize(
    "origin", [{"REMOTE_ADDR": "192.0.2.7"}, {"HTTP_X_FORWARDED_FOR": "192.0.2.7"}]
)
def test_the_code_is_not_shown_to_other_machines(
    client: Client, waiting: DeviceLogin, origin: dict[str, str]
) -> None:
    assert "WDJB-MJHT" not in client.get(SIGN_IN, **origin).content.decode()


def test_the_demo_is_entered_without_a_password(client: Client, settings: object) -> None:
    settings.DEMO = True  # type: ignore[attr-defined]
    assert "Enter the demo" in client.get(SIGN_IN).content.decode()

    assert client.post(SIGN_IN, {"demo": "1"}).status_code == 302
    assert client.get("/dashboard/").status_code == 200


def test_outside_the_demo_there_is_no_such_door(client: Client) -> None:
    assert "Enter the demo" not in client.get(SIGN_IN).content.decode()
    assert client.post(SIGN_IN, {"demo": "1"}).status_code == 404
    assert client.get("/dashboard/").status_code == 302
