"""The drift canary: free probes that notice when the upstream stops taking our versions.

Every half hour one account of each host asks for what costs nothing: the model list of the Copilot API,
the account document of GitHub. A refusal of our headers (466, or a 400, which a bodiless GET earns by
its headers only) is an alarm before people notice; any other failure says nothing about them.
Source: docs/upstream.md#api-version, #request-headers.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
from django.utils.timezone import now
from django.utils.translation import gettext as _

from accounts import book as account_book
from accounts import refusals
from accounts.book import AccountView
from accounts.database import in_database
from accounts.encryption import Undecryptable
from accounts.errors import AccountUnavailable, GitHubRefused
from accounts.github import account_document
from accounts.models import Account
from accounts.tokens import credential as credential_for
from proxy import catalog
from proxy.errors import GatewayError
from proxy.models import UpstreamProbe
from proxy.upstream.client import client, close_client
from proxy.upstream.endpoints import MODELS
from proxy.upstream.failures import presentable, read_failure
from proxy.upstream.headers import Profile, models_headers
from usage import notices
from usage.bounds import storable

State = UpstreamProbe.State
MAX_HOSTS: Final = 20
# Between two hosts: nothing here is urgent.
PAUSE_S: Final = 1.0
TIMEOUT_S: Final = 30.0
FORGOTTEN_AFTER: Final = timedelta(days=7)
ALARMING: Final = (State.REFUSED, State.OUTDATED)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one answer says of our headers. `header` and `sent` are the refused one and its value."""

    state: str
    status: int = 0
    header: str = ""
    sent: str = ""
    message: str = ""


def run() -> dict[str, int]:
    """Probe every host once; how many took our versions. From synchronous code, in a worker."""
    account_book.snapshot.refresh()
    accounts = [a for a in account_book.all_accounts().values() if a.is_available]
    found = asyncio.run(_probe_all(accounts))
    UpstreamProbe.objects.filter(at__lt=now() - FORGOTTEN_AFTER).delete()
    return {
        "accepted": sum(f.state == State.OK for f in found),
        "refused": sum(f.state in ALARMING for f in found),
        "unclear": sum(f.state == State.UNCLEAR for f in found),
    }


async def _probe_all(accounts: list[AccountView]) -> list[Finding]:
    bases = {account.id: await _base_of(account) for account in accounts}
    reached = [account for account in accounts if bases[account.id]]
    probes: list[tuple[str, str, Callable[[AccountView], Any], AccountView]] = [
        (host, "models", _probe_models, one)
        for host, one in one_of_each(reached, lambda a: bases[a.id])
    ]
    # An App's installation has no account document.
    persons = [a for a in accounts if a.kind != Account.CredentialKind.INSTALLATION]
    probes += [
        (host, "account", _probe_account, one)
        for host, one in one_of_each(persons, lambda a: a.host)
    ]
    found = []
    try:
        for number, (host, kind, probe, account) in enumerate(probes[:MAX_HOSTS]):
            if number:
                await asyncio.sleep(PAUSE_S)
            finding = await probe(account)
            await in_database(keep, host, kind, finding)
            found.append(finding)
    finally:
        await close_client()
    return found


