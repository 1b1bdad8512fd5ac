"""GitHub's device sign-in: codes, impatient polls, and a page where a person approves.

Source: docs/upstream.md (OAuth device flow).
"""

from __future__ import annotations

import html
import string
from urllib.parse import parse_qsl, urlencode

import orjson

from simulator import minting
from simulator.refusals import HTML, JSON
from simulator.script import Call
from simulator.state import DeviceCode, GitHubToken, Json, State

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
SLOW_DOWN_S = 5
MAX_CODES_KEPT = 1000
KNOWN_CLIENTS = {
    "Iv1.b507a08c87ecfe98": "ghu_",
    "Ov23li8tweQw6odWQebz": "gho_",
    "01ab8ac9400c4e429b23": "gho_",
    "178c6fc778ccc68e1d6a": "gho_",
}
# Clients whose tokens may be exchanged for Copilot tokens; opencode's is sent directly.
EXCHANGING_CLIENTS = frozenset({"Iv1.b507a08c87ecfe98", "01ab8ac9400c4e429b23"})
_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"


def form_or_json(call: Call) -> Json:
    """Read a body that may be JSON or a form, as GitHub does."""
    if isinstance(call.body, dict):
        return call.body
    return dict(parse_qsl(call.request.body.decode("utf-8", "replace")))


async def _send(call: Call, document: Json, status: int = 200) -> None:
    """Answer in JSON when asked for, else form-encoded."""
    if "application/json" in call.header("accept"):
        content_type, body = f"{JSON}; charset=utf-8", orjson.dumps(document)
    else:
        content_type = "application/x-www-form-urlencoded; charset=utf-8"
        body = urlencode(document).encode()
    headers = [
        ("content-type", content_type),
        ("x-github-request-id", minting.github_request_id(call.state)),
        ("cache-control", "no-store"),
    ]
    await call.out.send(status, headers, body)


def is_known_client(client_id: str) -> bool:
    return client_id in KNOWN_CLIENTS or client_id.startswith(("Ov23li", "Iv1.", "Iv23"))


async def start(call: Call) -> None:
    """`POST /login/device/code`."""
    given = form_or_json(call)
    client_id = str(given.get("client_id", ""))
    if not is_known_client(client_id):
        await _send(call, {"error": "Not Found"}, 404)
        return
    state = call.state
    code = issue(state, client_id, str(given.get("scope", "")))
    await _send(
        call,
        {
            "device_code": code.device_code,
            "user_code": code.user_code,
            "verification_uri": f"{_public_url(call)}/login/device",
            "expires_in": int(state.config.device_life_s),
            "interval": code.interval_s if code.interval_s % 1 else int(code.interval_s),
        },
    )


def issue(state: State, client_id: str, scope: str) -> DeviceCode:
    letters = "".join(state.random.choices(_LETTERS, k=8))
    code = DeviceCode(
        device_code=state.random.randbytes(20).hex(),
        user_code=f"{letters[:4]}-{letters[4:]}",
        client_id=client_id,
        scope=scope,
        interval_s=state.config.device_interval_s,
        issued_at=state.now(),
        expires_at=state.now() + state.config.device_life_s,
    )
    state.device_codes[code.device_code] = code
    while len(state.device_codes) > MAX_CODES_KEPT:
        state.device_codes.pop(next(iter(state.device_codes)))
    return code


def _public_url(call: Call) -> str:
    return call.state.public_url or f"http://{call.header('host') or call.state.base_url[7:]}"


def _fault(name: str, description: str, **more: object) -> Json:
    docs = "https://docs.github.com/developers/apps/authorizing-oauth-apps#error-codes"
    return {"error": name, "error_description": description, "error_uri": docs} | more


async def poll(call: Call) -> None:
    """`POST /login/oauth/access_token`: HTTP 200 whatever the answer is."""
    await _send(call, _poll(call.state, form_or_json(call)))


