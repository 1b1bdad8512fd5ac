"""The shipped upstream profile. Source: docs/upstream.md#request-headers, #beta-headers."""

from datetime import date

from django.db import migrations

NAME = "vscode-2026-10"
VALUES = {
    "valid_from": date(2026, 10, 6),
    "client_id": "Iv1.b507a08c87ecfe98",
    "scope": "read:user",
    "api_version": "2026-08-01",
    "rest_api_version": "2025-04-01",
    "integration_id": "vscode-chat",
    "editor_version": "vscode/1.140.0",
    "plugin_version": "copilot-chat/0.68.0",
    "user_agent": "GitHubCopilotChat/0.68.0",
    "accepted_betas": [
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
    ],
    "note": (
        "Identity values of October 2026. The client id is the one that copilot-api, the project "
        "this gateway follows, signs in with: the Copilot editor plugin's public GitHub App, whose "
        "tokens can be exchanged. It is a setting: a team with an app of its own that GitHub has "
        "approved for Copilot enters its id here."
    ),
}


def add(apps, schema_editor):
    profiles = apps.get_model("accounts", "UpstreamProfile").objects
    is_active = not profiles.filter(is_active=True).exists()
    profiles.get_or_create(name=NAME, defaults={**VALUES, "is_active": is_active})


def remove(apps, schema_editor):
    apps.get_model("accounts", "UpstreamProfile").objects.filter(name=NAME).delete()


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial")]
    operations = [migrations.RunPython(add, remove)]
