"""Fill a data folder as a team leaves it after a year: keys, members, conversations, a million records.

    COPILOT_DATA_DIR=/tmp/full python -m benchmarks.fill [--records 1000000]

Records go in through the recorder's own statements, with their rollups; a million take some minutes.
"""

import argparse
import os
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

DAYS = 90
MODELS = ("gpt-5.4", "claude-opus-5", "claude-sonnet-5", "gemini-3-pro", "gpt-5-mini")
CLIENTS = ("claude-cli/2.1.328", "codex_cli_rs/0.140.0", "opencode/1.3.0", "curl/8.5.0")
OUTCOMES = ("completed",) * 18 + ("cancelled", "upstream_error")
BATCH = 2000


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.fill", description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=1000)
    parser.add_argument("--members", type=int, default=50)
    parser.add_argument("--conversations", type=int, default=10_000)
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "copilot_site.settings")
    import django

    django.setup()
    fill(**vars(options))


def fill(*, records: int, keys: int, members: int, conversations: int) -> None:
    """Add so many of each. Call it once on a fresh folder."""
    from django.core.management import call_command

    from usage import recorder

    call_command("migrate", interactive=False, verbosity=0)
    owners = _members(members)
    key_ids = _keys(keys, owners)
    _seats(conversations)
    began = time.monotonic()
    written = 0
    for batch in _batches(records, owners, key_ids, conversations):
        recorder._insert(batch, may_be_there=False)
        written += len(batch)
        if not written % 100_000:
            print(f"{written} records in {time.monotonic() - began:.0f} s", flush=True)


def _members(count: int) -> list[int]:
    from accounts.models import Member

    for number in range(count):
        Member.objects.get_or_create(username=f"member{number:02d}")
    return list(Member.objects.order_by("pk").values_list("pk", flat=True))


def _keys(count: int, owners: list[int]) -> list[int]:
    from accounts.keys import digest_of
    from accounts.models import ApiKey

    ApiKey.objects.bulk_create(
        ApiKey(
            name=f"key {number}",
            owner_id=owners[number % len(owners)],
            prefix=f"cgw_{number:08d}",
            digest=digest_of(f"cgw_{number}"),
        )
        for number in range(count)
    )
    return list(ApiKey.objects.order_by("pk").values_list("pk", flat=True))


def _seats(count: int) -> None:
    """Conversations that have an account, seen within the time that they are kept."""
    from proxy.models import ConversationSeat

    seen_at = datetime.now(UTC) - timedelta(days=1)
    ConversationSeat.objects.bulk_create(
        ConversationSeat(conversation=f"{number:024x}", account_id=1, seen_at=seen_at)
        for number in range(count)
    )


def _batches(
    count: int, owners: list[int], key_ids: list[int], conversations: int
) -> Iterator[list[Any]]:
    """Oldest first, as they come in life."""
    from usage.journal import Record

    dice = random.Random(7)
    until = datetime.now(UTC)
    step = timedelta(days=DAYS) / max(1, count)
    batch: list[Record] = []
    for number in range(count):
        at = until - step * (count - number)
        person = dice.randrange(len(owners))
        conversation = dice.randrange(conversations)
        tokens, total_ms = dice.randrange(500, 200_000), dice.randrange(300, 30_000)
        batch.append(
            Record(
                id=f"{int(at.timestamp() * 1000):011x}{dice.getrandbits(52):013x}",
                started_at=at,
                finished_at=at + timedelta(milliseconds=total_ms),
                outcome=dice.choice(OUTCOMES),
                status=200,
                upstream_status=200,
                source="messages",
                target="chat_completions",
                path="/v1/messages",
                streamed=True,
                model_asked="opus",
                model_used=dice.choice(MODELS),
                client=CLIENTS[person % len(CLIENTS)],
                member_id=owners[person],
                member=f"member{person:02d}",
                key_id=key_ids[(conversation * len(owners) + person) % len(key_ids)],
                key="a key",
                account_id=1 + person % 20,
                account=f"seat{person % 20}",
                conversation=f"{conversation:024x}",
                initiator="user",
                initiator_rule="last_item_user",
                attempts=[{"account": f"seat{person % 20}", "at_ms": 2, "status": 200}],
                input_tokens=tokens,
                output_tokens=tokens // 40,
                cache_read_tokens=tokens // 2,
                nano_aiu=tokens * 2000,
                cost_source="exact",
                upstream_ms=total_ms // 4,
                first_token_ms=total_ms // 4,
                total_ms=total_ms,
                bytes_in=tokens * 4,
                bytes_out=tokens // 10,
                messages_sent=dice.randrange(1, 80),
            )
        )
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


if __name__ == "__main__":
    main()
