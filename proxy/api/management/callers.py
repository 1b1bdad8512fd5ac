"""Who may use the management API: keys of administrators; keys of auditors may read.

The API takes no cookies, so no web page can use it with somebody's session.
"""

from django.http import HttpRequest

from accounts.database import in_database
from accounts.models import Member
from proxy.api.callers import authenticate
from proxy.errors import Forbidden, Unauthorized


async def guard(request: HttpRequest) -> Member:
    """The member behind the key, before anything of the request is read; Ninja's `auth`.

    Raises `Unauthorized` or `Forbidden`.
    """
    caller = await authenticate(request)
    if caller.key_id is None:
        # Solo mode serves tools without a key; who steers the gateway has to show one.
        raise Unauthorized("The management API needs an API key, also on this machine.")
    reads = request.method in ("GET", "HEAD")
    if not (caller.is_admin or (reads and caller.is_auditor)):
        raise Forbidden(
            "This needs a key with management rights of an administrator; keys of auditors read.",
            code="admin_key_required",
        )
    return await in_database(Member.objects.get, pk=caller.member_id)


def member_of(request: HttpRequest) -> Member:
    """Who calls, as `guard` has found."""
    member = request.auth  # type: ignore[attr-defined]
    assert isinstance(member, Member)
    return member
