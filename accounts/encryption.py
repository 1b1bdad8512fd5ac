"""Secrets at rest: a text field that is ciphertext in the database.

MultiFernet over `settings.ENCRYPTION_KEYS`: the first key writes, every key reads, so that keys can
be rotated while the gateway runs. The keys live outside the database.
"""

import base64
import hashlib
from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import models

# Of this use: the same text gives another key elsewhere. What must be random is the key.
SALT = b"copilot-gateway: secrets at rest"


class Undecryptable(Exception):
    """The row was written with a key that is not in ENCRYPTION_KEYS."""

    def __init__(self) -> None:
        super().__init__(
            "A stored secret cannot be read with the present ENCRYPTION_KEYS. "
            "Add the key it was written with, or sign in to the account again."
        )


@lru_cache(maxsize=8)
def _fernet(keys: tuple[str, ...]) -> MultiFernet:
    """The first key writes. Earlier versions hashed a key once: what they wrote stays readable, and
    `rotate-keys` writes it anew."""
    hashed = (hashlib.sha256(key.encode()).digest() for key in keys)
    every = (*(_stretched(key) for key in keys), *hashed)
    return MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in every])


@lru_cache(maxsize=8)
def _stretched(key: str) -> bytes:
    """32 bytes for Fernet. A key may be any text of the operator's: a guess costs 40 ms and 16 MiB."""
    return hashlib.scrypt(key.encode(), salt=SALT, n=2**14, r=8, p=1, dklen=32)


def _current() -> MultiFernet:
    return _fernet(tuple(k.strip() for k in settings.ENCRYPTION_KEYS if k.strip()))


def encrypt(text: str) -> str:
    return _current().encrypt(text.encode()).decode()


def decrypt(ciphertext: str) -> str:
    """Raises `Undecryptable` when no key of the list fits."""
    try:
        return _current().decrypt(ciphertext.encode()).decode()
    except InvalidToken:
        raise Undecryptable from None


class Secret:
    """A decrypted-on-demand value: its text shows nowhere by accident."""

    __slots__ = ("ciphertext",)

    def __init__(self, ciphertext: str) -> None:
        self.ciphertext = ciphertext

    @classmethod
    def of(cls, text: str) -> "Secret":
        return cls(encrypt(text) if text else "")

    def reveal(self) -> str:
        return decrypt(self.ciphertext) if self.ciphertext else ""

    def __bool__(self) -> bool:
        return bool(self.ciphertext)

    def __str__(self) -> str:
        return "********" if self.ciphertext else ""

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.ciphertext == self.ciphertext

    def __hash__(self) -> int:
        return hash(self.ciphertext)


def no_secret() -> Secret:
    """The default of fields that may be empty."""
    return Secret("")


class EncryptedTextField(models.TextField):  # type: ignore[type-arg]
    """A `Secret`. Assign `Secret.of(text)`; a plain string is refused rather than stored in clear."""

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> Secret:
        return Secret(value or "")

    def to_python(self, value: Any) -> Secret:
        return value if isinstance(value, Secret) else Secret("")

    def get_prep_value(self, value: Any) -> str:
        if isinstance(value, Secret):
            return value.ciphertext
        if value in ("", None):
            return ""
        raise TypeError(f"{self.name} takes a Secret, not {type(value).__name__}.")

    def value_to_string(self, obj: models.Model) -> str:
        return ""
