"""What a request will probably take and cost, said before it is sent.

On a request's way nothing is tokenised and no text is read again: tokens come from the length of the
body, or from what the upstream counted for the request before in the same conversation. `learn` keeps
that, and how many bytes a token of each model has. Memory of this process, bounded; a new process
begins with the usual figures.
"""

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, Literal

from msgspec import Struct

from proxy import catalog
from proxy.catalog import Book, Entry
from usage import pricing
from usage.pricing import Prices

if TYPE_CHECKING:
    from proxy.exchange import Exchange

Method = Literal["bytes", "conversation", "counted"]
# Bytes of JSON to a token, by o200k_base over prose, code and tool lists (3.6 to 4.5); Claude's own
# tokenizer makes about 1.15 times as many.
BYTES_PER_TOKEN: Final = {"Anthropic": 3.5}
USUAL_BYTES_PER_TOKEN: Final = 4.0
MIN_BYTES_PER_TOKEN: Final = 1.0
MAX_BYTES_PER_TOKEN: Final = 12.0
# `{"model":"…","messages":[…]}`: what every body has beside its words.
ENVELOPE_BYTES: Final = 60
# Pictures count by rule, whatever their bytes; of a PDF's pages nobody knows the number.
TOKENS_PER_IMAGE: Final = 1_600
TOKENS_PER_PAGE: Final = 2_000
BASE64_PER_PAGE: Final = 60_000
# Shorter values under these names are ids and addresses.
MIN_BLOB_CHARS: Final = 256
BLOB_FIELDS: Final = frozenset({"data", "file_data", "url", "image_url"})
IMAGE_KINDS: Final = ("image", "image_url", "input_image", "computer_call_output")
MAX_LEVELS: Final = 12
# More bytes than this to a message are hardly words: look for files that no gist has told of.
MANY_BYTES_A_MESSAGE: Final = 32_768
USUAL_OUTPUT_TOKENS: Final = 400.0
# Of a new answer in the running means.
WEIGHT: Final = 0.1
CACHE_WEIGHT: Final = 0.3
# Anthropic's models cache what a client marks; the others what they have seen a moment ago.
CACHES_WHEN_ASKED: Final = frozenset({"Anthropic"})
USUAL_CACHED_SHARE: Final = 0.8
MIN_LEARNT_BYTES: Final = 2_000
# A prompt cache lives for five minutes and, where it is asked for, an hour.
CACHE_LIVES_S: Final = 600.0
MAX_CONVERSATIONS: Final = 20_000
MAX_NAMES: Final = 1_000
MAX_NAME_CHARS: Final = 200


class Estimate(Struct, kw_only=True):
    """Tokens and cost that are expected. `input_tokens` includes cache reads and writes.

    `nano_aiu` is 0 and `is_priced` False for a model without a price. `text_bytes` is the body
    without its files, which count `media_tokens`.
    """

    model: str
    method: Method
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    text_bytes: int = 0
    media_tokens: int = 0
    nano_aiu: int = 0
    is_priced: bool = False

    @property
    def credits(self) -> str:
        """AI credits as a decimal."""
        return f"{self.nano_aiu / pricing.NANO_PER_CREDIT:.6f}"


class Model(Struct, frozen=True):
    """What an estimate needs of a model: its entry, None when no catalog has it, and its prices."""

    id: str
    entry: Entry | None
    prices: Prices | None


class Before(Struct):
    """The last request of a conversation, as the upstream counted it.

    `is_marked` says that its client marks what is to be cached.
    """

    model: str
    at: float
    text_bytes: int
    media_tokens: int
    input_tokens: int
    cached_tokens: int
    is_marked: bool


class Habits(Struct):
    """Running means of one model in one client format.

    `cached_share` is how much of the request before was found in the cache, where nobody wrote
    there on purpose.
    """

    bytes_per_token: float
    cached_share: float
    output_tokens: float = USUAL_OUTPUT_TOKENS


