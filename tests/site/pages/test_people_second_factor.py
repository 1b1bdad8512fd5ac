"""Authenticator apps, recovery codes and passkeys; administrators who must have one."""

import re
import time
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.test import Client

from accounts import links
from accounts.models import AuditEntry, Member
from copilot_site import key_rotation

PASSWORD = "correct horse battery staple"
SIGN_IN = "/dashboard/sign-in/"
FACTOR = "/dashboard/me/second-factor/"
PAGES = [
    FACTOR,
    f"{FACTOR}totp/activate/",
    f"{FACTOR}webauthn/",
    f"{FACTOR}webauthn/add/",
]


def code_of(secret: str, step: int = 0) -> str:
    return str(format_hotp_value(hotp_value(secret, int(time.time()) // 30 + step)))


def by_password(client: Client, name: str = "ben") -> Any:
    return client.post(SIGN_IN, {"username": name, "password": PASSWORD})


@pytest.fixture
def secret(ben: Member, client: Client, django_capture_on_commit_callbacks: Any) -> str:
    """Ben's authenticator app, set up through the pages."""
    by_password(client)
    client.post("/dashboard/sso/confirm/", {"password": PASSWORD})
    body = client.get(f"{FACTOR}totp/activate/").content.decode()
    found = re.search(r'id="authenticator_secret"[^>]*value="([A-Z2-7]+)"', body)
    assert found, body
    with django_capture_on_commit_callbacks(execute=True):
        answer = client.post(f"{FACTOR}totp/activate/", {"code": code_of(found[1])})
    assert answer.status_code == 302, answer.content.decode()
    client.post("/dashboard/sign-out/")
    return found[1]


def test_the_password_alone_opens_nothing_when_there_is_a_second_factor(
    secret: str, client: Client
) -> None:
    answer = by_password(client)

    assert answer["Location"] == f"{FACTOR}authenticate/"
    assert client.get("/dashboard/")["Location"].startswith(SIGN_IN)
    assert client.get(f"{FACTOR}authenticate/").status_code == 200


def test_the_code_of_the_app_opens_the_session_where_one_wanted_to_go(
    secret: str, client: Client
) -> None:
    target = "/dashboard/requests/?range=7d"
    client.post(SIGN_IN, {"username": "ben", "password": PASSWORD, "next": target})

    answer = client.post(f"{FACTOR}authenticate/", {"code": code_of(secret, 1)})

    assert answer["Location"] == target
    assert client.get("/dashboard/").status_code == 200
    entry = AuditEntry.objects.filter(action="member.signed_in").order_by("-pk")[0]
    assert entry.detail == {"by": "password", "then": ["mfa"]}


def test_a_wrong_code_opens_nothing_and_many_are_too_many(secret: str, client: Client) -> None:
    by_password(client)

    answers = [client.post(f"{FACTOR}authenticate/", {"code": "000000"}) for _turn in range(12)]

    assert client.get("/dashboard/").status_code == 302
    assert "Incorrect code" in answers[0].content.decode()
    assert "Too many" in answers[-1].content.decode()
    right = client.post(f"{FACTOR}authenticate/", {"code": code_of(secret, 1)})
    assert right.status_code == 200
    assert client.get("/dashboard/").status_code == 302


def test_a_recovery_code_works_once(secret: str, ben: Member, client: Client) -> None:
    row = Authenticator.objects.get(user=ben, type=Authenticator.Type.RECOVERY_CODES)
    code = row.wrap().get_unused_codes()[0]
    by_password(client)
    assert client.post(f"{FACTOR}authenticate/", {"code": code}).status_code == 302
    client.post("/dashboard/sign-out/")
    by_password(client)

    assert client.post(f"{FACTOR}authenticate/", {"code": code}).status_code == 200
    assert client.get("/dashboard/").status_code == 302


def test_signing_out_forgets_a_sign_in_that_waits_for_its_code(secret: str, client: Client) -> None:
    by_password(client)
    client.post("/dashboard/sign-out/")

    answer = client.post(f"{FACTOR}authenticate/", {"code": code_of(secret, 1)})

    assert answer["Location"].endswith("sign-in/")
    assert client.get("/dashboard/").status_code == 302


def test_secrets_of_factors_are_ciphertext_and_rotate(
    secret: str, ben: Member, settings: Any, client: Client
) -> None:
    rows = {row.pk: dict(row.data) for row in Authenticator.objects.filter(user=ben)}
    assert all(secret not in str(data) for data in rows.values())
    settings.ENCRYPTION_KEYS = ["a-new-key", *settings.ENCRYPTION_KEYS]

    done = key_rotation.rotate()

    assert done.unreadable == []
    settings.ENCRYPTION_KEYS = ["a-new-key"]
    by_password(client)
    assert client.post(f"{FACTOR}authenticate/", {"code": code_of(secret, 1)}).status_code == 302


def test_changes_of_factors_are_audited(secret: str, ben: Member) -> None:
    said = AuditEntry.objects.filter(actor="ben", action="member.second_factor_added")

    assert {"kind": "totp"} in [entry.detail for entry in said]


def test_an_administrator_takes_a_lost_factor_away(
    secret: str, ben: Member, as_ada: Client, client: Client
) -> None:
    as_ada.post("/dashboard/members/ben/drop-second-factor/")

    assert by_password(client)["Location"] == "/dashboard/"
    assert AuditEntry.objects.filter(action="member.second_factor_dropped", actor="ada").exists()


def test_a_factor_is_only_changed_by_who_proved_a_moment_ago_who_they_are(as_ben: Client) -> None:
    answer = as_ben.get(f"{FACTOR}totp/activate/")

    assert answer.status_code == 302
    assert answer["Location"].startswith("/dashboard/sso/confirm/")
    assert as_ben.get(answer["Location"]).status_code == 200
    assert as_ben.post(answer["Location"], {"password": "wrong"}).status_code == 200
    assert as_ben.get(f"{FACTOR}totp/activate/").status_code == 302


def test_who_came_by_a_link_and_has_no_password_can_set_one_up(client: Client) -> None:
    owner = Member.objects.create_superuser("owner")
    owner.set_unusable_password()
    owner.save()
    client.get(f"/dashboard/?signin={links.make(owner)}")

    assert client.get(f"{FACTOR}totp/activate/").status_code == 200


@pytest.mark.parametrize("path", PAGES)
def test_its_pages_keep_to_the_strict_policy(path: str, ben: Member, client: Client) -> None:
    by_password(client)
    client.post("/dashboard/sso/confirm/", {"password": PASSWORD})

    answer = client.get(path)

    assert answer.status_code == 200
    body = answer.content.decode()
    assert "unsafe" not in answer["Content-Security-Policy"]
    for script in re.findall(r"<script[^>]*>", body):
        assert "src=" in script or 'type="application/json"' in script
    assert not re.search(r"\son\w+=|\sstyle=|<style", body)
    assert body.count("<h1") == 1
    assert 'class="rail"' in body


def test_a_passkey_can_be_asked_for_at_the_door(client: Client) -> None:
    page = client.get(SIGN_IN)
    options = client.get(f"{FACTOR}webauthn/login/", headers={"Accept": "application/json"})

    assert 'id="passkey_login"' in page.content.decode()
    assert options.json()["request_options"]["publicKey"]["challenge"]


def test_administrators_who_must_have_a_factor_see_only_where_to_set_it_up(
    as_ada: Client, as_ben: Client, ada: Member, settings: Any
) -> None:
    settings.GATEWAY_REQUIRE_MFA = True

    for path in ("/dashboard/", "/dashboard/members/", "/admin/", "/dashboard/me/"):
        assert as_ada.get(path)["Location"] == FACTOR
    assert as_ada.post("/dashboard/members/ada/make-member/").status_code == 403
    assert "need a second factor" in as_ada.get(FACTOR).content.decode()
    assert as_ben.get("/dashboard/").status_code == 200
    Authenticator.objects.create(user=ada, type=Authenticator.Type.TOTP, data={"secret": ""})
    assert as_ada.get("/dashboard/members/").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        FACTOR,
        f"{FACTOR}totp/activate/",
        f"{FACTOR}totp/deactivate/",
        f"{FACTOR}webauthn/",
        f"{FACTOR}webauthn/add/",
        f"{FACTOR}webauthn/keys/1/remove/",
        f"{FACTOR}webauthn/keys/1/edit/",
        f"{FACTOR}recovery-codes/",
        f"{FACTOR}recovery-codes/generate/",
        f"{FACTOR}recovery-codes/download/",
        "/dashboard/sso/connections/",
        "/dashboard/sso/confirm/",
    ],
)
def test_a_stranger_is_sent_to_the_door(path: str, client: Client) -> None:
    answer = client.get(path, follow=True)

    assert answer.redirect_chain[-1][0].startswith(SIGN_IN)


def test_nobody_reaches_a_key_of_another(ben: Member, client: Client, ada: Member) -> None:
    row = Authenticator.objects.create(user=ada, type=Authenticator.Type.WEBAUTHN, data={})
    by_password(client)
    client.post("/dashboard/sso/confirm/", {"password": PASSWORD})

    assert client.post(f"{FACTOR}webauthn/keys/{row.pk}/remove/").status_code == 404
    assert Authenticator.objects.filter(pk=row.pk).exists()


@pytest.mark.parametrize(
    "path", ["signup/", "email/", "password/reset/", "login/", "signup/passkey/"]
)
def test_pages_of_allauth_that_nobody_needs_are_not_there(path: str, client: Client) -> None:
    assert client.get(f"/dashboard/sso/{path}").status_code == 404
