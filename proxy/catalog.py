"""The models of each account: what they are called, what they can, where they are reached.

Read from memory on a request's way; refreshed every ten minutes by Celery and lazily when an account
has none yet. A refresh that fails keeps the list. Source: docs/upstream.md#models.
"""

import asyncio
import difflib
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson
from django.db import transaction
from django.utils.timezone import now

from accounts.database import in_database
from accounts.errors import AccountUnavailable
from accounts.models import Account
from accounts.profiles import active_profile
from accounts.snapshots import Snapshot, revision_of
from accounts.tokens import Credential
from accounts.tokens import credential as credential_for
from proxy import catalog_history
from proxy.errors import GatewayError, InvalidRequest, NotFound, UpstreamFailed
from proxy.formats.canonical import ModelFacts
from proxy.models import Catalog, ModelAlias
from proxy.upstream.client import client
from proxy.upstream.endpoints import MODELS
from proxy.upstream.failures import read_failure, to_error
from proxy.upstream.headers import Profile, models_headers
from usage.pricing import Prices, listed_prices

REFRESH_EVERY = timedelta(minutes=10)
FETCH_TIMEOUT_S = 30.0
MAX_QUOTED = 80

_DATE = re.compile(r"-(?:20\d{6}|20\d\d-\d\d-\d\d)$")
_CLAUDE = re.compile(r"^claude-.*?(opus|sonnet|haiku|fable)|^(opus|sonnet|haiku|fable)$")
_VERSION = re.compile(r"(?<![a-z\d])(\d{1,2})(?:-(\d{1,2}))?(?![\d])")


@dataclass(frozen=True, slots=True)
class Entry:
    """One model as an account sees it. `raw` is Copilot's own entry."""

    id: str
    name: str
    vendor: str
    type: str
    endpoints: tuple[str, ...]
    facts: ModelFacts
    is_enabled: bool
    prices: Prices | None
    raw: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class AccountCatalog:
    """The model list of one account by id; `fetched_at` None when it was never read."""

    entries: dict[str, Entry]
    fetched_at: datetime | None


@dataclass(frozen=True, slots=True)
class Book:
    """Every account's catalog and the alias table: `(pattern, model)` pairs, exact ones first."""

    by_account: dict[int, AccountCatalog]
    aliases: tuple[tuple[str, str], ...]


def read_entry(raw: dict[str, Any]) -> Entry | None:
    """An entry of `GET /models`; None when it has no id. Missing parts stay unsaid."""
    model_id = raw.get("id")
    if not isinstance(model_id, str) or not model_id:
        return None
    capabilities = _object(raw.get("capabilities"))
    limits, supports = _object(capabilities.get("limits")), _object(capabilities.get("supports"))
    endpoints = raw.get("supported_endpoints")
    policy = raw.get("policy")
    vendor = str(raw.get("vendor") or "")
    media = _object(limits.get("vision")).get("supported_media_types")
    efforts = supports.get("reasoning_effort")
    return Entry(
        prices=listed_prices(raw),
        id=model_id,
        name=str(raw.get("name") or model_id),
        vendor=vendor,
        type=str(capabilities.get("type") or "chat"),
        endpoints=tuple(e for e in endpoints if isinstance(e, str))
        if isinstance(endpoints, list)
        else (),
        is_enabled=not isinstance(policy, dict) or policy.get("state") in (None, "enabled"),
        facts=ModelFacts(
            id=model_id,
            vendor=vendor,
            max_output_tokens=_count(limits.get("max_output_tokens")),
            max_non_streaming_output_tokens=_count(limits.get("max_non_streaming_output_tokens")),
            max_prompt_tokens=_count(limits.get("max_prompt_tokens")),
            efforts=tuple(e for e in efforts if isinstance(e, str))
            if isinstance(efforts, list)
            else (),
            adaptive_thinking=supports.get("adaptive_thinking") is True,
            min_thinking_budget=_count(supports.get("min_thinking_budget")),
            max_thinking_budget=_count(supports.get("max_thinking_budget")),
            vision=supports.get("vision") is not False,
            tool_calls=supports.get("tool_calls") is not False,
            structured_outputs=supports.get("structured_outputs") is not False,
            media_types=tuple(media) if isinstance(media, list) else (),
        ),
        raw=raw,
    )


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _load() -> Book:
    by_account: dict[int, AccountCatalog] = {}
    for row in Catalog.objects.all():
        entries: dict[str, Entry] = {}
        for raw in row.entries:
            entry = read_entry(raw) if isinstance(raw, dict) else None
            # Ids repeat in Copilot's own list: the first one counts.
            if entry is not None:
                entries.setdefault(entry.id, entry)
        by_account[row.account_id] = AccountCatalog(entries, row.fetched_at)
    aliases = ModelAlias.objects.filter(is_enabled=True).values_list("pattern", "model")
    ordered = sorted(aliases, key=lambda pair: (pair[0].endswith("*"), -len(pair[0])))
    return Book(by_account, tuple(ordered))


