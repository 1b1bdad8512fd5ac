"""What the simulator remembers: settings, accounts, tokens, models, plays and the ledger."""

from __future__ import annotations

import copy
import random
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field, fields
from typing import Any

from simulator.journal import Journal
from simulator.models_data import default_models

Json = dict[str, Any]

NANO_PER_CREDIT = 1_000_000_000

PLAN_NAMES = {
    "free": "free",
    "individual": "pro",
    "individual_pro": "pro_plus",
    "individual_max": "max",
    "individual_edu": "edu",
    "business": "business",
    "enterprise": "enterprise",
}
SKUS = {
    "free": "free_limited_copilot",
    "individual": "monthly_subscriber_quota",
    "individual_pro": "plus_monthly_subscriber_quota",
    "individual_max": "max_monthly_subscriber_quota",
    "individual_edu": "free_educational_quota",
    "business": "copilot_for_business_seat_quota",
    "enterprise": "copilot_enterprise_seat_quota",
}
CREDITS = {"individual": 1500, "individual_pro": 3900, "individual_max": 20000}


@dataclass(slots=True)
class Config:
    """Switches of the simulated upstream; `POST /_sim/config` changes them one by one."""

    # Identity. Times in seconds; a positive clock offset makes the upstream's clock run ahead.
    token_life_s: float = 1800
    refresh_in_s: float = 1500
    clock_offset_s: float = 0
    token_body: Json = field(default_factory=dict)
    token_body_drop: list[str] = field(default_factory=list)
    user_body: Json = field(default_factory=dict)
    user_body_drop: list[str] = field(default_factory=list)
    exchange_latency_s: float = 0
    device_interval_s: float = 5
    device_life_s: float = 899
    device_auto_approve_s: float | None = None
    device_auto_login: str = "octocat"
    installation_life_s: float = 3600
    # Front door.
    latency_ms: float = 0
    max_body_bytes: int = 64 * 1024 * 1024
    upload_timeout_s: float = 60
    idle_close_s: float | None = None
    vision: str = "refuse"
    min_vscode_version: str = "1.100.0"
    min_cli_version: str = "1.0.0"
    quota_lag_calls: int = 3
    # Generation.
    chunk_chars: int = 16
    claude_cache_needs_markers: bool = False
    check_signatures: bool = True
    messages_backend: str = "rotate"
    vertex_is_strict: bool = False
    gpt5_refuses_max_tokens: bool = False
    additional_tools: bool = False
    # The double itself.
    journal_requests: int = 5000

    def change(self, values: Json) -> None:
        """Set several switches; an unknown name raises KeyError before anything changes."""
        known = {item.name for item in fields(self)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise KeyError(", ".join(unknown))
        for name, value in values.items():
            setattr(self, name, value)


@dataclass(slots=True)
class Account:
    """A GitHub account with its seat.

    `refusal` is None or why the exchange refuses: a `notification_id` of the 403 envelope,
    `revoked` (401) or `hidden` (404). `host` is the base URL of its Copilot API, None for the
    simulator's own; `user_host` is what `/copilot_internal/user` names when that differs.
    `github_host` is the base URL of the tenant where it lives: elsewhere nobody knows its tokens.
    Amounts of TBB accounts are credits, `used_nano` is nano-AIU.
    """

    login: str
    id: int
    plan: str = "individual_pro"
    sku: str = ""
    host: str | None = None
    user_host: str | None = None
    github_host: str | None = None
    token_based_billing: bool = True
    entitlement: float = 3900
    overage_permitted: bool = False
    overage_entitlement: float = 0
    pooled: bool = False
    unlimited: bool = False
    entitlement_as_text: bool = False
    reset_at_unknown: bool = False
    credits_used_nano: int = 0
    premium_used: float = 0
    refusal: str | None = None
    organisation: str | None = None
    exchanges: int = 0
    user_polls: int = 0
    enabled_models: list[str] = field(default_factory=list)
    quota_lag: deque[float] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.sku = self.sku or SKUS.get(self.plan, f"{self.plan}_quota")

    @property
    def used(self) -> float:
        if self.token_based_billing:
            return self.credits_used_nano / NANO_PER_CREDIT
        return self.premium_used

    @property
    def remaining(self) -> float:
        return self.entitlement - self.used

    @property
    def is_exhausted(self) -> bool:
        if self.unlimited or self.pooled or self.overage_permitted:
            return False
        return self.remaining <= 0


@dataclass(slots=True)
class GitHubToken:
    """A long-lived credential; the prefix of `value` decides what it may do."""

    value: str
    login: str
    client_id: str | None = None
    may_request_copilot: bool = True
    revoked: bool = False
    expires_at: float | None = None

    @property
    def kind(self) -> str:
        return (
            "github_pat_" if self.value.startswith("github_pat_") else self.value.partition("_")[0]
        )


@dataclass(slots=True)
class CopilotToken:
    value: str
    login: str
    github_token: str
    expires_at: float
    revoked: bool = False


@dataclass(slots=True)
class DeviceCode:
    """One device flow; `answer` is `pending`, `approved` or `denied`."""

    device_code: str
    user_code: str
    client_id: str
    scope: str
    interval_s: float
    issued_at: float
    expires_at: float
    answer: str = "pending"
    login: str = ""
    polled_at: float | None = None


@dataclass(slots=True)
class Play:
    """A scenario asked for through the control endpoint. `times` None means until cleared."""

    scenario: str
    args: Json
    times: int | None = None
    path: str | None = None
    login: str | None = None
    model: str | None = None
    probability: float = 1.0


@dataclass(slots=True)
class Charge:
    """One line of the ledger; tokens by kind, `input` without cached tokens."""

    n: int
    login: str
    model: str
    path: str
    input: int
    cache_read: int
    cache_write: int
    output: int
    nano_aiu: int
    outcome: str
    initiator: str


def _default_accounts() -> list[Account]:
    return [
        Account("octocat", 583231),
        Account(
            "mona",
            583232,
            plan="business",
            entitlement=0,
            pooled=True,
            overage_permitted=True,
            organisation="acme",
            credits_used_nano=169_800_000_000,
        ),
        Account("opencode-dev", 583233),
        Account("pat-dev", 583234),
        Account("classic-dev", 583235, plan="individual"),
        Account("acme-bot", 583236, plan="enterprise", pooled=True, entitlement=0),
        Account("freda", 583237, plan="free", token_based_billing=False, entitlement=50),
        Account("noseat", 583238, plan="free", refusal="no_copilot_access"),
        Account("revoked", 583239, refusal="revoked"),
    ]


def _default_tokens() -> list[GitHubToken]:
    return [
        GitHubToken("ghu_octocat", "octocat"),
        GitHubToken("ghu_mona", "mona"),
        GitHubToken("gho_opencode", "opencode-dev", "Ov23li8tweQw6odWQebz"),
        GitHubToken("github_pat_ok", "pat-dev"),
        GitHubToken("github_pat_noperm", "pat-dev", may_request_copilot=False),
        GitHubToken("ghp_classic", "classic-dev"),
        GitHubToken("ghs_install", "acme-bot"),
        GitHubToken("ghu_free", "freda"),
        GitHubToken("ghu_noseat", "noseat"),
        GitHubToken("ghu_revoked", "revoked", revoked=True),
    ]


class State:
    """Everything that changes while the simulator runs; `reset` puts it back to the start."""

    def __init__(self, seed: int | None = None) -> None:
        self.seed = seed
        self.port = 0
        self.public_url: str | None = None
        self.initial_config: Json = {}
        self.journal = Journal()
        self.reset()

    def reset(self, *, keep_tokens: bool = False) -> None:
        """Put everything back to the start; `keep_tokens` leaves those who signed in signed in."""
        kept = dict(getattr(self, "copilot_tokens", {})) if keep_tokens else {}
        self.random = random.Random(self.seed)
        if not keep_tokens:
            self.secret = self.random.randbytes(32)
        self.config = Config()
        self.config.change(copy.deepcopy(self.initial_config))
        self.journal.clear()
        self.accounts = {account.login: account for account in _default_accounts()}
        self.github_tokens = {token.value: token for token in _default_tokens()}
        self.copilot_tokens: dict[str, CopilotToken] = kept
        self.device_codes: dict[str, DeviceCode] = {}
        # By issuer; see `simulator.installations`.
        self.apps: dict[str, Any] = {}
        self.models = default_models()
        self.index_models()
        self.plays: list[Play] = []
        self.directive_uses: dict[str, int] = {}
        self.ledger: deque[Charge] = deque(maxlen=20_000)
        self.totals: dict[tuple[str, str], Json] = {}
        self.charges = 0
        self.messages = 0
        self.prompt_cache: OrderedDict[bytes, int] = OrderedDict()

    def now(self) -> float:
        """Return the upstream's idea of the time, in unix seconds."""
        return time.time() + self.config.clock_offset_s

    def github_token(self, value: str) -> GitHubToken | None:
        """The token of that text, while it lasts."""
        token = self.github_tokens.get(value)
        if token is None or (token.expires_at is not None and token.expires_at <= self.now()):
            return None
        return token

    @property
    def base_url(self) -> str:
        return self.public_url or f"http://127.0.0.1:{self.port}"

    def copilot_url(self, account: Account) -> str:
        return account.host or self.base_url

    def index_models(self) -> None:
        self.models_by_id = {entry["id"]: entry for entry in reversed(self.models)}

    def add_model(self, entry: Json) -> None:
        """Add an entry, or replace the first one of the same id."""
        for number, known in enumerate(self.models):
            if known["id"] == entry["id"]:
                self.models[number] = entry
                break
        else:
            self.models.append(entry)
        self.index_models()

    def remove_model(self, model_id: str) -> None:
        self.models = [entry for entry in self.models if entry["id"] != model_id]
        self.index_models()

    def account(self, login: str) -> Account:
        """Return the account of that login, created as an ordinary Pro account if unknown."""
        if login not in self.accounts:
            self.accounts[login] = Account(login, 600_000 + len(self.accounts))
        return self.accounts[login]

    def add_account(self, values: Json) -> Account:
        """Create or change an account. `token` adds a GitHub token for it.

        Unknown names raise KeyError. `credits_used` may be given in credits.
        """
        values = dict(values)
        token = values.pop("token", None)
        login = str(values.pop("login", "") or "")
        if not login:
            raise KeyError("login is required")
        token_values = {
            name: values.pop(name)
            for name in ("client_id", "may_request_copilot", "revoked")
            if name in values
        }
        if "credits_used" in values:
            values["credits_used_nano"] = round(values.pop("credits_used") * NANO_PER_CREDIT)
        known = {item.name for item in fields(Account)} - {"login", "quota_lag"}
        unknown = sorted(set(values) - known)
        if unknown:
            raise KeyError(", ".join(unknown))
        if "plan" in values:
            values.setdefault("sku", SKUS.get(values["plan"], ""))
            values.setdefault("entitlement", CREDITS.get(values["plan"], 0))
            if values["plan"] in ("business", "enterprise"):
                values.setdefault("pooled", True)
        account = self.account(login)
        for name, value in values.items():
            setattr(account, name, value)
        if token is not None:
            self.github_tokens[token] = GitHubToken(token, login, **token_values)
        return account
