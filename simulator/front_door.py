"""The front door of the Copilot API: who asks, at which host, with which client.

Source: docs/upstream.md (token kinds, hosts, request headers).
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from simulator.refusals import CATALOGUE, Refusal, text
from simulator.script import Call
from simulator.state import Account, State

INTEGRATIONS = frozenset(
    {
        "vscode-chat",
        "vscode-nes",
        "copilot-developer-cli",
        "copilot-developer-sdk",
        "copilot-language-server",
        "jetbrains-chat",
        "xcode-chat",
        "copilot-chat",
    }
)
_VERSION = re.compile(r"^(?P<client>[a-z-]+)/(?P<version>\d+(?:\.\d+)*)", re.IGNORECASE)


def identify(state: State, authorization: str) -> tuple[Account | None, bool, Refusal | None]:
    """Return the account behind an Authorization header, whether it is direct, and what is wrong.

    The account is given for expired or forbidden credentials too: the journal wants to know.
    """
    bearer = authorization.partition(" ")[2].strip()
    if not bearer:
        return None, False, text(401, "unauthorized: missing Authorization header\n")
    token = state.copilot_tokens.get(bearer)
    if token is not None:
        account = state.accounts.get(token.login)
        if account is None:
            # Tokens may outlive a reset, accounts that were added do not.
            return None, False, CATALOGUE["unauthorized_text"]
        expired = token.revoked or token.expires_at <= state.now()
        return account, False, CATALOGUE["token_expired"] if expired else None
    github = state.github_token(bearer)
    if github is None:
        return None, False, CATALOGUE["unauthorized_text"]
    account = state.account(github.login)
    if github.revoked or account.refusal == "revoked":
        return account, True, CATALOGUE["unauthorized_text"]
    if github.kind == "ghp":
        message = "bad request: Personal Access Tokens are not supported for this endpoint\n"
        return account, True, text(400, message)
    if not github.may_request_copilot:
        message = (
            "unauthorized: Personal Access Token does not have Copilot Requests permission\n"
            if github.kind == "github_pat_"
            else "unauthorized: token is not authorized for Copilot\n"
        )
        return account, True, text(401, message)
    if account.refusal is not None:
        return account, True, CATALOGUE["forbidden"]
    return account, True, None


def admit(call: Call, problem: Refusal | None) -> None:
    """Raise Refusal unless the credential, the host and the client's headers are in order."""
    if problem is not None:
        raise problem
    account = call.known_account
    if not lives_here(call.state, account, call.header("host")):
        raise CATALOGUE["misdirected"]
    _check_client(call)
    if call.request.method == "POST" and call.header("copilot-vision-request") != "true":
        _check_images(call)


def lives_here(state: State, account: Account, host: str) -> bool:
    """Tell whether the account is served at this host name.

    An account without a host of its own is served everywhere but at other accounts' hosts.
    """
    if account.host is not None:
        return urlsplit(account.host).netloc == host
    return all(
        other.host is None or urlsplit(other.host).netloc != host
        for other in state.accounts.values()
    )


def _check_client(call: Call) -> None:
    integration = call.header("copilot-integration-id")
    if integration and integration not in INTEGRATIONS:
        raise text(400, f"bad request: unknown Copilot-Integration-Id {integration}\n")
    version = call.header("editor-version")
    if not version:
        if call.is_direct:
            return
        raise text(400, "bad request: missing Editor-Version header for IDE auth\n")
    match = _VERSION.match(version)
    config = call.state.config
    floors = {"vscode": config.min_vscode_version, "copilot": config.min_cli_version}
    floor = floors.get(match["client"].lower()) if match else None
    if match and floor and _numbers(match["version"]) < _numbers(floor):
        raise CATALOGUE["client_version"]


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _check_images(call: Call) -> None:
    if call.state.config.vision != "refuse" or b"image" not in call.request.body:
        return
    if _has_image(call.body):
        raise text(400, "bad request: missing required Copilot-Vision-Request header for vision\n")


def _has_image(value: Any, depth: int = 0) -> bool:
    if isinstance(value, list):
        return any(_has_image(item, depth + 1) for item in value)
    if not isinstance(value, dict) or depth > 12:
        return False
    if value.get("type") in ("image", "image_url", "input_image"):
        return True
    return any(
        _has_image(value[key], depth + 1)
        for key in ("messages", "input", "content", "output")
        if key in value
    )