book: Snapshot[Book] = Snapshot("catalog", revision_of(Catalog, ModelAlias), _load, Book({}, ()))


def of_account(account_id: int) -> AccountCatalog:
    return book.value.by_account.get(account_id) or AccountCatalog({}, None)


def store(account_id: int, payload: bytes) -> None:
    """Keep what `GET /models` answered. Raises `UpstreamFailed` when it is no model list."""
    try:
        entries = orjson.loads(payload)["data"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        entries = None
    if not isinstance(entries, list) or not entries:
        raise UpstreamFailed("Copilot's model list cannot be read.")
    with transaction.atomic():
        # Locked, so that of two refreshes at once only one finds the change.
        row = Catalog.objects.select_for_update().filter(account_id=account_id).first()
        changes = [] if row is None else catalog_history.note(account_id, row.entries, entries)
        Catalog.objects.update_or_create(
            account_id=account_id, defaults={"entries": entries, "fetched_at": now(), "error": ""}
        )
    catalog_history.tell(changes)


def store_failure(account_id: int, message: str) -> None:
    """The list stays; only why it is not fresh is noted."""
    catalog, _ = Catalog.objects.get_or_create(account_id=account_id)
    catalog.error = message
    catalog.save(update_fields=["error", "updated_at"])


async def stored(account_id: int, payload: bytes) -> None:
    """`store` from the gateway's loop; memory is fresh when it returns."""

    def keep() -> None:
        store(account_id, payload)
        book.refresh(force=True)

    await in_database(keep)


_fetching: dict[int, asyncio.Task[None]] = {}


async def fetch_missing(account_id: int, credential: Credential) -> None:
    """Read a list that is not stored yet: one call however many requests wait for it."""
    task = _fetching.get(account_id)
    if task is None:
        task = _fetching[account_id] = asyncio.ensure_future(fetch(account_id, credential))
        task.add_done_callback(lambda _: _fetching.pop(account_id, None))
    await asyncio.shield(task)


async def fetch(account_id: int, credential: Credential) -> None:
    """Ask Copilot for the account's models and keep the answer. Raises `GatewayError`."""
    headers = models_headers(
        upstream_profile(), credential_token=credential.token, request_id=str(uuid.uuid4())
    )
    response = await client().open(
        "GET",
        credential.base_url + MODELS.path,
        headers=list(headers.items()),
        first_byte_timeout_s=FETCH_TIMEOUT_S,
    )
    try:
        if response.status != 200:
            raise to_error(
                read_failure(response.status, await response.read_error(), response.headers)
            )
        await stored(account_id, await response.read())
    finally:
        await response.close()


def upstream_profile() -> Profile:
    """The active upstream profile as the header functions take it."""
    active = active_profile()
    return Profile(
        name=active.name,
        valid_from=active.valid_from,
        api_version=active.api_version,
        rest_api_version=active.rest_api_version,
        integration_id=active.integration_id,
        editor_version=active.editor_version,
        plugin_version=active.plugin_version,
        user_agent=active.user_agent,
        accepted_betas=active.accepted_betas,
    )


async def refresh(account_id: int) -> None:
    """Celery's door: read one account's list again; a failure is noted and the list stays."""
    try:
        await fetch(account_id, await credential_for(account_id))
    except AccountUnavailable as error:
        await in_database(store_failure, account_id, error.message)
    except GatewayError as error:
        await in_database(store_failure, account_id, error.message)


def accounts_due() -> list[int]:
    """Accounts in service whose list is older than ten minutes."""
    due = now() - REFRESH_EVERY
    return list(
        Account.objects.filter(state=Account.State.ACTIVE)
        .exclude(catalog__fetched_at__gt=due)
        .values_list("id", flat=True)
    )


# Names.


def not_enabled(entry: Entry) -> NotFound:
    return NotFound(
        f"The model {entry.id!r} is not enabled for this account: its terms are not accepted. An "
        "administrator can do so on the gateway's Models page, or in GitHub's Copilot settings.",
        code="model_not_found",
        param="model",
    )


def find(name: str, entries: Mapping[str, Entry]) -> Entry | None:
    """The entry that a client means by `name`: an id, an alias, another spelling, a newer Claude."""
    return named(name, entries) or of_family(name, entries)


def named(name: str, entries: Mapping[str, Entry]) -> Entry | None:
    """The entry of that id, alias or spelling; no guess."""
    if name in entries:
        return entries[name]
    for pattern, model in book.value.aliases:
        if _is_called(name, pattern) and model in entries:
            return entries[model]
    plain = _plain(name)
    same = [e for e in entries.values() if _plain(e.id) == plain]
    # Of several dated versions the newest.
    return max(same, key=lambda e: e.id, default=None)


def alias_target(name: str) -> str:
    """The id that an alias gives a name, whether or not there is such a model; else empty."""
    return next((model for pattern, model in book.value.aliases if _is_called(name, pattern)), "")


def _is_called(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def _plain(name: str) -> str:
    """`anthropic/Claude-Opus-4.7-20260101[1m]` and `claude-opus-4-7` are one spelling."""
    name = name.strip().lower().rpartition("/")[2].removesuffix("[1m]").removesuffix("-latest")
    return _DATE.sub("", name).replace(".", "-")


def of_family(name: str, entries: Mapping[str, Entry]) -> Entry | None:
    """The nearest version of the same Claude class: the highest not above, else the lowest."""
    plain = _plain(name)
    match = _CLAUDE.search(plain)
    if match is None:
        return None
    wanted = match[1] or match[2]
    versions = sorted(
        (_version(_plain(e.id)), e.id)
        for e in entries.values()
        if e.is_enabled and re.fullmatch(rf"claude-{wanted}(?:-\d+)*", _plain(e.id))
    )
    if not versions:
        return None
    asked = _version(plain)
    not_above = [v for v in versions if not asked or v[0] <= asked]
    return entries[(not_above[-1] if not_above else versions[0])[1]]


def _version(plain: str) -> tuple[int, ...]:
    match = _VERSION.search(plain)
    return tuple(int(g) for g in match.groups() if g) if match else ()


def unknown(name: str, entries: Mapping[str, Entry]) -> NotFound:
    usable = [e.id for e in entries.values() if e.is_enabled and e.type == "chat"]
    near = difflib.get_close_matches(name[:MAX_QUOTED], usable, n=3, cutoff=0.4)
    hint = f" Did you mean {', '.join(near)}?" if near else " GET /v1/models lists what there is."
    return NotFound(
        f"The model {name[:MAX_QUOTED]!r} does not exist here.{hint}",
        code="model_not_found",
        param="model",
    )


def check_name(name: object) -> str:
    """The model's name as a body gives it. Raises `InvalidRequest`."""
    if not isinstance(name, str) or not name.strip():
        raise InvalidRequest("model: a non-empty string is required.", param="model")
    return name


def listed(entries: Iterable[Entry]) -> list[Entry]:
    """What is worth listing: enabled, of a kind that the API serves."""
    return [e for e in entries if e.is_enabled and e.type in ("chat", "embeddings")]
