"""Passwords that anybody would try: our own words with a few characters around them, and breached ones.

Our words are documented in docs/asvs.md (6.1.2); the 20 000 commonest of breaches are Django's own list.
The operator may name a list of all (GATEWAY_BREACHED_PASSWORDS): nothing leaves the machine for it.
"""

import hashlib
import os
import re
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

WORDS: Final = ("copilot", "gateway", "github", "anthropic", "openai", "claude", "gemini", "codex")
# What may be left of a password once our words, digits and signs are out of it, and be too little.
MIN_REST: Final = 6


class NotOurOwnWords:
    """A validator of Django: refuses `Copilot-Gateway-2026!` and its like."""

    def validate(self, password: str, user: Any = None) -> None:
        rest = password.lower()
        for word in WORDS:
            rest = rest.replace(word, "")
        if len(rest) < len(password) and len(re.sub(r"[\W\d_]+", "", rest)) < MIN_REST:
            raise ValidationError(self.get_help_text(), code="password_of_our_words")

    def get_help_text(self) -> str:
        return _("The password must not be made of the names of this gateway and its services.")


class NotBreached:
    """A validator of Django: refuses what stands in the operator's list of breached passwords."""

    def validate(self, password: str, user: Any = None) -> None:
        path = settings.GATEWAY_BREACHED_PASSWORDS
        if path and is_listed(Path(path), password):
            raise ValidationError(self.get_help_text(), code="password_breached")

    def get_help_text(self) -> str:
        return _("The password must not be one that is known from a breach.")


def is_listed(path: Path, password: str) -> bool:
    """Whether the file of sorted lines `<SHA-1 in hex>[:count]` has the password.

    That is how haveibeenpwned's own downloader writes its 40 GB; thirty lines of it are read. Raises
    `OSError` when the file cannot be read.
    """
    # The list's own form, no protection of ours.
    wanted = hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest().upper().encode()
    with path.open("rb") as file:
        low, high = 0, file.seek(0, os.SEEK_END)
        while low < high:
            middle = (low + high) // 2
            found = _line_after(file, middle)
            if not found or found >= wanted:
                high = middle
            else:
                low = middle + 1
        return _line_after(file, low) == wanted


def _line_after(file: Any, place: int) -> bytes:
    """The hash of the first line that begins behind `place`; of the first line of all for 0."""
    file.seek(place)
    if place:
        file.readline()
    return bytes(file.readline()[:40]).upper()
