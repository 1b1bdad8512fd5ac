"""GitHub Apps: a signed proof for a token of an hour, billed to the organisation.

Source: docs/upstream.md (installation tokens).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any

import jwt
import orjson

from simulator import minting
from simulator.refusals import Refusal, rest
from simulator.script import Call
from simulator.state import GitHubToken, Json, State

PATH = re.compile(r"/app/installations/(?P<number>\d{1,18})/access_tokens")
LONGEST_S = 600
ASSERTION_S = 60


@dataclass(slots=True)
class Installation:
    """An App's place in one organisation. `login` is the account whose budget it uses."""

    login: str
    suspended: bool = False
    permissions: dict[str, str] = field(default_factory=lambda: {"copilot_requests": "write"})


@dataclass(slots=True)
class App:
    """A registered App: `issuer` is its client id or number, the key is the public half."""

    issuer: str
    public_key: str
    installations: dict[int, Installation] = field(default_factory=dict)
    tokens_given: int = 0


def register(state: State, document: Json) -> App:
    """`{"issuer", "public_key", "installations": {"42": {"login": ...}}}`; the newest counts."""
    installations = {
        int(number): Installation(**given)
        for number, given in dict(document.get("installations", {})).items()
    }
    app = App(str(document["issuer"]), str(document["public_key"]), installations)
    state.apps[app.issuer] = app
    return app


async def access_token(call: Call, number: int) -> None:
    """`POST /app/installations/<id>/access_tokens`."""
    state = call.state
    app = _proven(call)
    installation = app.installations.get(number)
    if installation is None:
        raise rest(404, "Not Found")
    call.received.login = installation.login
    if installation.suspended:
        raise rest(403, "This installation has been suspended")
    given: Any = call.body if isinstance(call.body, dict) else {}
    wanted = given.get("permissions") or installation.permissions
    if any(installation.permissions.get(name) != level for name, level in wanted.items()):
        raise rest(422, "The permissions requested are not granted to this installation.")
    app.tokens_given += 1
    ends_at = state.now() + state.config.installation_life_s
    token = GitHubToken(
        minting.short_id(state, "ghs_", 36),
        installation.login,
        may_request_copilot=wanted.get("copilot_requests") == "write",
        expires_at=ends_at,
    )
    state.github_tokens[token.value] = token
    document = {
        "token": token.value,
        "expires_at": datetime.fromtimestamp(ends_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "permissions": wanted,
        "repository_selection": "all",
    }
    headers = [
        ("content-type", "application/json; charset=utf-8"),
        ("date", formatdate(state.now(), usegmt=True)),
        ("x-github-request-id", minting.github_request_id(state)),
    ]
    await call.out.send(201, headers, orjson.dumps(document))


def _proven(call: Call) -> App:
    """The App that the proof in the header is of; raises GitHub's refusals."""
    state = call.state
    scheme, _, note = call.header("authorization").partition(" ")
    if not call.header("user-agent"):
        raise rest(403, "Request forbidden by administrative rules.")
    if scheme.lower() != "bearer" or not note:
        raise _unproven(state, "A JSON web token could not be decoded")
    try:
        issuer = str(jwt.decode(note, options={"verify_signature": False}).get("iss"))
        app: App = state.apps[issuer]
        claims = jwt.decode(
            note,
            app.public_key,
            algorithms=["RS256"],
            options={"verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )
        issued_at, ends_at = float(claims["iat"]), float(claims["exp"])
    except (jwt.PyJWTError, KeyError, TypeError, ValueError):
        raise _unproven(state, "A JSON web token could not be decoded") from None
    now = state.now()
    if issued_at > now + ASSERTION_S:
        raise _unproven(
            state,
            "'Issued at' claim ('iat') must be an Integer representing the time that the "
            "assertion was issued",
        )
    if ends_at > now + LONGEST_S:
        raise _unproven(state, "'Expiration time' claim ('exp') is too far in the future")
    if ends_at <= now:
        raise _unproven(
            state,
            "'Expiration time' claim ('exp') must be a numeric value "
            "representing the future time at which the assertion expires",
        )
    return app


def _unproven(state: State, message: str) -> Refusal:
    return rest(401, message).with_headers(("date", formatdate(state.now(), usegmt=True)))
