"""Keys of encryption are changed: every secret of every table, and none is ever in clear."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.apps import apps
from django.conf import settings as django_settings
from django.contrib import admin
from django.db import connection

from accounts.encryption import EncryptedTextField, Undecryptable, decrypt
from copilot_site import key_rotation
from tests.proxy.admin_rows import MAKERS, MARK

admin.autodiscover()
SEALED = [
    (model, field.name)
    for model in apps.get_models()
    for field in model._meta.concrete_fields
    if isinstance(field, EncryptedTextField)
]


def dump() -> str:
    """Everything that is in the database's file, as a thief would have it."""
    with sqlite3.connect(connection.settings_dict["NAME"]) as file:
        return "\n".join(file.iterdump())


def texts() -> list[str]:
    """Every secret, read with the present keys."""
    found = [
        secret.reveal()
        for model, name in SEALED
        for secret in model._default_manager.values_list(name, flat=True)
        if secret
    ]
    return found + [decrypt(row.data["secret"]) for row in Authenticator.objects.all()]


@pytest.fixture
def rows(transactional_db: None) -> None:
    """Two rows of every table, each secret among them."""
    for make in MAKERS.values():
        for number in (1, 2):
            make(number)


def test_every_sealed_column_is_known_here() -> None:
    """A new one has to be in the rows of these tests, so that it is tried, too."""
    assert {f"{model._meta.label}.{name}" for model, name in SEALED} == {
        "accounts.Account.copilot_token",
        "accounts.Account.github_token",
        "accounts.DeviceLogin.device_code",
        "accounts.GitHubApp.private_key",
        "usage.Channel.address",
        "usage.Channel.secret",
        "usage.StoredBody.request",
        "usage.StoredBody.response",
    }


@pytest.mark.skipif(
    not django_settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"), reason="reads the file"
)
def test_after_rotation_the_old_key_is_not_needed_and_nothing_is_in_clear(
    rows: None, settings: Any
) -> None:
    filled = {
        model for model, name in SEALED if any(model._default_manager.values_list(name, flat=True))
    }
    assert filled == {model for model, _name in SEALED}
    before = sorted(texts())
    assert len(before) >= 18
    assert all(MARK in text for text in before)
    old = dump()
    assert MARK not in old
    settings.ENCRYPTION_KEYS = ["a-new-key", *settings.ENCRYPTION_KEYS]

    done = key_rotation.rotate()

    assert done.unreadable == []
    assert done.rewritten == len(before)
    settings.ENCRYPTION_KEYS = ["a-new-key"]
    assert sorted(texts()) == before
    new = dump()
    assert MARK not in new
    # No ciphertext of before is left.
    tokens = {word for word in old.replace('"', "'").split("'") if word.startswith("gAAAA")}
    assert len(tokens) >= len(before)
    assert [token for token in tokens if token in new] == []


def test_without_the_old_key_nothing_is_harmed_and_every_row_is_named(
    rows: None, settings: Any
) -> None:
    keys, before = settings.ENCRYPTION_KEYS, sorted(texts())
    settings.ENCRYPTION_KEYS = ["another-key"]

    done = key_rotation.rotate()

    assert (done.rewritten, len(done.unreadable)) == (0, len(before))
    with pytest.raises(Undecryptable):
        texts()
    settings.ENCRYPTION_KEYS = keys
    assert sorted(texts()) == before


def test_a_database_file_is_where_the_dump_looks(rows: None) -> None:
    assert Path(connection.settings_dict["NAME"]).is_file()
    assert "octo1" in dump()