def one_of_each(
    accounts: Iterable[AccountView], host_of: Callable[[AccountView], str]
) -> list[tuple[str, AccountView]]:
    """A host and one of its accounts, another one each hour: none is asked more than the rest."""
    by_host: dict[str, list[AccountView]] = {}
    for account in accounts:
        by_host.setdefault(host_of(account), []).append(account)
    turn = int(now().timestamp() // 3600)
    return [
        (host, sorted(there, key=lambda a: a.id)[turn % len(there)])
        for host, there in sorted(by_host.items())
    ]


async def _base_of(account: AccountView) -> str:
    """The Copilot API's host of an account; empty without a token, which is another line's matter."""
    base = account.api_base
    if not base:
        with contextlib.suppress(AccountUnavailable):
            base = (await credential_for(account.id)).base_url
    return urlsplit(base).netloc


async def _probe_models(account: AccountView) -> Finding:
    profile = catalog.upstream_profile()
    try:
        credential = await credential_for(account.id)
        headers = models_headers(
            profile, credential_token=credential.token, request_id=str(uuid.uuid4())
        )
        response = await client().open(
            "GET",
            credential.base_url + MODELS.path,
            headers=list(headers.items()),
            first_byte_timeout_s=TIMEOUT_S,
        )
        try:
            is_ok = response.status == 200
            body = await (response.read() if is_ok else response.read_error())
        finally:
            await response.close()
    except (AccountUnavailable, GatewayError) as error:
        return Finding(State.UNCLEAR, message=error.message)
    return judge(response.status, body, profile, is_token_billed=account.token_based_billing)


def judge(status: int, body: bytes, profile: Profile, *, is_token_billed: bool) -> Finding:
    """What the answer to `GET /models` says of our headers."""
    if status == 200:
        return _judge_list(body, profile, is_token_billed=is_token_billed)
    text = read_failure(status, body, {}).message
    if status not in (400, 466):
        return Finding(State.UNCLEAR, status, message=text)
    # Without a name a 466 is about the editor. Source: docs/upstream.md#request-headers.
    header = refusals.refused_header(text) or ("Editor-Version" if status == 466 else "")
    return Finding(State.REFUSED, status, header, sent_in(header, profile), text)


def _judge_list(body: bytes, profile: Profile, *, is_token_billed: bool) -> Finding:
    """A list that hides its prices and asks for an update is what an old API version gets."""
    try:
        entries = [e for e in orjson.loads(body)["data"] if isinstance(e, dict)]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return Finding(State.UNCLEAR, 200, message="The model list cannot be read.")
    told = next(
        (w for e in entries if "update" in (w := str(e.get("warning_message"))).lower()), ""
    )
    is_priced = any(_has_price(entry) for entry in entries)
    if told and is_token_billed and not is_priced:
        header = "X-GitHub-Api-Version"
        return Finding(State.OUTDATED, 200, header, sent_in(header, profile), presentable(told))
    return Finding(State.OK, 200)


def _has_price(entry: dict[str, Any]) -> bool:
    billing = entry.get("billing")
    return isinstance(billing, dict) and isinstance(billing.get("token_prices"), dict)


async def _probe_account(account: AccountView) -> Finding:
    def token() -> str:
        return str(Account.objects.get(pk=account.id).github_token.reveal())

    try:
        await account_document(await in_database(token), host=account.host)
    except GitHubRefused as error:
        if error.reason != refusals.CLIENT_REFUSED:
            return Finding(State.UNCLEAR, error.status, message=error.message)
        profile = catalog.upstream_profile()
        header = refusals.refused_header(error.message) or "Editor-Version"
        sent = sent_in(header, profile, is_rest=True)
        return Finding(State.REFUSED, error.status, header, sent, error.message)
    except (Undecryptable, Account.DoesNotExist) as error:
        return Finding(State.UNCLEAR, message=str(error))
    return Finding(State.OK, 200)


def sent_in(header: str, profile: Profile, *, is_rest: bool = False) -> str:
    """What the profile has for a header."""
    return {
        "X-GitHub-Api-Version": profile.rest_api_version if is_rest else profile.api_version,
        "Copilot-Integration-Id": profile.integration_id,
        "Editor-Version": profile.editor_version,
        "Editor-Plugin-Version": profile.plugin_version,
        "User-Agent": profile.user_agent,
    }.get(header, "")


def keep(host: str, kind: str, finding: Finding) -> None:
    """Store what was found; a refusal is told to the administrators once a day."""
    at = now()
    known = UpstreamProbe.objects.filter(host=host, kind=kind).first()
    is_same = known is not None and known.state == finding.state
    probe, _created = UpstreamProbe.objects.update_or_create(
        host=storable(host, 255),
        kind=kind,
        defaults={
            "state": finding.state,
            "status": finding.status,
            "header": finding.header,
            "sent": storable(finding.sent, 200),
            "message": storable(finding.message, 300),
            "at": at,
            "since": known.since if known is not None and is_same else at,
        },
    )
    if finding.state in ALARMING:
        notices.note(
            "drift",
            _("%(host)s refuses how the gateway presents itself") % {"host": host},
            f"{sentence(probe)}\n{advice(probe)}",
            dedupe=f"drift:{host}:{kind}:{finding.header}:{finding.sent}:{at:%Y-%m-%d}",
            detail={"url": "/dashboard/health/", "header": finding.header, "sent": finding.sent},
        )


# Words.


def sentence(probe: UpstreamProbe) -> str:
    """What was heard, in one line."""
    words = {"header": probe.header, "sent": probe.sent, "message": probe.message}
    if probe.state == State.OK:
        return _("our versions and headers are taken")
    if probe.state == State.UNCLEAR:
        return _("no answer to judge by: %(message)s") % words
    if not probe.header:
        return probe.message
    return _("%(header)s: %(sent)s is refused: %(message)s") % words


def advice(probe: UpstreamProbe) -> str:
    """What an administrator does about it."""
    field = {
        "X-GitHub-Api-Version": _("API version")
        if probe.kind == "models"
        else _("REST API version"),
        "Copilot-Integration-Id": _("Integration id"),
        "Editor-Version": _("Editor version"),
        "Editor-Plugin-Version": _("Plugin version"),
        "User-Agent": _("User agent"),
    }.get(probe.header)
    if field is None:
        return _(
            "In the admin, under Upstream profiles, compare the active profile with what a current "
            "editor sends. A change counts within a second, without a restart."
        )
    return _(
        "In the admin, under Upstream profiles, raise “%(field)s” of the active profile to what a "
        "current editor sends. It counts within a second, without a restart."
    ) % {"field": field}
