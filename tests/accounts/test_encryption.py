"""Secrets at rest: ciphertext in every dump, a clear word without the key."""

import base64
import hashlib
import io
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.fernet import Fernet, InvalidToken
from django.core.management import call_command

from accounts import tokens
from accounts.encryption import Secret, Undecryptable, decrypt, encrypt
from accounts.errors import AccountUnavailable
from accounts.models import Account
from simulator.testing import SimulatorThread


def test_x01_a_dump_shows_no_secret(make_account: Callable[..., Account]) -> None:
    account = make_account(copilot_token=Secret.of("tid=clear;exp=1"))
    out = io.StringIO()

    call_command("dumpdata", "accounts", stdout=out)

    assert "octocat" in out.getvalue()
    for secret in ("ghu_octocat", "tid=clear", account.github_token.ciphertext):
        assert secret not in out.getvalue()


def test_a_secret_shows_nowhere_by_accident(make_account: Callable[..., Account]) -> None:
    account = Account.objects.get(pk=make_account().pk)

    for shown in (repr(account.github_token), str(account.github_token), f"{account.github_token}"):
        assert shown == "********"
    assert "ghu_octocat" not in repr(vars(account))


def test_a_plain_text_is_never_stored(make_account: Callable[..., Account]) -> None:
    account = make_account()
    account.github_token = "ghu_plain"

    with pytest.raises(TypeError):
        account.save()


def test_p14_old_and_new_keys_are_readable_and_the_first_writes(settings: Any) -> None:
    settings.ENCRYPTION_KEYS = ["old"]
    before = encrypt("ghu_x")

    settings.ENCRYPTION_KEYS = ["new", "old"]
    after = encrypt("ghu_x")
    assert decrypt(before) == decrypt(after) == "ghu_x"

    settings.ENCRYPTION_KEYS = ["new"]
    assert decrypt(after) == "ghu_x"
    with pytest.raises(Undecryptable):
        decrypt(before)


def test_p14_a_lost_key_is_said_in_words(
    simulator: SimulatorThread, make_account: Callable[..., Account], settings: Any
) -> None:
    account = make_account()
    settings.ENCRYPTION_KEYS = ["another"]

    with pytest.raises(AccountUnavailable) as caught:
        tokens.refresh_now(account.pk)

    assert caught.value.code == "needs_sign_in"
    assert "ENCRYPTION_KEYS" in caught.value.message
    assert simulator.received == []


def test_what_was_written_when_keys_were_hashed_once_is_readable_and_rotates(settings: Any) -> None:
    settings.ENCRYPTION_KEYS = ["an-older-key"]
    hashed = base64.urlsafe_b64encode(hashlib.sha256(b"an-older-key").digest())
    old = Fernet(hashed).encrypt(b"ghu_written_before").decode()

    assert decrypt(old) == "ghu_written_before"
    # What is written now is under the stretched key: a dump is not tried by hashing words.
    with pytest.raises(InvalidToken):
        Fernet(hashed).decrypt(encrypt("ghu_written_now").encode())