class Memory:
    """What this process has seen. Used on the gateway's loop only."""

    def __init__(self) -> None:
        self._book: Book | None = None
        self._prices: pricing.Table | None = None
        self._models: dict[str, Model] = {}
        self._conversations: OrderedDict[str, Before] = OrderedDict()
        self._habits: dict[tuple[str, str], Habits] = {}

    def model(self, name: str) -> Model:
        """The model that a client means by `name`, in whichever catalog has it."""
        book, prices = catalog.book.value, pricing.stored.value
        if self._book is not book or self._prices is not prices or len(self._models) > MAX_NAMES:
            self._book, self._prices, self._models = book, prices, {}
        found = self._models.get(name)
        if found is None:
            if len(name) > MAX_NAME_CHARS:
                return Model(name[:MAX_NAME_CHARS], None, None)
            found = self._models[name] = _look_up(name, book)
        return found

    def before(self, conversation: str) -> Before | None:
        return self._conversations.get(conversation) if conversation else None

    def habits(self, model: Model, source: str) -> Habits:
        key = (model.id, source)
        found = self._habits.get(key)
        if found is None:
            if len(self._habits) > MAX_NAMES:
                self._habits.clear()
            vendor = "" if model.entry is None else model.entry.vendor
            found = Habits(
                BYTES_PER_TOKEN.get(vendor, USUAL_BYTES_PER_TOKEN),
                0.0 if vendor in CACHES_WHEN_ASKED else USUAL_CACHED_SHARE,
            )
            self._habits[key] = found
        return found

    def keep(self, conversation: str, before: Before) -> None:
        self._conversations[conversation] = before
        self._conversations.move_to_end(conversation)
        if len(self._conversations) > MAX_CONVERSATIONS:
            self._conversations.popitem(last=False)


memory = Memory()


def _look_up(name: str, book: Book) -> Model:
    for one in book.by_account.values():
        entry = catalog.find(name, one.entries)
        if entry is not None:
            return model_of(entry)
    return Model(name, None, pricing.table_prices(name))


def model_of(entry: Entry) -> Model:
    return Model(entry.id, entry, entry.prices or pricing.table_prices(entry.id))


def note(exchange: "Exchange", entry: Entry | None = None) -> None:
    """Estimate a request whose body is read, or again when it goes to another model than asked."""
    said = exchange.estimate
    if entry is not None and said is not None and said.model == entry.id:
        return
    model = memory.model(exchange.model if entry is None else entry.id)
    exchange.estimate = said = of_request(exchange, model)
    exchange.record.estimated_nano_aiu = said.nano_aiu


def of_request(
    exchange: "Exchange", model: Model, *, counted_tokens: int | None = None
) -> Estimate:
    """The estimate of a request for `model`; `counted_tokens` when somebody has counted its input."""
    gist = exchange.gist
    text_bytes = exchange.record.bytes_in
    media_tokens = 0
    if gist.has_images or text_bytes > MANY_BYTES_A_MESSAGE * (gist.messages + 1):
        blobs, media_tokens = media_in(exchange.body)
        text_bytes = max(0, text_bytes - blobs)
    habits = memory.habits(model, exchange.source)
    before = memory.before(exchange.conversation)
    if before is not None and before.model != model.id:
        before = None
    method: Method = "bytes"
    if counted_tokens is not None:
        method, tokens = "counted", counted_tokens
    elif before is not None and before.text_bytes:
        method = "conversation"
        tokens = _grown(before, text_bytes, media_tokens, habits)
    else:
        words = max(0, text_bytes - ENVELOPE_BYTES)
        tokens = int(words / habits.bytes_per_token) + media_tokens
    tokens = max(1, tokens)
    estimate = Estimate(
        model=model.id,
        method=method,
        input_tokens=tokens,
        output_tokens=_output(exchange, model, habits),
        text_bytes=text_bytes,
        media_tokens=media_tokens,
    )
    if before is not None and time.monotonic() - before.at < CACHE_LIVES_S:
        cached = (
            before.cached_tokens
            if before.is_marked
            else int(before.input_tokens * habits.cached_share)
        )
        read = estimate.cache_read_tokens = min(tokens, cached)
        estimate.cache_write_tokens = tokens - read if before.is_marked else 0
    if model.prices is not None:
        estimate.is_priced = True
        estimate.nano_aiu = pricing.cost(estimate, model.prices)
    return estimate


