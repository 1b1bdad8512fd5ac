"""A day of a gateway, in a minute: everything that carries a secret is done once, and each is noted.

What the run wrote can then be looked through for what must not be there.
"""

import base64
import json
import re
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import httpx
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from simulator.testing import SimulatorThread

PROMPT = "canary-prompt-7731"
WRONG_KEY = "cgw_canaryWrongKey00000000000000000000000000"
GEMINI_KEY = "AIzaSyCanaryGemini0000000000000000000"
PASSWORD = "canary password of nobody 4471"
WEBHOOK = "https://hooks.invalid/services/canary-webhook-path"
WEBHOOK_SECRET = "cgwh_canaryWebhookSecret000000000000"
FAULTS = (
    "leaky_error", "error_500_html", "error_500_json", "token_expired", "garbage", "cut",
    "invalid_request_body", "rate_limited", "content_filter", "html_200", "broken_json_200",
)  # fmt: skip


class Runs(Protocol):
    """A gateway, or the first of a team."""

    def manage(self, *arguments: str, check: bool = True) -> Any: ...
    def client(self, **options: Any) -> httpx.Client: ...


@dataclass
class Day:
    """What was done, what of it is secret, and what members and administrators were shown."""

    secrets: dict[str, str] = field(default_factory=dict)
    seen: list[tuple[str, str]] = field(default_factory=list)

    def keep(self, name: str, secret: str) -> str:
        assert len(secret) >= 8, name
        self.secrets[name] = secret
        return secret

    def found_in(self, text: str | bytes, *, but: tuple[str, ...] = ()) -> list[str]:
        """The names of the secrets that stand in it, as text or inside of JSON."""
        raw = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
        found = []
        for name, secret in self.secrets.items():
            inside = json.dumps(secret)[1:-1].encode()
            if name not in but and (secret.encode() in raw or inside in raw):
                found.append(name)
        return found


def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode()


def spend_a_day(gateway: Any, runs: Runs, simulator: SimulatorThread, link: str) -> Day:
    """`link` is the way in that the terminal shows, which is meant to be read there."""
    day = Day()
    day.keep("github token", "ghu_octocat")
    day.keep("wrong key", WRONG_KEY)
    day.keep("gemini key", GEMINI_KEY)
    admin = day.keep("admin key", runs.manage("create-key", "ci", "--admin").stdout.strip())
    key = day.keep("key", runs.manage("create-key", "laptop").stdout.strip())
    with gateway.client(headers={"authorization": f"Bearer {admin}"}) as program:
        assert wait(lambda: program.get("/api/admin/keys").status_code == 200)
        manage_everything(day, program)
        store_and_ask(day, program, gateway)
    # Last, because it leaves limits behind.
    with gateway.client(headers={"authorization": f"Bearer {key}"}) as tool:
        assert wait(lambda: tool.get("/v1/models").status_code == 200)
        chat_in_all_formats(day, tool)
    with gateway.client() as browser:
        look_at_pages(day, browser, simulator, link)
        set_up_a_factor(day, browser)
        wrong_passwords(day, gateway)
    runs.manage("debug")
    runs.manage(
        "auth", "--github-token", day.keep("bad token", "ghu_canaryBadToken0001"), check=False
    )
    for number, bearer in enumerate(bearers(simulator)):
        day.keep(f"bearer {number}", bearer)
    assert any(secret.startswith("tid=") for secret in day.secrets.values())
    return day


