"""How long a credential lasts from its receipt. Source: docs/upstream.md#token-lifetime."""

import math
from collections.abc import Mapping
from typing import Any, Final

# The token lives 60 s beyond `refresh_in`; the server's own `expires_at` is not trusted, because
# users whose clocks are fast would see a token that has ended already.
GRACE_S: Final = 60.0
DEFAULT_REFRESH_IN_S: Final = 1500.0
LONGEST_S: Final = 24 * 3600.0
# Direct credentials do not end; their host is read again now and then, sooner after a failure.
DIRECT_S: Final = 3600.0
DIRECT_UNCONFIRMED_S: Final = 300.0


def lifetime_s(answer: Mapping[str, Any]) -> float:
    """Seconds that the token of an exchange lasts.

    At least 60, so that a broken `refresh_in` costs one exchange a minute at most.
    """
    given = answer.get("refresh_in")
    if not isinstance(given, int | float) or isinstance(given, bool) or not math.isfinite(given):
        given = DEFAULT_REFRESH_IN_S
    return min(max(0.0, float(given)) + GRACE_S, LONGEST_S)
