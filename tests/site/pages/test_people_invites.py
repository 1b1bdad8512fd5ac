"""Invites: one link, one person, until it expires; and the pages that say why it does not work."""

import hashlib
import re
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import connection
from django.test import Client
from django.utils.timezone import now

from accounts import invites
from accounts.models import AuditEntry, Invite, Member, Role, Team

NEW = "a sentence nobody guesses 7"
JOIN = {"username": "dora", "first_name": "Dora", "password": NEW, "repeated": NEW}


def make(client: Client, **values: Any) -> str:
    """The link's path as the page shows it, once."""
    given = {"role": "member", "days": 7, "email": "", "team": ""} | values
    body = client.post("/dashboard/invites/new/", given).content.decode()
    found = re.search(r"http://testserver(/dashboard/join/[\w-]+/)", body)
    assert found, body
    return found[1]


def test_a_link_makes_one_member_with_role_and_team_and_signs_in(
    as_ada: Client, client: Client
) -> None:
    team = Team.objects.create(name="Core")
    path = make(as_ada, role="auditor", team=team.pk, email="dora@corp.example")
    client.get("/dashboard/sign-in/")
    before = client.session.session_key

    answer = client.post(path, JOIN | {"email": "dora@corp.example"})

    assert answer["Location"] == "/dashboard/"
    dora = Member.objects.get(username="dora")
    assert (dora.role, dora.team, dora.email) == (Role.AUDITOR, team, "dora@corp.example")
    assert dora.check_password(NEW)
    assert client.get("/dashboard/members/").status_code == 200
    assert client.session.session_key != before
    invite = Invite.objects.get()
    assert (invite.state, invite.member) == ("used", dora)
    said = set(AuditEntry.objects.values_list("actor", "action"))
    assert {("ada", "invite.made"), ("dora", "member.joined")} <= said


def test_the_link_is_stored_as_a_hash_and_lasts_seven_days(as_ada: Client) -> None:
    token = make(as_ada).split("/")[-2]

    invite = Invite.objects.get()
    assert bytes(invite.digest) == hashlib.sha256(token.encode()).digest()
    assert timedelta(days=6.9) < invite.expires_at - now() < timedelta(days=7.1)
    assert token not in as_ada.get("/dashboard/members/").content.decode()


def test_a_used_link_says_so_and_makes_nobody(as_ada: Client, client: Client) -> None:
    path = make(as_ada)
    client.post(path, JOIN)

    again = Client().post(path, JOIN | {"username": "eve"})

    assert again.status_code == 410
    assert "was used" in again.content.decode()
    assert not Member.objects.filter(username="eve").exists()


def test_an_expired_link_says_so(as_ada: Client, client: Client) -> None:
    path = make(as_ada)
    Invite.objects.update(expires_at=now() - timedelta(seconds=1))

    answer = client.post(path, JOIN)

    assert answer.status_code == 410
    assert "has expired" in answer.content.decode()
    assert not Member.objects.filter(username="dora").exists()


def test_a_revoked_link_says_so(as_ada: Client, client: Client) -> None:
    path = make(as_ada)
    as_ada.post(f"/dashboard/invites/{Invite.objects.get().pk}/revoke/")

    assert "was taken back" in client.get(path).content.decode()
    assert client.post(path, JOIN).status_code == 410
    assert AuditEntry.objects.filter(action="invite.revoked", actor="ada").exists()


@pytest.mark.parametrize("token", ["x", "%00", "a" * 500, "..%2e", "é"])
def test_a_wrong_link_says_so(token: str, client: Client) -> None:
    answer = client.get(f"/dashboard/join/{token}/")

    assert answer.status_code == 404
    assert "No invite has this link" in answer.content.decode()


def test_who_is_signed_in_does_not_use_it_up(as_ada: Client, as_ben: Client) -> None:
    path = make(as_ada)

    assert as_ben.post(path, JOIN).status_code == 409
    assert Invite.objects.get().state == "open"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"username": "Ben"}, "Somebody has this name"),
        ({"username": "a b"}, "valid username"),
        ({"password": "1234", "repeated": "1234"}, "too short"),
        ({"repeated": "something else 9"}, "differ"),
        ({"username": "\x00"}, "Null characters"),
    ],
)
def test_a_form_that_does_not_fit_leaves_the_link_open(
    values: dict[str, str], said: str, as_ada: Client, ben: Member, client: Client
) -> None:
    path = make(as_ada)

    answer = client.post(path, JOIN | values)

    assert answer.status_code == 400
    assert said in answer.content.decode()
    assert Invite.objects.get().state == "open"


def test_d08_nobody_makes_themselves_more_than_the_invite_says(
    as_ada: Client, client: Client
) -> None:
    path = make(as_ada)

    client.post(path, JOIN | {"role": "admin", "is_superuser": "on", "is_staff": "on"})

    dora = Member.objects.get(username="dora")
    assert dora.role == Role.MEMBER
    assert not dora.is_staff


@pytest.mark.django_db(transaction=True)
def test_of_two_who_use_a_link_at_once_one_becomes_a_member(ada: Member) -> None:
    _invite, token = invites.make(actor=ada)
    found = invites.find(token)
    assert found is not None
    ended: list[object] = []
    gate = threading.Barrier(2)

    def accept(name: str) -> None:
        gate.wait(timeout=5)
        try:
            ended.append(invites.accept(found, invites.Newcomer(name, password=NEW), by="password"))
        except invites.InviteEnded:
            ended.append(None)
        finally:
            connection.close()

    threads = [threading.Thread(target=accept, args=(name,)) for name in ("dora", "eve")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)

    assert ended.count(None) == 1
    assert Member.objects.filter(username__in=["dora", "eve"]).count() == 1


def test_with_a_mail_server_the_link_is_sent(as_ada: Client, settings: Any) -> None:
    settings.EMAIL_IS_SET_UP = True

    path = make(as_ada, email="dora@corp.example")

    (letter,) = mail.outbox
    assert letter.to == ["dora@corp.example"]
    assert f"http://testserver{path}" in letter.body


def test_without_a_mail_server_the_link_is_to_be_copied(as_ada: Client, settings: Any) -> None:
    settings.EMAIL_IS_SET_UP = False

    make(as_ada, email="dora@corp.example")

    assert mail.outbox == []
    assert "copy the link" in as_ada.get("/dashboard/invites/new/").content.decode()
