"""Who may call and with whose seat: members, GitHub accounts, API keys, sign-ins, the audit log."""

from accounts.models.audit import AuditEntry
from accounts.models.keys import ApiKey, BudgetRaise, Lane
from accounts.models.limits import Effort, Limited, ModelRules, TouchedQuerySet
from accounts.models.people import (
    GroupMapping,
    Invite,
    Member,
    Notice,
    Role,
    SignInLink,
    Team,
)
from accounts.models.seats import Account, DeviceLogin, GitHubApp, Pool, UpstreamProfile

__all__ = [
    "Account",
    "ApiKey",
    "AuditEntry",
    "BudgetRaise",
    "DeviceLogin",
    "Effort",
    "GitHubApp",
    "GroupMapping",
    "Invite",
    "Lane",
    "Limited",
    "Member",
    "ModelRules",
    "Notice",
    "Pool",
    "Role",
    "SignInLink",
    "Team",
    "TouchedQuerySet",
    "UpstreamProfile",
]
