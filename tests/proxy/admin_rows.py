"""One row of every model of the admin, by number, each with a secret that no page may show."""

import hashlib
import uuid
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from django.apps import apps
from django.db import models
from django.utils.timezone import now

from accounts import models as accounts
from accounts.encryption import EncryptedTextField, Secret, encrypt
from proxy import models as proxy
from usage import models as usage

# In clear nowhere but here; every encrypted column of every row holds it.
MARK = "top-secret-value"
# What an identity provider said of a person: no secret, and nobody else's business.
CLAIM = "claim-of-the-provider"


def _member(n: int) -> accounts.Member:
    name = f"member{n}"
    found = accounts.Member.objects.filter(username=name).first()
    return found or accounts.Member.objects.create_user(name, f"{name}@example.org", f"{MARK}-pw")


def _digest(n: int, of: str) -> bytes:
    return hashlib.sha256(f"{MARK} {of} {n}".encode()).digest()


def _team(n: int) -> accounts.Team:
    team, _ = accounts.Team.objects.get_or_create(name=f"team {n}")
    return team


def _app(n: int) -> accounts.GitHubApp:
    values = {"issuer": f"Iv1.{n}", "private_key": Secret.of(f"{MARK} key {n}")}
    return accounts.GitHubApp.objects.get_or_create(name=f"app {n}", defaults=values)[0]


def _pool(n: int) -> accounts.Pool:
    return accounts.Pool.objects.get_or_create(name=f"pool {n}")[0]


def _account(n: int) -> accounts.Account:
    found = accounts.Account.objects.filter(login=f"octo{n}").first()
    if found is not None:
        return found  # type: ignore[no-any-return]
    return accounts.Account.objects.create(  # type: ignore[no-any-return]
        login=f"octo{n}",
        owner=_member(n) if n % 2 else None,
        pool=None if n % 2 else _pool(n),
        github_token=Secret.of(f"ghu_{MARK}{n}"),
        copilot_token=Secret.of(f"tid={MARK}{n}"),
        quota={"quota_snapshots": {"premium_interactions": {"entitlement": 300, "remaining": 75,
                                                            "quota_remaining": 75}}},
        quota_polled_at=now(),
        token_fetched_at=now(),
        token_lifetime_s=1500,
    )  # fmt: skip


def _key(n: int) -> accounts.ApiKey:
    found = accounts.ApiKey.objects.filter(prefix=f"cgw_{n:08d}").first()
    return found or accounts.ApiKey.objects.create(  # type: ignore[no-any-return]
        name=f"laptop {n}",
        prefix=f"cgw_{n:08d}",
        digest=_digest(n, "key"),
        owner=_member(n),
        account=_account(n) if n % 2 else None,
        budget_day_nano_aiu=5_000_000_000,
    )


def _channel(n: int) -> usage.Channel:
    return usage.Channel.objects.create(
        name=f"channel {n}",
        kind="webhook",
        member=_member(n),
        address=Secret.of(f"https://hooks.example/{MARK}/{n}"),
        secret=Secret.of(f"cgwh_{MARK}{n}"),
    )


def _notification(n: int) -> usage.Notification:
    return usage.Notification.objects.create(
        dedupe=f"d{uuid.uuid4()}", event="budget", title=f"{n}"
    )


