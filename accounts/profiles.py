"""The active upstream profile: how the gateway presents itself, held in memory.

An administrator changes the row in the admin; every process follows within a second.
"""

from dataclasses import dataclass
from datetime import date

from accounts.models import UpstreamProfile
from accounts.snapshots import Snapshot, revision_of


@dataclass(frozen=True, slots=True)
class Profile:
    """One dated set of identity values. Source: docs/upstream.md#request-headers.

    `api_version` goes to the Copilot API, `rest_api_version` to GitHub's REST API: each refuses
    the other's dates. `client_id` and `scope` are for the device flow.
    """

    name: str
    valid_from: date
    client_id: str
    scope: str
    api_version: str
    rest_api_version: str
    integration_id: str
    editor_version: str
    plugin_version: str
    user_agent: str
    accepted_betas: frozenset[str]


# The same values as the row of migration 0002: in use until the database was read once, and when
# an administrator has left no profile active.
SHIPPED = Profile(
    name="vscode-2026-10",
    valid_from=date(2026, 10, 6),
    client_id="Iv1.b507a08c87ecfe98",
    scope="read:user",
    api_version="2026-08-01",
    rest_api_version="2025-04-01",
    integration_id="vscode-chat",
    editor_version="vscode/1.140.0",
    plugin_version="copilot-chat/0.68.0",
    user_agent="GitHubCopilotChat/0.68.0",
    accepted_betas=frozenset(
        {
            "advanced-tool-use-2025-11-20",
            "claude-code-20250219",
            "context-management-2025-06-27",
            "effort-2025-11-24",
            "extended-cache-ttl-2025-04-11",
            "fine-grained-tool-streaming-2025-05-14",
            "interleaved-thinking-2025-05-14",
            "mid-conversation-system-2026-04-07",
            "oauth-2025-04-20",
            "prompt-caching-2024-07-31",
            "prompt-caching-scope-2026-01-05",
            "token-efficient-tools-2025-02-19",
            "tool-search-tool-2025-11-19",
        }
    ),
)


def _load() -> Profile:
    row = UpstreamProfile.objects.filter(is_active=True).first()
    return SHIPPED if row is None else profile_of(row)


def profile_of(row: UpstreamProfile) -> Profile:
    return Profile(
        name=row.name,
        valid_from=row.valid_from,
        client_id=row.client_id,
        scope=row.scope,
        api_version=row.api_version,
        rest_api_version=row.rest_api_version,
        integration_id=row.integration_id,
        editor_version=row.editor_version,
        plugin_version=row.plugin_version,
        user_agent=row.user_agent,
        accepted_betas=frozenset(str(beta) for beta in row.accepted_betas or ()),
    )


snapshot: Snapshot[Profile] = Snapshot(
    "upstream profile", revision_of(UpstreamProfile), _load, SHIPPED
)


def active_profile() -> Profile:
    return snapshot.value
