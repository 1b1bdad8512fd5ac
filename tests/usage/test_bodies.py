"""Stored bodies: redacted, cut, encrypted, and gone by their own date."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils.timezone import now

from accounts.models import Member
from proxy.models import Approval
from usage import bodies, retention
from usage.models import Removal, StoredBody
from usage.redaction import REDACTED, redact

SECRETS = [
    "ghu_abcdefgh1234",
    "github_pat_11ABCDEFG0_xyz",
    "cgw_0123456789abcdef",
    "sk-proj-abcdefghijkl",
    "AKIAABCDEFGHIJKLMNOP",
    "xoxb-1234567890-abc",
    "eyJhbGciOiJI.eyJzdWIi.c2ln",
    "Bearer abcdefghijklmnop",
    'password = "hunter2hunter2"',
    '"api_key": "abcdef123456"',
    '\\"secret\\": \\"abcdef123456\\"',
    "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
    "tid=abc;exp=1;sku=x:sig",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_are_redacted(secret: str) -> None:
    text = redact(f"before {secret} after")
    assert REDACTED in text
    assert text.startswith("before")
    assert secret not in text


def test_words_stay_and_pictures_become_their_size() -> None:
    assert (
        redact("the password must be changed, he said") == "the password must be changed, he said"
    )
    assert redact("x" * 900) == "x" * 900
    assert redact(f'"data": "{"A" * 5000}"') == '"data": "[5000 characters of data]"'


@pytest.mark.django_db
def test_what_is_too_long_is_cut_and_said_so() -> None:
    member = Member.objects.create_user("ben")
    bodies.keep(
        "1", member_id=member.pk, key_id=1, request=b"a b " * 100_000, response=b"\xff\x00 fine"
    )
    found = bodies.read("1", scope=member.pk, reader=member)
    assert found is not None
    assert found.is_cut
    assert len(found.request) == bodies.MAX_BYTES
    assert found.response == "\ufffd\x00 fine"


@pytest.mark.django_db
def test_bodies_go_by_their_own_date_and_the_proof_says_so() -> None:
    for number, days in enumerate((-2, -1, 1)):
        bodies.keep(str(number), member_id=1, key_id=1, request=b"q", response=b"a")
        end = now() + timedelta(days=days)
        StoredBody.objects.filter(pk=str(number)).update(expires_at=end)
    assert [row.pk for row in bodies.of_scope(None)] == ["2"]
    assert retention.delete_old() == 2
    proof = Removal.objects.get(kind="stored bodies")
    assert (proof.removed, proof.left) == (2, 0)
    assert retention.delete_old() == 0
    assert Removal.objects.count() == 1


@pytest.mark.django_db
def test_rows_of_other_packages_go_too(settings: Any) -> None:
    settings.USAGE_RETENTION_DAYS = 30
    old = now() - timedelta(days=31)
    Approval.objects.create(id="1", opened_at=old, expires_at=old)
    assert retention.delete_old() == 1
    assert Removal.objects.get().kind == "approvals"
