"""The notice of acceptable use: until it is agreed to, a key answers 403 and says where to agree."""

from typing import Any

import pytest
from django.test import Client

from accounts import acceptable_use, auth, keys
from accounts.models import AuditEntry, Member, Notice

PAGE = "/dashboard/notice/"
EDIT = "/dashboard/notice/edit/"


def call(secret: str) -> auth.Caller:
    return auth.authenticate({"x-api-key": secret}, None, allow_query=False, loopback=True)


@pytest.fixture(autouse=True)
def _keys_are_asked_for(settings: Any) -> None:
    settings.REQUIRE_KEYS = True


def test_a_key_works_once_its_owner_has_agreed(
    ada: Member, ben: Member, as_ada: Client, as_ben: Client
) -> None:
    _key, secret = keys.create("laptop", ben)
    assert call(secret).member == "ben"
    as_ada.post(EDIT, {"text": "Be kind.\n\nNo bulk jobs."})
    with pytest.raises(auth.NotAgreed):
        call(secret)
    body = as_ben.get(PAGE).content.decode()
    assert "No bulk jobs." in body
    assert "Agree to the notice" in as_ben.get("/dashboard/").content.decode()

    as_ben.post(PAGE, {"notice": Notice.objects.get().pk})

    assert call(secret).member == "ben"
    ben.refresh_from_db()
    assert ben.notice_agreed_at is not None
    assert AuditEntry.objects.filter(action="notice.agreed", actor="ben").exists()
    assert "Agree to the notice" not in as_ben.get("/dashboard/").content.decode()


def test_a_new_text_is_asked_again_and_the_same_text_is_not(
    ada: Member, ben: Member, as_ada: Client, as_ben: Client
) -> None:
    _key, secret = keys.create("laptop", ben)
    as_ada.post(EDIT, {"text": "One."})
    as_ben.post(PAGE, {"notice": Notice.objects.get().pk})
    as_ada.post(EDIT, {"text": " One. "})
    assert call(secret).member == "ben"

    as_ada.post(EDIT, {"text": "Two."})

    with pytest.raises(auth.NotAgreed):
        call(secret)


def test_agreeing_to_a_text_that_has_changed_meanwhile_does_not_count(
    ada: Member, ben: Member, as_ada: Client, as_ben: Client
) -> None:
    as_ada.post(EDIT, {"text": "One."})
    old = Notice.objects.get().pk
    as_ada.post(EDIT, {"text": "Two."})

    answer = as_ben.post(PAGE, {"notice": old})

    assert answer.status_code == 409
    ben.refresh_from_db()
    assert acceptable_use.owed_by(ben) is not None
    for wild in ("", "x", "-1", "9" * 40, "²"):
        assert as_ben.post(PAGE, {"notice": wild}).status_code == 409


def test_who_publishes_has_agreed_and_is_not_locked_out(ada: Member, as_ada: Client) -> None:
    _key, secret = keys.create("laptop", ada)

    as_ada.post(EDIT, {"text": "Be kind."})

    assert call(secret).member == "ada"


def test_an_empty_text_asks_nothing_any_more(
    ada: Member, ben: Member, as_ada: Client, as_ben: Client
) -> None:
    _key, secret = keys.create("laptop", ben)
    as_ada.post(EDIT, {"text": "Be kind."})

    as_ada.post(EDIT, {"text": ""})

    assert call(secret).member == "ben"
    assert "nothing is asked" in as_ben.get(PAGE).content.decode()


def test_a_revoked_key_is_refused_as_such_whatever_its_owner_agreed_to(
    ada: Member, ben: Member, as_ada: Client
) -> None:
    key, secret = keys.create("laptop", ben)
    as_ada.post(EDIT, {"text": "Be kind."})
    keys.revoke(key, actor=ada)

    with pytest.raises(auth.Refused) as refused:
        call(secret)

    assert not isinstance(refused.value, auth.NotAgreed)


def test_markup_of_a_notice_is_text(as_ada: Client, as_ben: Client) -> None:
    as_ada.post(EDIT, {"text": "<script>alert(1)</script>"})

    assert "<script>alert" not in as_ben.get(PAGE).content.decode()


def test_an_auditor_may_agree_for_themselves(as_ada: Client, as_aud: Client, aud: Member) -> None:
    as_ada.post(EDIT, {"text": "Be kind."})

    as_aud.post(PAGE, {"notice": Notice.objects.get().pk})

    aud.refresh_from_db()
    assert acceptable_use.owed_by(aud) is None