def _poll(state: State, given: Json) -> Json:
    if given.get("grant_type") != GRANT:
        return _fault("unsupported_grant_type", "The grant type is not supported.")
    if not is_known_client(str(given.get("client_id", ""))):
        return _fault("incorrect_client_credentials", "The client_id is not valid.")
    code = state.device_codes.get(str(given.get("device_code", "")))
    if code is None or code.client_id != given.get("client_id"):
        return _fault("incorrect_device_code", "The device_code provided is not valid.")
    now = state.now()
    _approve_by_itself(state, code, now)
    last, code.polled_at = code.polled_at, now
    if code.expires_at <= now:
        return _fault("expired_token", "The device_code has expired.")
    if code.answer == "denied":
        return _fault("access_denied", "The authorization request was denied.")
    if now - (last or code.issued_at) < code.interval_s - 0.05:
        code.interval_s += SLOW_DOWN_S
        return _fault(
            "slow_down",
            "Too many requests have been made in the same timeframe.",
            interval=code.interval_s,
        )
    if code.answer == "pending":
        return _fault("authorization_pending", "The authorization request is still pending.")
    del state.device_codes[code.device_code]
    token = _mint_token(state, code)
    return {"access_token": token.value, "token_type": "bearer", "scope": code.scope}


def _approve_by_itself(state: State, code: DeviceCode, now: float) -> None:
    after_s = state.config.device_auto_approve_s
    if after_s is not None and code.answer == "pending" and now - code.issued_at >= after_s:
        approve(state, code, state.config.device_auto_login)


def _mint_token(state: State, code: DeviceCode) -> GitHubToken:
    prefix = KNOWN_CLIENTS.get(code.client_id)
    prefix = prefix or ("ghu_" if code.client_id.startswith("Iv") else "gho_")
    token = GitHubToken(minting.short_id(state, prefix, 36), code.login, code.client_id)
    # GitHub hides Copilot from third-party apps. Source: docs/upstream.md (client ids).
    token.may_request_copilot = code.client_id in KNOWN_CLIENTS
    state.github_tokens[token.value] = token
    return token


def find(state: State, user_code: str | None) -> DeviceCode | None:
    """Return the pending flow of that user code, or the newest one when none is given."""
    pending = [code for code in state.device_codes.values() if code.answer == "pending"]
    if user_code:
        wanted = "".join(letter for letter in user_code.upper() if letter in string.ascii_uppercase)
        pending = [code for code in pending if code.user_code.replace("-", "") == wanted]
    return pending[-1] if pending else None


def approve(state: State, code: DeviceCode, login: str) -> None:
    code.answer = "approved"
    code.login = state.account(login).login


_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<title>Device activation</title>
<style>body{{font:16px system-ui;max-width:32em;margin:4em auto;padding:0 1em}}
input,select,button{{font:inherit;padding:.5em;margin:.3em 0}}</style></head><body>
<h1>Device activation</h1><p>This page stands in for GitHub. Nobody is asked for a password.</p>
{message}
<form method="post" action="/login/device">
<label>Code <input name="user_code" value="{code}"></label>
<br><label>Sign in as <select name="login">{logins}</select></label>
<br><button name="answer" value="approve">Approve</button>
<button name="answer" value="deny">Deny</button></form></body></html>"""


async def page(call: Call) -> None:
    """`GET /login/device`: a form; `POST` approves or denies."""
    state = call.state
    message, given = "", dict(call.request.query)
    if call.request.method == "POST":
        given = {key: str(value) for key, value in form_or_json(call).items()}
        code = find(state, given.get("user_code"))
        if code is None:
            message = "<p><strong>No sign-in waits for this code.</strong></p>"
        elif given.get("answer") == "deny":
            code.answer = "denied"
            message = "<p><strong>Denied.</strong></p>"
        else:
            approve(state, code, given.get("login") or state.config.device_auto_login)
            message = f"<p><strong>Signed in as {html.escape(code.login)}.</strong></p>"
    logins = "".join(f"<option>{html.escape(login)}</option>" for login in state.accounts)
    shown = html.escape(given.get("user_code", ""), quote=True)
    document = _PAGE.format(message=message, code=shown, logins=logins)
    await call.out.send(200, [("content-type", HTML)], document.encode())
