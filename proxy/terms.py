"""Models that wait for their terms: an administrator accepts them for an account, deliberately.

Never by itself, and never for an account that is out of service. Source: docs/upstream.md#models.
"""

import asyncio
import uuid
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from accounts import book as account_book
from accounts.book import AccountView
from accounts.errors import AccountUnavailable
from accounts.models import Account
from accounts.tokens import credential as credential_for
from proxy import catalog
from proxy.catalog import Entry, read_entry
from proxy.errors import Forbidden, GatewayError, Unavailable
from proxy.models import Catalog
from proxy.upstream.client import client, close_client
from proxy.upstream.failures import read_failure, to_error
from proxy.upstream.headers import policy_headers

TIMEOUT_S: Final = 30.0
ENABLED: Final = b'{"state":"enabled"}'
MAX_TERMS: Final = 4000


@dataclass(frozen=True, slots=True)
class Terms:
    """What GitHub asks to agree to before one account may use one model."""

    account: Account
    entry: Entry
    text: str


def of(account_id: int, model_id: str) -> Terms | None:
    """The terms of a model that an account has in its list, accepted or not."""
    row = Catalog.objects.select_related("account").filter(account_id=account_id).first()
    for raw in row.entries if row is not None else ():
        entry = read_entry(raw) if isinstance(raw, dict) else None
        if row is not None and entry is not None and entry.id == model_id:
            return Terms(row.account, entry, text_of(entry))
    return None


def text_of(entry: Entry) -> str:
    policy = entry.raw.get("policy")
    terms = policy.get("terms") if isinstance(policy, dict) else None
    return str(terms)[:MAX_TERMS] if terms else ""


def accept(account_id: int, model_id: str) -> None:
    """Say yes to GitHub, then read the account's list again. From a page's own thread.

    Raises `GatewayError` with GitHub's reason.
    """
    account_book.snapshot.refresh()
    account = account_book.get(account_id)
    if account is None or not account.is_available:
        raise Unavailable("The account is out of service.", code="account_unavailable")
    asyncio.run(_accept(account, model_id))


async def _accept(account: AccountView, model_id: str) -> None:
    try:
        credential = await credential_for(account.id)
        headers = policy_headers(
            catalog.upstream_profile(),
            credential_token=credential.token,
            request_id=str(uuid.uuid4()),
        )
        response = await client().open(
            "POST",
            f"{credential.base_url}/models/{quote(model_id, safe='')}/policy",
            headers=list(headers.items()),
            body=ENABLED,
            first_byte_timeout_s=TIMEOUT_S,
        )
        try:
            if response.status >= 300:
                body = await response.read_error()
                raise await _refused(account, response.status, body, response.headers)
        finally:
            await response.close()
        await catalog.fetch(account.id, credential)
    except AccountUnavailable as error:
        raise Unavailable(error.message, code=error.code) from error
    finally:
        await close_client()


async def _refused(
    account: AccountView, status: int, body: bytes, headers: dict[str, str]
) -> GatewayError:
    fault = read_failure(status, body, headers)
    if fault.kind == "abuse":
        await account_book.freeze(account.id, fault.message)
    if status == 403 and fault.kind != "abuse":
        return Forbidden(
            f"GitHub refuses: {fault.message} Where an organisation gives the seat, its owner "
            "enables models in the organisation's Copilot policies.",
            code="policy_managed",
        )
    return to_error(fault)