def _closing(n: int) -> usage.ClosedMonth:
    month = date(2020 + n // 12, n % 12 + 1, 1)
    values = {"closed_by": "ada", "digest": "0" * 64}
    return usage.ClosedMonth.objects.get_or_create(month=month, defaults=values)[0]


def _profile(n: int) -> accounts.UpstreamProfile:
    return accounts.UpstreamProfile.objects.create(  # type: ignore[no-any-return]
        name=f"profile {n}", valid_from=date(2026, 1, 1), accepted_betas=[]
    )


def _login(n: int) -> accounts.DeviceLogin:
    return accounts.DeviceLogin.objects.create(
        id=uuid.uuid4(),
        user_code=f"WDJB-{n:04d}",
        device_code=Secret.of(f"{MARK} device {n}"),
        expires_at=now(),
        account=_account(n),
        started_by=_member(n),
    )


MAKERS: dict[type[models.Model], Callable[[int], Any]] = {
    accounts.Member: _member,
    accounts.Team: _team,
    accounts.Pool: _pool,
    accounts.GitHubApp: _app,
    accounts.Account: _account,
    accounts.ApiKey: _key,
    accounts.DeviceLogin: _login,
    accounts.UpstreamProfile: _profile,
    accounts.Notice: lambda n: accounts.Notice.objects.create(text=f"Be kind {n}."),
    accounts.Invite: lambda n: accounts.Invite.objects.create(
        digest=_digest(n, "invite"), email=f"p{n}@example.org", team=_team(n),
        invited_by=_member(n), expires_at=now() + timedelta(days=1),
    ),
    accounts.GroupMapping: lambda n: accounts.GroupMapping.objects.create(
        group=f"group {n}", team=_team(n)
    ),
    accounts.SignInLink: lambda n: accounts.SignInLink.objects.create(
        digest=_digest(n, "link"), member=_member(n), expires_at=now()
    ),
    accounts.BudgetRaise: lambda n: accounts.BudgetRaise.objects.create(
        member=_member(n), period="day", extra_nano_aiu=10**9, reason="sprint",
        granted_by="ada", ends_at=now() + timedelta(days=1),
    ),
    accounts.AuditEntry: lambda n: accounts.AuditEntry.objects.create(
        actor="ada", action="key.revoked", target=f"laptop {n}", detail={"n": n}
    ),
    SocialAccount: lambda n: SocialAccount.objects.create(
        user=_member(n), provider="github", uid=str(n), extra_data={"claim": f"{CLAIM} {n}"}
    ),
    Authenticator: lambda n: Authenticator.objects.create(
        user=_member(n), type="totp", data={"secret": encrypt(f"{MARK}{n}")}
    ),
    usage.UsageRecord: lambda n: usage.UsageRecord.objects.create(
        id=f"{uuid.uuid4().hex}", started_at=now(), outcome="completed", source="messages",
        account_id=_account(n).pk, member=f"member{n}", nano_aiu=10**9,
    ),
    usage.Tally: lambda n: usage.Tally.objects.create(
        span="day", kind="model", begin=now() - timedelta(days=n), name=f"model-{n}"
    ),
    usage.Rollup: lambda n: usage.Rollup.objects.create(
        hour=now().replace(minute=0, second=0, microsecond=0), key_id=n, outcome="completed"
    ),
    usage.QuotaSnapshot: lambda n: usage.QuotaSnapshot.objects.create(
        account_id=_account(n).pk, quota_id="premium_interactions", remaining=75
    ),
    usage.Reconciliation: lambda n: usage.Reconciliation.objects.create(
        account_id=n, account=f"octo{n}", day=date(2026, 11, 1), quota_id="premium_interactions",
        since=now(), until=now(),
    ),
    usage.ClosedMonth: _closing,
    usage.ClosedLine: lambda n: usage.ClosedLine.objects.create(closing=_closing(n), team="a"),
    usage.Price: lambda n: usage.Price.objects.create(
        model=f"gpt-{n}", valid_from=date(2026, 1, 1), input_nano_aiu=1, output_nano_aiu=2
    ),
    usage.TaskRun: lambda n: usage.TaskRun.objects.create(name="usage.tasks.poll_quotas"),
    usage.Channel: _channel,
    usage.Notification: _notification,
    usage.Delivery: lambda n: usage.Delivery.objects.create(
        notification=_notification(n), channel=_channel(n)
    ),
    usage.StoredBody: lambda n: usage.StoredBody.objects.create(
        exchange_id=uuid.uuid4().hex, request=Secret.of(f"{MARK} prompt {n}"),
        response=Secret.of(f"{MARK} answer {n}"), expires_at=now() + timedelta(days=1),
    ),
    usage.Removal: lambda n: usage.Removal.objects.create(kind="records", actor="retention"),
    proxy.ModelAlias: lambda n: proxy.ModelAlias.objects.create(pattern=f"alias{n}", model="gpt"),
    proxy.Catalog: lambda n: proxy.Catalog.objects.create(
        account=_account(n), entries=[{"id": f"gpt-{n}"}], fetched_at=now()
    ),
    proxy.ModelPolicy: lambda n: proxy.ModelPolicy.objects.create(model=f"gpt-{n}*"),
    proxy.CatalogChange: lambda n: proxy.CatalogChange.objects.create(
        account=_account(n), kind="added", model=f"gpt-{n}"
    ),
    proxy.UpstreamProbe: lambda n: proxy.UpstreamProbe.objects.create(
        host=f"api{n}.example", kind="models", state="ok"
    ),
    proxy.ConversationSeat: lambda n: proxy.ConversationSeat.objects.create(
        conversation=uuid.uuid4().hex, account_id=n
    ),
    proxy.ApprovalRule: lambda n: proxy.ApprovalRule.objects.create(
        name=f"rule {n}", team=_team(n), key=_key(n)
    ),
    proxy.Approval: lambda n: proxy.Approval.objects.create(
        id=uuid.uuid4().hex, expires_at=now(), member=f"member{n}"
    ),
}  # fmt: skip


def secrets() -> list[str]:
    """What no page may say: secrets in clear, as ciphertext, as hash."""
    found = [MARK, CLAIM]
    for model in apps.get_models():
        for field in model._meta.concrete_fields:
            sealed = isinstance(field, EncryptedTextField)
            is_hash = isinstance(field, models.BinaryField) or field.name == "password"
            if not sealed and not is_hash:
                continue
            for value in model._default_manager.values_list(field.name, flat=True):
                if sealed and value:
                    found.append(value.ciphertext)
                elif isinstance(value, bytes | memoryview):
                    found.append(bytes(value).hex())
                elif is_hash and len(value) > 20:
                    found.append(value.rpartition("$")[2])
    found += [row.data["secret"] for row in Authenticator.objects.filter(type="totp")]
    return found
