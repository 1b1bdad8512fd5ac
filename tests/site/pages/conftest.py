"""Three persons and what belongs to them: Ada (administrator), Ben (member), Cleo (no access)."""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.core.cache import cache
from django.test import Client
from django.utils.timezone import now

from accounts import invites, keys
from accounts.encryption import Secret
from accounts.models import (
    Account,
    ApiKey,
    BudgetRaise,
    DeviceLogin,
    GitHubApp,
    GroupMapping,
    Member,
    Pool,
    Team,
)
from proxy.models import ApprovalRule, Catalog, ModelAlias, ModelPolicy
from usage import closing, rollups
from usage.models import UsageRecord

PASSWORD = "correct horse battery staple"


@pytest.fixture(autouse=True)
def plain_pages(settings: Any, db: None, tmp_path: Path) -> None:
    """Static files by their own names, as no manifest is built for tests; an empty cache."""
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
    settings.STATIC_ROOT = tmp_path
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    cache.clear()


@pytest.fixture
def ada() -> Member:
    return Member.objects.create_superuser("ada", "ada@example.org", PASSWORD, first_name="Ada")


@pytest.fixture
def ben() -> Member:
    return Member.objects.create_user("ben", "ben@example.org", PASSWORD, first_name="Ben")


@pytest.fixture
def cleo() -> Member:
    return Member.objects.create_user("cleo", "cleo@example.org", PASSWORD, first_name="Cleo")


@pytest.fixture
def aud() -> Member:
    return Member.objects.create_user(
        "aud", "aud@example.org", PASSWORD, first_name="Aud", is_auditor=True, is_staff=True
    )


def signed_in(member: Member) -> Client:
    client = Client()
    client.force_login(member)
    return client


@pytest.fixture
def as_ada(ada: Member) -> Client:
    return signed_in(ada)


@pytest.fixture
def as_ben(ben: Member) -> Client:
    return signed_in(ben)


@pytest.fixture
def as_aud(aud: Member) -> Client:
    return signed_in(aud)


@pytest.fixture
def as_cleo(cleo: Member) -> Client:
    return signed_in(cleo)


def record(number: int, member: Member, key: ApiKey, **values: Any) -> UsageRecord:
    """One exchange of `member`, `number` minutes ago; it is in the rollups too."""
    at = now() - timedelta(minutes=number)
    known: dict[str, Any] = {
        "id": f"{number:024x}",
        "started_at": at,
        "finished_at": at + timedelta(seconds=2),
        "outcome": "completed",
        "status": 200,
        "upstream_status": 200,
        "source": "messages",
        "target": "messages",
        "path": "/v1/messages",
        "model_asked": "claude-sonnet-5",
        "model_used": "claude-sonnet-5",
        "client": "claude-cli/2.1.328",
        "member_id": member.pk,
        "member": member.username,
        "key_id": key.pk,
        "key": key.name,
        "account": "mona-dev",
        "conversation": f"conversation-of-{member.username}",
        "initiator": "agent",
        "initiator_rule": "last_item_tool",
        "attempts": [{"account": "mona-dev", "at_ms": 2, "status": 200}],
        "input_tokens": 30_700,
        "output_tokens": 1_100,
        "cache_read_tokens": 25_200,
        "nano_aiu": 4_120_000_000,
        "cost_source": "exact",
        "first_token_ms": 1_100,
        "total_ms": 2_000,
    }
    row = UsageRecord.objects.create(**(known | values))
    rollups.add([row])
    return row


class World:
    """Everything that pages can show: an account and a key of Ben's, exchanges, models."""

    def __init__(self, ada: Member, ben: Member) -> None:
        self.account = Account.objects.create(login="mona-dev", owner=ben)
        self.key, self.secret = keys.create("laptop", ben)
        self.ada_key, _secret = keys.create("ci", ada)
        self.exchange = record(5, ben, self.key)
        self.ada_exchange = record(6, ada, self.ada_key)
        self.pool = Pool.objects.create(name="engineering")
        self.app = GitHubApp.objects.create(name="Acme", issuer="Iv23acme")
        self.device = DeviceLogin.objects.create(
            id=UUID(int=7),
            user_code="WDJB-MJHT",
            device_code=Secret.of("device"),
            verification_uri="https://github.com/login/device",
            expires_at=now() + timedelta(minutes=10),
            next_poll_at=now() + timedelta(minutes=9),
            started_by=ben,
        )
        entry = {
            "id": "claude-sonnet-5",
            "name": "Claude Sonnet 5",
            "vendor": "Anthropic",
            "supported_endpoints": ["/v1/messages"],
            "billing": {
                "token_prices": {
                    "batch_size": 1_000_000,
                    "default": {"input_price": 200, "cache_read_price": 20, "output_price": 1000},
                }
            },
            "capabilities": {
                "type": "chat",
                "limits": {"max_context_window_tokens": 1_000_000, "max_output_tokens": 64_000},
            },
        }
        waiting = {"id": "grok-4.6", "policy": {"state": "disabled", "terms": "Terms of Grok."}}
        Catalog.objects.create(account=self.account, entries=[entry, waiting], fetched_at=now())
        self.alias = ModelAlias.objects.create(pattern="sonnet", model="claude-sonnet-5")
        self.policy = ModelPolicy.objects.create(model="gpt-5*", fallback="claude-sonnet-5")
        self.team = Team.objects.create(name="Core", cost_centre="4711")
        self.closing = closing.close(date(2026, 9, 1), ada)
        self.invite, self.invite_token = invites.make(actor=ada, email="new@example.org")
        self.mapping = GroupMapping.objects.create(group="engineers", team=self.team)
        self.rule = ApprovalRule.objects.create(name="dear ones", above_nano_aiu=10**12)
        self.raised = BudgetRaise.objects.create(
            member=ben,
            period="day",
            extra_nano_aiu=5_000_000_000,
            reason="release week",
            granted_by="ada",
            ends_at=now() + timedelta(days=2),
        )


@pytest.fixture
def world(ada: Member, ben: Member) -> World:
    return World(ada, ben)


@pytest.fixture
def make_record() -> Callable[..., UsageRecord]:
    return record