def _grown(before: Before, text_bytes: int, media_tokens: int, habits: Habits) -> int:
    """Input tokens from those of the request before: what came since, or went, by its length."""
    if text_bytes >= before.text_bytes:
        more = (text_bytes - before.text_bytes) / habits.bytes_per_token
        return before.input_tokens + int(more) + media_tokens - before.media_tokens
    # Compacted: as many tokens to the byte as there were.
    words = max(0, before.input_tokens - before.media_tokens)
    return int(words * text_bytes / before.text_bytes) + media_tokens


def _output(exchange: "Exchange", model: Model, habits: Habits) -> int:
    if exchange.source == "embeddings":
        return 0
    usual = int(habits.output_tokens)
    limit = exchange.gist.max_output_tokens
    return usual if limit is None or limit < 0 else min(usual, limit)


def longest_answer(exchange: "Exchange", model: Model) -> int:
    """The output tokens that the request allows: its own limit, within the model's."""
    if exchange.source == "embeddings":
        return 0
    limits = [exchange.gist.max_output_tokens]
    if model.entry is not None:
        limits.append(model.entry.facts.max_output_tokens)
    known = [limit for limit in limits if limit is not None and limit >= 0]
    return min(known) if known else int(4 * USUAL_OUTPUT_TOKENS)


def media_in(body: dict[str, Any]) -> tuple[int, int]:
    """Bytes of files in the conversation, as base64 or data URLs, and tokens that they count."""
    chars = tokens = 0
    waiting = [
        (inner, 0, False)
        for name in ("messages", "input", "contents", "system")
        if isinstance(inner := body.get(name), list | dict)
    ]
    while waiting:
        value, level, is_page = waiting.pop()
        if level > MAX_LEVELS:
            continue
        if isinstance(value, list):
            waiting += [(i, level + 1, is_page) for i in value if isinstance(i, dict | list)]
            continue
        kind = value.get("type")
        is_page = is_page or kind in ("document", "file", "input_file")
        if kind in IMAGE_KINDS or "inlineData" in value or "fileData" in value:
            tokens += TOKENS_PER_IMAGE
        for name, inner in value.items():
            if isinstance(inner, dict | list):
                waiting.append((inner, level + 1, is_page))
            elif name in BLOB_FIELDS and isinstance(inner, str) and _is_blob(name, inner):
                chars += len(inner)
                if is_page:
                    tokens += TOKENS_PER_PAGE * (1 + len(inner) // BASE64_PER_PAGE)
    return chars, tokens


def _is_blob(name: str, value: str) -> bool:
    if len(value) < MIN_BLOB_CHARS:
        return False
    # Plain text documents say their words under `data`: those have blanks soon, base64 has none.
    return value.startswith("data:") or (name.endswith("data") and " " not in value[:200])


def learn(exchange: "Exchange") -> None:
    """Keep what the upstream counted for a finished request."""
    record, said = exchange.record, exchange.estimate
    if said is None or record.usage_estimated or record.input_tokens <= 0:
        return
    if record.model_used and record.model_used != said.model:
        # A part of it that another model did, such as a search on the way.
        return
    model = memory.model(said.model)
    habits = memory.habits(model, exchange.source)
    words = said.text_bytes - ENVELOPE_BYTES
    if words > MIN_LEARNT_BYTES and not said.media_tokens:
        seen = min(MAX_BYTES_PER_TOKEN, max(MIN_BYTES_PER_TOKEN, words / record.input_tokens))
        habits.bytes_per_token += WEIGHT * (seen - habits.bytes_per_token)
    habits.output_tokens += WEIGHT * (record.output_tokens - habits.output_tokens)
    if exchange.conversation:
        read, written = record.cache_read_tokens, record.cache_write_tokens
        before = memory.before(exchange.conversation)
        if before is not None and before.model != said.model:
            before = None
        is_marked = written > 0 or (before is not None and before.is_marked and read > 0)
        if before is not None and not before.is_marked:
            share = min(1.0, read / before.input_tokens)
            habits.cached_share += CACHE_WEIGHT * (share - habits.cached_share)
        memory.keep(
            exchange.conversation,
            Before(
                said.model,
                time.monotonic(),
                said.text_bytes,
                said.media_tokens,
                record.input_tokens,
                read + written,
                is_marked,
            ),
        )
