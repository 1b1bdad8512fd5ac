"""What members, and people who were more once, could try: factors, passwords, links, invites, names."""

from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.core.cache import caches
from django.test import Client

from accounts import invites, links, roles, tries
from accounts.encryption import encrypt
from accounts.models import AuditEntry, Invite, Member, Role
from usage import large_exports

PASSWORD = "correct horse battery staple"
SIGN_IN = "/dashboard/sign-in/"
FACTOR = "/dashboard/me/second-factor/"


@pytest.fixture(autouse=True)
def fresh() -> None:
    caches["default"].clear()


def with_factor(member: Member) -> None:
    data = {"secret": encrypt("JBSWY3DPEHPK3PXP")}
    Authenticator.objects.create(user=member, type=Authenticator.Type.TOTP, data=data)


def failures(member: Member) -> list[dict[str, Any]]:
    found = AuditEntry.objects.filter(action="member.sign_in_failed", target=str(member))
    return list(found.order_by("pk").values_list("detail", flat=True))


def test_wrong_codes_are_in_the_audit_log_like_wrong_passwords(ben: Member, client: Client) -> None:
    with_factor(ben)
    client.post(SIGN_IN, {"username": "ben", "password": PASSWORD})

    client.post(f"{FACTOR}authenticate/", {"code": "000000"}, REMOTE_ADDR="192.0.2.7")

    assert failures(ben) == [{"by": "second factor", "kind": "totp"}]
    assert AuditEntry.objects.get(action="member.sign_in_failed").address == "192.0.2.7"
    assert "000000" not in str(AuditEntry.objects.get(action="member.sign_in_failed").detail)


def test_a_session_that_was_left_open_does_not_tell_the_password(
    ben: Member, as_ben: Client
) -> None:
    """Guessing the present password has the limit of signing in, wherever it is asked for."""
    new = {"new_password1": "a sentence 7 nobody", "new_password2": "a sentence 7 nobody"}
    for number in range(tries.SIGN_IN.most):
        path = "/dashboard/me/password/" if number % 2 else "/dashboard/sso/confirm/"
        as_ben.post(path, {"old_password": "wrong", "password": "wrong", **new})

    answer = as_ben.post("/dashboard/me/password/", {"old_password": PASSWORD, **new})
    assert answer.status_code == 429
    as_ben.post("/dashboard/sso/confirm/", {"password": PASSWORD})
    assert as_ben.get(f"{FACTOR}totp/activate/").status_code == 302
    ben.refresh_from_db()
    assert ben.check_password(PASSWORD)
    assert len(failures(ben)) == tries.SIGN_IN.most


def test_an_administrators_link_stands_for_the_password_only(
    ben: Member, as_ada: Client, client: Client
) -> None:
    with_factor(ben)
    page = as_ada.post("/dashboard/members/ben/link/").content.decode()
    link = "/dashboard/?signin=" + page.partition("?signin=")[2].partition("<")[0].partition('"')[0]

    answer = client.get(link)

    assert answer["Location"] == f"{FACTOR}authenticate/"
    assert client.get("/dashboard/").status_code == 302
    # Without a factor it opens the session, and the terminal's opens it anyway.
    Authenticator.objects.all().delete()
    assert (
        Client().get(f"/dashboard/?signin={links.make(ben, asks_factor=True)}").status_code == 302
    )
    assert AuditEntry.objects.filter(action="member.signed_in", detail__by="link").count() == 1


def test_an_administrators_link_opens_the_session_of_who_has_no_factor(
    ben: Member, client: Client
) -> None:
    client.get(f"/dashboard/?signin={links.make(ben, asks_factor=True)}")

    assert client.get("/dashboard/").status_code == 200


def test_a_second_factor_may_be_demanded_of_everybody(
    ben: Member, as_ben: Client, settings: Any
) -> None:
    settings.GATEWAY_REQUIRE_MFA_OF_ALL = True

    assert as_ben.get("/dashboard/")["Location"] == FACTOR
    assert as_ben.post("/dashboard/keys/new/").status_code == 403
    with_factor(ben)
    assert as_ben.get("/dashboard/").status_code == 200


@pytest.mark.parametrize("how", ["demoted", "disabled"])
def test_who_is_no_administrator_any_more_leaves_no_open_invite(
    ada: Member, ben: Member, client: Client, how: str
) -> None:
    """An invite as an administrator, kept for later, would be a way back."""
    roles.set_role(ben, Role.ADMIN, actor=ada)
    _invite, token = invites.make(actor=ben, role=Role.ADMIN, days=90)
    _other, kept = invites.make(actor=ada)

    if how == "demoted":
        roles.set_role(ben, Role.MEMBER, actor=ada)
    else:
        roles.disable(ben, actor=ada)

    assert client.get(f"/dashboard/join/{token}/").status_code == 410
    assert client.get(f"/dashboard/join/{kept}/").status_code == 200
    assert Invite.objects.get(invited_by=ben).revoked_at is not None


def test_an_export_of_everybodys_requests_ends_with_the_role(
    world: Any, ada: Member, ben: Member, as_ben: Client
) -> None:
    roles.set_role(ben, Role.ADMIN, actor=ada)
    made = "00000000-0000-4000-8000-000000000001"
    large_exports.write(ben.pk, "range=30d", "csv", zone="UTC", export_id=made)
    assert as_ben.get(f"/dashboard/requests/exports/{made}.csv").status_code == 200

    roles.set_role(ben, Role.MEMBER, actor=ada)

    assert as_ben.get(f"/dashboard/requests/exports/{made}.csv").status_code == 404


@pytest.mark.parametrize("name", ["gateway", "Owner", "terminal", "ｇateway", "ＡＤＡ"])
def test_nobody_joins_under_a_name_of_the_gateway(ada: Member, client: Client, name: str) -> None:
    """The audit log would say that the gateway did it; and `owner` is found by name."""
    _invite, token = invites.make(actor=ada)
    form = {"username": name, "password": PASSWORD, "repeated": PASSWORD}

    assert client.post(f"/dashboard/join/{token}/", form).status_code == 400
    assert list(Member.objects.values_list("username", flat=True)) == ["ada"]
