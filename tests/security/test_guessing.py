"""Guessing passwords, codes, links and keys: D06, D17, A14; the limits hold over all processes."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.core.cache import caches
from django.test import Client

from accounts import tries
from accounts.models import AuditEntry, Member
from accounts.tries import Tries

SIGN_IN = "/dashboard/sign-in/"
PASSWORD = "correct horse battery staple"


@pytest.fixture(autouse=True)
def fresh(settings: Any, tmp_path: Path) -> None:
    settings.STATIC_ROOT = tmp_path
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    caches["default"].clear()
    caches["process"].clear()


@pytest.fixture
def ben(db: None) -> Member:
    return Member.objects.create_user("ben", "ben@example.org", PASSWORD)


def enter(client: Client, name: str, password: str, address: str = "192.0.2.1") -> int:
    data = {"username": name, "password": password}
    return client.post(SIGN_IN, data, REMOTE_ADDR=address).status_code


def test_d06_one_name_from_many_places_is_held_up(ben: Member, client: Client) -> None:
    for number in range(tries.SIGN_IN_NAME.most):
        assert enter(client, "ben", "wrong", f"192.0.2.{number}") == 401

    assert enter(client, "ben", PASSWORD, "198.51.100.1") == 429


def test_d06_one_place_with_many_names_is_held_up(ben: Member, client: Client) -> None:
    for number in range(tries.SIGN_IN_ADDRESS.most):
        assert enter(client, f"name{number}", "wrong") == 401

    assert enter(client, "ben", PASSWORD) == 429
    # Everybody else signs in.
    assert enter(client, "ben", PASSWORD, "198.51.100.1") == 302


def test_d06_d22_a_header_of_ones_own_makes_no_new_address(
    ben: Member, client: Client, settings: Any
) -> None:
    settings.HTTPS = True
    settings.SECURE_SSL_REDIRECT = False
    for number in range(tries.SIGN_IN.most):
        headers = {"HTTP_X_FORWARDED_FOR": f"10.9.8.{number}"}
        data = {"username": "ben", "password": "wrong"}
        # Not a proxy of ours: an address of the internet.
        assert client.post(SIGN_IN, data, REMOTE_ADDR="8.8.4.4", **headers).status_code == 401

    assert enter(client, "ben", PASSWORD, "8.8.4.4") == 429


def test_d25_failed_sign_ins_are_noted_but_not_what_was_typed(
    ben: Member, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    enter(client, "ben", "wrong-password-1")
    enter(client, "my-password-in-the-wrong-field", "x")

    row = AuditEntry.objects.get(action="member.sign_in_failed")
    assert (row.target, row.address) == ("ben", "192.0.2.1")
    assert "wrong-password-1" not in str(row.detail)
    assert "my-password-in-the-wrong-field" not in caplog.text
    assert "unknown name from 192.0.2.1" in caplog.text


def test_d06_links_that_nobody_made_are_held_up(ben: Member, client: Client) -> None:
    from accounts import invites, links

    ada = Member.objects.create_superuser("ada")
    _invite, token = invites.make(actor=ada)
    link = links.make(ben)
    for number in range(tries.LINK.most):
        kind = f"/dashboard/join/guess{number}/" if number % 2 else f"/dashboard/?signin=g{number}"
        assert client.get(kind).status_code in (302, 404)

    assert client.get(f"/dashboard/join/{token}/").status_code == 429
    assert "link=ended" in client.get(f"/dashboard/?signin={link}")["Location"]
    elsewhere = client.get(f"/dashboard/join/{token}/", REMOTE_ADDR="198.51.100.1")
    assert elsewhere.status_code == 200


def test_d06_codes_of_github_are_not_asked_for_without_end(
    ben: Member, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accounts import devices

    monkeypatch.setattr(devices, "start", lambda **_: "GitHub is away.")
    client.force_login(ben)
    form = {"account_type": "individual", "host": "github.com"}
    statuses = [
        client.post("/dashboard/accounts/connect/", form).status_code
        for _ in range(tries.DEVICE_FLOW.most + 1)
    ]

    assert statuses == [502] * tries.DEVICE_FLOW.most + [429]


def test_a19_without_redis_each_process_counts_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = Tries("test", 3)
    monkeypatch.setattr(tries, "caches", {"default": _Away(), "process": caches["process"]})

    assert not limit.are_used_up("ben")
    assert [limit.count("ben") for _ in range(3)] == [1, 2, 3]
    assert limit.are_used_up("ben")
    assert not limit.are_used_up("ada")


class _Away:
    """A cache whose Redis does not answer."""

    def __getattr__(self, name: str) -> Any:
        from redis.exceptions import ConnectionError as Away

        def fail(*_: Any, **__: Any) -> None:
            raise Away

        return fail


@pytest.mark.parametrize(
    "password",
    [
        "copilot-gateway-2026",
        "Copilot!Copilot1",
        "githubgateway",
        "password",
        "12345678",
        "ben@example.org",
    ],
)
def test_d23_passwords_that_anybody_would_try_are_refused(ben: Member, password: str) -> None:
    from django.contrib.auth.password_validation import validate_password
    from django.core.exceptions import ValidationError

    with pytest.raises(ValidationError):
        validate_password(password, ben)


def test_d23_any_long_password_is_taken_and_stored_by_scrypt(ben: Member, settings: Any) -> None:
    from django.contrib.auth.password_validation import validate_password

    from copilot_site import settings as shipped

    for password in ("my copilot ate the gateway's homework", "ünïcödé " * 8, "x7" * 60):
        validate_password(password, ben)
    settings.PASSWORD_HASHERS = shipped.PASSWORD_HASHERS
    ben.set_password(PASSWORD)
    assert ben.password.startswith("scrypt$")


@pytest.fixture
def two_doors(team: Any) -> Iterator[list[httpx.Client]]:
    clients = [gateway.client() for gateway in team.gateways]
    yield clients
    for client in clients:
        client.close()


@pytest.mark.team
def test_d06_a14_tries_are_counted_over_all_processes(
    team: Any, two_doors: list[httpx.Client]
) -> None:
    team.shell(
        "from accounts.models import Member\n"
        f"Member.objects.create_user('zoe', 'zoe@example.org', {PASSWORD!r})\n"
    )

    def enter_at(door: httpx.Client, password: str) -> int:
        page = door.get(SIGN_IN).text
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert token is not None
        form = {"csrfmiddlewaretoken": token[1], "username": "zoe", "password": password}
        return door.post(SIGN_IN, data=form).status_code

    statuses = [enter_at(two_doors[n % 2], "wrong") for n in range(tries.SIGN_IN.most)]
    assert statuses == [401] * tries.SIGN_IN.most
    assert [enter_at(door, PASSWORD) for door in two_doors] == [429, 429]


@pytest.mark.team
def test_a14_two_hundred_wrong_keys_hold_no_process_up(team: Any) -> None:
    key = team.new_key()
    for number in range(200):
        with team.client(number % 2, f"cgw_wrong{number:036d}") as client:
            assert client.get("/v1/models").status_code == 401
    began = time.monotonic()
    for number in range(2):
        with team.client(number, key) as client:
            assert client.get("/v1/models").status_code == 200
    assert time.monotonic() - began < 3


def test_d23_the_operators_list_of_breached_passwords_counts(
    ben: Member, settings: Any, tmp_path: Path
) -> None:
    """The list is as long as one likes: it is searched by halves, not read."""
    from hashlib import sha1

    from django.contrib.auth.password_validation import validate_password
    from django.core.exceptions import ValidationError

    breached = [f"a long sentence {n} that leaked" for n in range(500)]
    hashes = sorted(sha1(each.encode()).hexdigest().upper() for each in breached)
    path = tmp_path / "pwned.txt"
    path.write_text("".join(f"{each}:{n * 7919}\r\n" for n, each in enumerate(hashes)))
    validate_password(breached[0], ben)
    settings.GATEWAY_BREACHED_PASSWORDS = str(path)

    for each in breached:
        with pytest.raises(ValidationError):
            validate_password(each, ben)
    for n in range(500):
        validate_password(f"another sentence {n} of nobody", ben)
