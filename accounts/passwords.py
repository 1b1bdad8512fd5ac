"""Passwords that anybody would try here first: our own words with a few characters around them.

The list is documented in docs/asvs.md (6.1.2); common passwords of the world are Django's own list.
"""

import re
from typing import Any, Final

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
