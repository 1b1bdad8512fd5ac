"""The demo: two simulated accounts and an hour of plausible history, so that every page has something.

Runs against the bundled simulator only, in a data folder of its own; nothing here is real.
"""

import random
import uuid
from datetime import datetime, timedelta

from django.utils.timezone import now

from accounts import tokens
from accounts.database import in_database
from accounts.members import solo_member
from accounts.models import Account, Member
from proxy.routing import warm
from usage import pricing, quota
from usage.journal import Record
from usage.models import UsageRecord
from usage.recorder import recorder

# Tokens that the simulator knows; GitHub has never heard of them.
ACCOUNTS = (("ghu_octocat", "individual"), ("ghu_mona", "business"))
MODELS = (
    ("claude-sonnet-5", "messages", "claude-cli/2.1.328", "/v1/messages", 6),
    ("claude-opus-5", "messages", "claude-cli/2.1.328", "/v1/messages", 2),
    ("gpt-5.5", "responses", "codex_exec/0.169.0", "/v1/responses", 3),
    ("gpt-5-mini", "chat_completions", "OpenAI/Python", "/v1/chat/completions", 3),
    ("gemini-3.1-pro-preview", "chat_completions", "opencode/1.18.33", "/v1/chat/completions", 1),
)
REQUESTS = 140


async def fill() -> None:
    """Sign the two accounts in and write the history, once."""
    owner = await in_database(solo_member)
    for token, account_type in ACCOUNTS:
        account = await tokens.add_account(token, account_type=account_type, owner=owner)
        await warm(account.pk)
        await quota.poll_account(account)
    await in_database(_write_history, owner)


def _write_history(owner: Member) -> None:
    if UsageRecord.objects.exists():
        return
    accounts = list(Account.objects.all())
    # The same hour for everybody who looks: a demo, not a secret.
    chance = random.Random(20261120)  # noqa: S311
    until = now()
    for number in range(REQUESTS):
        at = until - timedelta(seconds=3600 * (1 - number / REQUESTS) + chance.uniform(5, 20))
        recorder.finish(_record(chance, at, chance.choice(accounts), owner))


def _record(chance: random.Random, at: datetime, account: Account, owner: Member) -> Record:
    weights = [weight for *_, weight in MODELS]
    model, source, client, path, _ = chance.choices(MODELS, weights)[0]
    fate = chance.random()
    outcome, status, code = "completed", 200, ""
    if fate > 0.97:
        outcome, status, code = "upstream_error", 429, "rate_limited"
    elif fate > 0.95:
        outcome, status, code = "cancelled", 200, ""
    read = chance.choice((0, 0, 18_000, 42_000, 61_000))
    fresh = chance.randrange(400, 9_000)
    first_ms = int(chance.lognormvariate(6.9, 0.5))
    record = Record(
        id=uuid.UUID(int=chance.getrandbits(128)).hex[:24],
        started_at=at,
        finished_at=at + timedelta(seconds=chance.uniform(2, 12)),
        outcome=outcome,
        status=status,
        upstream_status=status,
        error_code=code,
        error_message="Sorry, you have been rate limited." if code else "",
        stop_reason="" if code else chance.choice(("end_turn", "tool_use", "tool_use")),
        source=source,
        target=source,
        path=path,
        streamed=True,
        model_asked=model,
        model_used=model,
        client=client,
        member_id=owner.pk,
        member=owner.get_username(),
        account_id=account.pk,
        account=account.login,
        conversation=f"{chance.randrange(12):024x}",
        initiator=chance.choice(("user", "agent", "agent")),
        initiator_rule=chance.choice(("last_item_user", "last_item_tool")),
        input_tokens=0 if code else fresh + read,
        output_tokens=0 if code else chance.randrange(40, 2_400),
        cache_read_tokens=0 if code else read,
        first_token_ms=None if code else first_ms,
        total_ms=first_ms + chance.randrange(300, 9_000),
        upstream_ms=first_ms - 20,
        tools_sent=chance.randrange(0, 22),
        messages_sent=chance.randrange(1, 40),
        attempts=[{"account": account.login, "status": status}],
    )
    exact = pricing.estimate(model, record)
    pricing.apply_cost(record, None if code else exact)
    return record