def wait(what: Any, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def bearers(simulator: SimulatorThread) -> set[str]:
    """Everything that went to GitHub and Copilot as a credential."""
    return {
        received.headers["authorization"].partition(" ")[2]
        for received in simulator.received
        if "authorization" in received.headers
    }


def chat_in_all_formats(day: Day, tool: httpx.Client) -> None:
    day.keep("prompt", PROMPT)
    for text in (PROMPT, *(f"{PROMPT} [[{fault}]]" for fault in FAULTS)):
        for stream in (False, True):
            for path, body in bodies(text, stream):
                tool.post(path, json=body)
    for headers in (
        {"authorization": f"Bearer {WRONG_KEY}"},
        {"x-api-key": WRONG_KEY},
        {"authorization": "Bearer " + day.keep("stray token", "gho_canaryStrayToken0002")},
        {"cookie": "session=" + day.keep("stray cookie", "canary-cookie-3391")},
    ):
        tool.post("/v1/messages", content=f'{{"broken": "{PROMPT}', headers=headers)
    tool.get(f"/v1beta/models?key={GEMINI_KEY}")
    tool.post(f"/v1/chat/completions?key={WRONG_KEY}", json={"model": PROMPT[:10]})
    tool.post("/api/translate", json={"format": "messages", "body": bodies(PROMPT, False)[1][1]})
    tool.get("/usage")


def bodies(text: str, stream: bool) -> list[tuple[str, dict[str, Any]]]:
    messages = [{"role": "user", "content": text}]
    method = "streamGenerateContent" if stream else "generateContent"
    return [
        ("/v1/chat/completions", {"model": "gpt-4.1", "messages": messages, "stream": stream}),
        (
            "/v1/messages",
            {
                "model": "claude-sonnet-4.6",
                "max_tokens": 50,
                "messages": messages,
                "stream": stream,
                "system": f"You are {PROMPT}",
            },
        ),
        ("/v1/responses", {"model": "gpt-5.5", "input": text, "stream": stream}),
        (f"/v1beta/models/gpt-4.1:{method}", {"contents": [{"parts": [{"text": text}]}]}),
    ]


def manage_everything(day: Day, program: httpx.Client) -> None:
    pem = private_key()
    day.keep("private key", pem.splitlines()[5])
    app = {"name": "Acme", "issuer": "Iv23canary", "private_key": pem}
    assert program.post("/api/admin/apps", json=app).status_code == 201
    channel = {
        "name": "hook",
        "kind": "webhook",
        "address": day.keep("webhook address", WEBHOOK),
        "secret": day.keep("webhook secret", WEBHOOK_SECRET),
        "events": [],
    }
    made = program.post("/api/admin/channels", json=channel)
    assert made.status_code == 201, made.text
    invite = program.post("/api/admin/invites", json={"email": "new@example.org"}).json()
    day.keep("invite", invite["token"])
    me = program.get("/api/admin/members").json()["data"][0]["id"]
    new = program.post("/api/admin/keys", json={"name": "made", "owner_id": me}).json()
    day.keep("made key", new["secret"])
    turned = program.post(f"/api/admin/keys/{new['id']}/rotate", json={"grace_h": 0}).json()
    day.keep("rotated key", turned["secret"])
    # Broken on purpose, with secrets inside.
    program.post("/api/admin/apps", json={**app, "private_key": pem[:-90], "name": 7})
    program.post("/api/admin/channels", json={**channel, "address": WEBHOOK[8:]})
    description = program.get("/api/admin/openapi.json").json()
    for path in description["paths"]:
        if "{" not in path and "get" in description["paths"][path]:
            day.seen.append((path, program.get(path).text))


def store_and_ask(day: Day, program: httpx.Client, gateway: Any) -> None:
    """One key keeps its bodies, another waits for a person: both hold the prompt for longer."""
    me = program.get("/api/admin/members").json()["data"][0]["id"]
    until = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    ways: tuple[dict[str, Any], ...] = ({"stores_bodies_until": until}, {"needs_approval": True})
    for number, change in enumerate(ways):
        new = program.post("/api/admin/keys", json={"name": f"n{number}", "owner_id": me}).json()
        secret = day.keep(f"key {number}", new["secret"])
        changed = program.patch(f"/api/admin/keys/{new['id']}", json=change)
        assert changed.status_code == 200, changed.text
        headers = {"authorization": f"Bearer {secret}"}
        with gateway.client(headers=headers) as tool, ThreadPoolExecutor(1) as pool:
            path, body = bodies(PROMPT, stream=False)[0]
            # A key that was changed a moment ago is known everywhere a second later.
            assert wait(lambda: tool.get("/v1/models").status_code == 200)
            time.sleep(2.5)
            asked = pool.submit(tool.post, path, json=body)
            if "needs_approval" in change:
                assert wait(lambda: program.get("/api/approvals").json()["waiting"])
                listed = program.get("/api/approvals")
                day.seen.append(("/api/approvals", listed.text))
                held = listed.json()["waiting"][0]["approval"]
                program.post(f"/api/approvals/{held}", json={"decision": "approve"})
            answer = asked.result()
            assert answer.status_code == 200, answer.text
    # What a key keeps is written a moment after its answer.
    time.sleep(2)


def set_up_a_factor(day: Day, browser: httpx.Client) -> None:
    path = "/dashboard/me/second-factor/totp/activate/"
    answer = browser.get(path, follow_redirects=True)
    if "authenticator_secret" not in answer.text:
        # A password was set a moment ago: it is asked for.
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', answer.text)
        assert token is not None
        form = {"csrfmiddlewaretoken": token[1], "password": PASSWORD}
        browser.post(str(answer.url), data=form)
        answer = browser.get(path)
    found = re.search(r'id="authenticator_secret"[^>]*value="([A-Z2-7]+)"', answer.text)
    assert found is not None, answer.text
    secret = day.keep("second factor", found[1])
    code = format_hotp_value(hotp_value(secret, int(time.time()) // 30))
    assert sent(browser, path, code=str(code))


def look_at_pages(day: Day, browser: httpx.Client, simulator: SimulatorThread, link: str) -> None:
    assert browser.get(link, follow_redirects=True).status_code == 200
    day.keep("session", browser.cookies["gateway_session"])
    assert sent(
        browser, "/dashboard/accounts/connect/", account_type="individual", host="github.com"
    )
    simulator.approve_device("canary-dev")
    for path in crawl(browser):
        answer = browser.get(path)
        assert answer.status_code < 500, path
        day.seen.append((path, answer.text))
    for path, text in list(day.seen):
        if path == "/dashboard/notifications/":
            for channel in set(re.findall(r"/dashboard/notifications/channels/(\d+)/", text)):
                sent(browser, f"/dashboard/notifications/channels/{channel}/test/")
    sent(
        browser,
        "/dashboard/me/password/",
        new_password1=day.keep("password", PASSWORD),
        new_password2=PASSWORD,
    )


def sent(browser: httpx.Client, path: str, **form: str) -> bool:
    """Post a form with the token of the page of one's own."""
    page = browser.get("/dashboard/me/").text
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert token is not None
    answer = browser.post(path, data={"csrfmiddlewaretoken": token[1], **form})
    return answer.status_code < 500


def crawl(browser: httpx.Client) -> Iterator[str]:
    """Every page of dashboard and admin that links lead to; of each kind with numbers a few."""
    waiting, known = ["/dashboard/", "/admin/"], {"/dashboard/", "/admin/"}
    kinds: dict[str, int] = {}
    while waiting:
        path = waiting.pop(0)
        yield path
        answer = browser.get(path)
        if "text/html" not in answer.headers.get("content-type", ""):
            continue
        for link in re.findall(r'href="(/(?:dashboard|admin)/[^"#?]*)', answer.text):
            kind = re.sub(r"[0-9a-f]{8,}|\d+", "N", link)
            if link in known or "sign-out" in link or kinds.get(kind, 0) >= 2:
                continue
            kinds[kind] = kinds.get(kind, 0) + 1
            known.add(link)
            waiting.append(link)


def wrong_passwords(day: Day, gateway: Any) -> None:
    with gateway.client() as stranger:
        page = stranger.get("/dashboard/sign-in/").text
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert token is not None
        for name in ("owner", day.keep("name", "canary-typed-as-a-name")):
            stranger.post(
                "/dashboard/sign-in/",
                data={
                    "csrfmiddlewaretoken": token[1],
                    "username": name,
                    "password": f"not {PASSWORD}",
                },
            )
        stranger.get(f"/dashboard/join/{day.secrets['invite']}/")
        stranger.get("/dashboard/?signin=" + day.keep("stray link", "canary-stray-link-551"))


def files_under(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file but the two that are the keys themselves."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in ("secret_key", "encryption_keys"):
            yield str(path.relative_to(folder)), path.read_bytes()


def opened_session(data: str) -> bytes:
    """What Django has signed and perhaps compressed, as it was: a secret inside could not be seen."""
    payload = data.split(":")[0]
    raw = base64.urlsafe_b64decode(payload.lstrip(".") + "=" * (-len(payload.lstrip(".")) % 4))
    return zlib.decompress(raw) if payload.startswith(".") else raw
