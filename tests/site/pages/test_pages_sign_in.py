"""The door: passwords, one-use links, too many tries, where one goes afterwards."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils.timezone import now

from accounts import links
from accounts.models import AuditEntry, Member, SignInLink

SIGN_IN = "/dashboard/sign-in/"
PASSWORD = "correct horse battery staple"


def test_d05_a_password_opens_a_session_under_a_new_id(ben: Member, client: Client) -> None:
    client.get(SIGN_IN)
    session = client.session
    session["mark"] = "before"
    session.save()
    before = session.session_key

    answer = client.post(SIGN_IN, {"username": "ben", "password": PASSWORD})

    assert answer["Location"] == "/dashboard/"
    assert client.session.session_key != before
    assert client.get("/dashboard/").status_code == 200
    assert AuditEntry.objects.filter(action="member.signed_in", actor="ben").exists()


def test_d17_wrong_name_and_wrong_password_get_the_same_answer(ben: Member, client: Client) -> None:
    wrong = client.post(SIGN_IN, {"username": "ben", "password": "nonsense"})
    unknown = client.post(SIGN_IN, {"username": "nobody", "password": "nonsense"})

    assert wrong.status_code == unknown.status_code == 401
    assert "Name or password is wrong." in wrong.content.decode()
    assert wrong.content.decode().replace("ben", "").count("wrong") == (
        unknown.content.decode().count("wrong")
    )


def test_an_inactive_member_does_not_come_in(ben: Member, client: Client) -> None:
    Member.objects.update(is_active=False)

    assert client.post(SIGN_IN, {"username": "ben", "password": PASSWORD}).status_code == 401


def test_d06_after_ten_tries_even_the_right_password_waits(ben: Member, client: Client) -> None:
    for _turn in range(10):
        client.post(SIGN_IN, {"username": "Ben", "password": "nonsense"})

    answer = client.post(SIGN_IN, {"username": "ben", "password": PASSWORD})

    assert answer.status_code == 429
    elsewhere = client.post(
        SIGN_IN, {"username": "ben", "password": PASSWORD}, REMOTE_ADDR="192.0.2.7"
    )
    assert elsewhere.status_code == 302


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "javascript:alert(1)", "/\\evil.example"]
)
def test_d10_one_is_never_sent_to_another_site(target: str, ben: Member, client: Client) -> None:
    answer = client.post(SIGN_IN, {"username": "ben", "password": PASSWORD, "next": target})

    assert answer["Location"] == "/dashboard/"


def test_one_goes_on_where_one_wanted_to_go(ben: Member, client: Client) -> None:
    target = "/dashboard/requests/?range=7d"
    answer = client.post(SIGN_IN, {"username": "ben", "password": PASSWORD, "next": target})

    assert answer["Location"] == target


def test_a_link_signs_in_once_and_leaves_a_clean_address(ben: Member) -> None:
    token = links.make(ben)
    first, second = Client(), Client()

    answer = first.get(f"/dashboard/requests/?signin={token}&range=7d")
    again = second.get(f"/dashboard/?signin={token}")

    assert answer["Location"] == "/dashboard/requests/?range=7d"
    assert first.get("/dashboard/").status_code == 200
    assert again["Location"] == "/dashboard/sign-in/?link=ended"
    assert "used before or has ended" in second.get(again["Location"]).content.decode()
    assert second.get("/dashboard/").status_code == 302


def test_a_link_on_the_sign_in_page_works_too(ben: Member, client: Client) -> None:
    answer = client.get(f"{SIGN_IN}?signin={links.make(ben)}", follow=True)

    assert answer.redirect_chain[-1][0] == "/dashboard/"
    assert answer.status_code == 200


def test_a_link_that_has_ended_signs_nobody_in(ben: Member, client: Client) -> None:
    token = links.make(ben)
    SignInLink.objects.update(expires_at=now() - timedelta(seconds=1))

    assert client.get(f"/dashboard/?signin={token}")["Location"].endswith("link=ended")


def test_signing_out_needs_a_post(as_ben: Client) -> None:
    assert as_ben.get("/dashboard/sign-out/").status_code == 405
    assert as_ben.get("/dashboard/").status_code == 200

    as_ben.post("/dashboard/sign-out/")

    assert as_ben.get("/dashboard/").status_code == 302


def test_a_new_password_ends_other_sessions_and_keeps_this_one(ben: Member, as_ben: Client) -> None:
    other = Client()
    other.force_login(ben)
    new = "a much longer sentence 7"

    answer = as_ben.post(
        "/dashboard/me/password/",
        {"old_password": PASSWORD, "new_password1": new, "new_password2": new},
    )

    assert answer.status_code == 302
    assert as_ben.get("/dashboard/").status_code == 200
    assert other.get("/dashboard/").status_code == 302


def test_a_weak_password_is_refused_with_the_reason(ben: Member, as_ben: Client) -> None:
    answer = as_ben.post(
        "/dashboard/me/password/",
        {"old_password": PASSWORD, "new_password1": "1234", "new_password2": "1234"},
    )

    assert answer.status_code == 400
    assert "too short" in answer.content.decode()


def test_a18_preferences_change_what_they_name_and_nothing_else(
    ben: Member, as_ben: Client
) -> None:
    values = {"first_name": "Benedikt", "time_zone": "Asia/Riyadh", "theme": "dark"}
    as_ben.post("/dashboard/me/", values | {"is_superuser": "on", "username": "root"})

    ben.refresh_from_db()
    assert (ben.first_name, ben.time_zone, ben.theme) == ("Benedikt", "Asia/Riyadh", "dark")
    assert not ben.is_superuser
    assert ben.username == "ben"
    assert 'data-theme="dark"' in as_ben.get("/dashboard/me/").content.decode()


def test_a_time_zone_that_is_none_is_refused(ben: Member, as_ben: Client) -> None:
    answer = as_ben.post("/dashboard/me/", {"time_zone": "../../etc/passwd", "theme": "dark"})

    assert answer.status_code == 400
    ben.refresh_from_db()
    assert ben.time_zone == ""


def test_the_browsers_time_zone_cuts_the_days_until_one_is_chosen(
    world: Any, ben: Member, as_ben: Client
) -> None:
    as_ben.cookies["tz"] = "Asia/Tokyo"
    assert "times in Asia/Tokyo" in as_ben.get("/dashboard/").content.decode()

    as_ben.cookies["tz"] = "../../etc/passwd"
    assert "times in UTC" in as_ben.get("/dashboard/").content.decode()

    Member.objects.filter(pk=ben.pk).update(time_zone="Europe/Berlin")
    assert "times in Europe/Berlin" in as_ben.get("/dashboard/").content.decode()
