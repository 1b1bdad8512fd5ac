"""Headers, cookies and ages of sessions: D03 to D05, D18, D21, and what auditors' keys may."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils.timezone import now

from accounts import session_ages
from accounts.models import Member
from accounts.session_store import SessionStore, stored
from accounts.sessions import ORIGIN
from simulator.testing import SimulatorThread
from tests.conftest import Gateway

CHAT = {"model": "gpt-4.1", "messages": [{"role": "user", "content": "hello"}]}
PLACES = [
    ("GET", "/dashboard/sign-in/", 200),
    ("GET", "/dashboard/", 302),
    ("GET", "/dashboard/nowhere/", 404),
    ("GET", "/admin/", 302),
    ("GET", "/nowhere", 404),
    ("GET", "/static/nothing.css", 404),
    ("GET", "/static/../secret_key", 404),
    ("GET", "/static/%2e%2e/%2e%2e/secret_key", 404),
    ("POST", "/dashboard/sign-in/", 403),
    ("PUT", "/dashboard/sign-in/", 403),
    ("GET", "/dashboard/search/?q=%00", 400),
    ("GET", "/dashboard/members/%00/", 400),
    ("GET", "/api/docs", 200),
    ("GET", "/api/openapi.json", 200),
    ("GET", "/v1/models", 200),
    ("GET", "/v1/nowhere", 404),
    ("POST", "/v1/chat/completions", 400),
    ("GET", "/healthz", 200),
]


@pytest.mark.parametrize(("method", "path", "status"), PLACES)
def test_d03_d11_d18_d21_every_answer_says_how_a_browser_must_treat_it(
    gateway: Gateway, method: str, path: str, status: int
) -> None:
    with gateway.client() as client:
        answer = client.request(method, path)

    assert answer.status_code == status, answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    # What the admin's own scripts need, django-unfold's; see docs/security.md.
    assert "unsafe-eval" not in policy or path.startswith("/admin/")
    assert "access-control-allow-origin" not in answer.headers
    assert "server" not in answer.headers
    if path.startswith(("/dashboard", "/admin", "/nowhere")):
        assert answer.headers["cache-control"] in (
            "no-store",
            "max-age=0, no-cache, no-store, must-revalidate, private",
        )
    for inside in ("Traceback", "django", "site-packages", "sqlite"):
        assert inside not in answer.text.lower() or path.startswith("/api/")


def test_d03_pages_are_in_no_frame_and_tell_other_sites_nothing(gateway: Gateway) -> None:
    with gateway.client() as client:
        answer = client.get("/dashboard/sign-in/")

    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    for part in ("object-src 'none'", "base-uri 'none'", "form-action 'self'", "script-src 'self'"):
        assert part in answer.headers["content-security-policy"]


@pytest.fixture(scope="module")
def https(
    shared_simulator: SimulatorThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    gateway = Gateway(
        tmp_path_factory.mktemp("https"),
        shared_simulator.url,
        (),
        {"GATEWAY_HTTPS": "true", "ALLOWED_HOSTS": "gateway.example.com"},
    )
    yield gateway
    gateway.stop()


def test_d05_cookies_are_bound_to_https_and_to_this_host(https: Gateway) -> None:
    headers = {"x-forwarded-proto": "https", "host": "gateway.example.com"}
    with https.client(headers=headers) as client:
        link = https.sign_in_link.partition("/dashboard")[2]
        made = client.get(f"/dashboard{link}").headers.get_list("set-cookie")
        page = client.get("/dashboard/sign-in/")
        made += page.headers.get_list("set-cookie")
    names = {cookie.partition("=")[0] for cookie in made}
    assert {"__Host-gateway_session", "__Host-gateway_csrf"} <= names
    for cookie in made:
        for flag in ("HttpOnly", "Secure", "SameSite=Lax", "Path=/"):
            assert flag in cookie, cookie
        assert "Domain=" not in cookie
    year = "max-age=31536000; includeSubDomains"
    assert page.headers["strict-transport-security"] == year


def test_d22_plain_http_is_led_away_and_hsts_is_on_the_api_too(https: Gateway) -> None:
    with https.client(headers={"host": "gateway.example.com"}) as client:
        page = client.get("/dashboard/")
        assert page.status_code == 301
        assert page.headers["location"].startswith("https://gateway.example.com/")
        answer = client.get("/healthz")
        assert answer.status_code == 200
        assert answer.headers["strict-transport-security"].startswith("max-age=31536000")
        # A proxy on this machine makes nobody local: who is behind TLS asks for keys.
        assert client.get("/v1/models").status_code == 401


@pytest.fixture
def ben(db: None) -> Member:
    return Member.objects.create_user("ben")


@pytest.fixture(autouse=True)
def static_root(settings: Any, tmp_path: Any) -> None:
    settings.STATIC_ROOT = tmp_path


def age(client: Client, **changes: Any) -> None:
    session = client.session
    session[ORIGIN] = {**session[ORIGIN], "since": (now() - changes["began"]).isoformat()}
    session[session_ages.SEEN] = (now() - changes["seen"]).timestamp()
    session.save()


@pytest.mark.parametrize(
    ("began", "seen", "is_over"),
    [
        (timedelta(hours=71), timedelta(hours=71), False),
        (timedelta(hours=73), timedelta(hours=73), True),
        (timedelta(days=13), timedelta(hours=1), False),
        (timedelta(days=15), timedelta(minutes=1), True),
    ],
)
def test_d05_a_session_ends_by_rest_and_by_age(
    ben: Member, client: Client, began: timedelta, seen: timedelta, is_over: bool
) -> None:
    client.force_login(ben)
    age(client, began=began, seen=seen)

    answer = client.get("/dashboard/me/")

    assert (answer.status_code == 302) == is_over
    assert Session.objects.exists() != is_over


def test_d05_pages_that_ask_by_themselves_keep_no_session_alive(
    ben: Member, client: Client
) -> None:
    client.force_login(ben)
    age(client, began=timedelta(hours=70), seen=timedelta(hours=70))

    client.get("/dashboard/setup/seen/?since=2026-11-20T00:00:00Z", HTTP_HX_REQUEST="true")
    assert now().timestamp() - client.session[session_ages.SEEN] > 60 * 3600

    client.get("/dashboard/me/")
    assert now().timestamp() - client.session[session_ages.SEEN] < 60


def test_d05_who_belongs_by_the_provider_is_asked_again_after_half_a_day(
    ben: Member, client: Client, settings: Any
) -> None:
    settings.GATEWAY_SSO_SESSION_H = 12
    client.force_login(ben)
    Member.objects.update(is_managed=True)
    age(client, began=timedelta(hours=13), seen=timedelta(minutes=1))

    assert client.get("/dashboard/me/").status_code == 302


def test_x01_a_dump_opens_no_session(ben: Member, client: Client) -> None:
    client.force_login(ben)
    key = client.session.session_key
    row = Session.objects.get()

    assert row.session_key == stored(key) != key
    thief = Client()
    thief.cookies["gateway_session"] = row.session_key
    assert thief.get("/dashboard/me/").status_code == 302
    assert client.get("/dashboard/me/").status_code == 200


def test_sessions_by_their_hash_behave_as_djangos(ben: Member) -> None:
    store = SessionStore()
    store["a"] = 1
    store.create()
    key = store.session_key
    assert store.exists(key)
    store.cycle_key()
    assert not SessionStore().exists(key)
    again = SessionStore(store.session_key)
    assert SessionStore("made-up").get("a") is None
    again["b"] = 2
    again.save()
    again.flush()
    assert not Session.objects.exists()


async def test_sessions_by_their_hash_behave_so_for_sockets_too(
    transactional_db: None,
) -> None:
    store = SessionStore()
    await store.aset("a", 1)
    await store.acreate()
    assert await store.aexists(store.session_key)
    again = SessionStore(store.session_key)
    assert await again.aget("a") == 1
    await again.aflush()
    assert not await Session.objects.aexists()
    assert await SessionStore("made-up").aload() == {}


def test_d01_signing_out_clears_what_the_browser_kept(ben: Member, client: Client) -> None:
    client.force_login(ben)

    answer = client.post("/dashboard/sign-out/")

    assert answer["Clear-Site-Data"] == '"cache"'
    assert not Session.objects.exists()


def test_a18_an_auditors_key_reads_and_calls_no_model(
    new_gateway: Callable[..., Gateway], simulator: SimulatorThread
) -> None:
    gateway = new_gateway("--require-keys")
    code = (
        "from accounts import keys; from accounts.models import Member; "
        "aud = Member.objects.create_user('aud', is_auditor=True, is_staff=True); "
        "print('key:' + keys.create('looks', aud)[1])"
    )
    found = re.search(r"key:(\S+)", gateway.manage("shell", "--no-imports", "-c", code).stdout)
    assert found is not None
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/v1/chat/completions", CHAT),
        ("/v1/messages", {**CHAT, "model": "claude-sonnet-4.6", "max_tokens": 5}),
        ("/v1/messages/count_tokens", {**CHAT, "model": "claude-sonnet-4.6"}),
        ("/v1/responses", {"model": "gpt-5.5", "input": "hello"}),
        ("/v1/embeddings", {"model": "text-embedding-3-small", "input": "hello"}),
        ("/v1beta/models/gpt-4.1:generateContent", {"contents": [{"parts": [{"text": "hi"}]}]}),
    ]
    with gateway.client(headers={"authorization": f"Bearer {found[1]}"}) as client:
        assert gateway.wait_for(lambda: client.get("/api/admin/keys").status_code == 200, 5)
        for path, body in bodies:
            answer = client.post(path, json=body)
            assert answer.status_code == 403, path
            assert "auditor" in answer.text
        assert client.post("/api/admin/teams", json={"name": "x"}).status_code == 403
        assert isinstance(client, httpx.Client)
    assert not simulator.generations


@pytest.mark.parametrize("limit", ["0", "501", "000001999999999", "1" * 5000, "-1", "1e3", "٣"])
def test_d19_no_list_is_longer_than_its_limit(limit: str) -> None:
    from proxy.api.management.resources import _limit
    from proxy.errors import InvalidRequest

    with pytest.raises(InvalidRequest):
        _limit(limit)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_d01_a_foreign_page_adds_no_identity_to_whom_is_signed_in(
    ben: Member, client: Client, site: str
) -> None:
    client.force_login(ben)

    for provider in ("github", "oidc"):
        address = f"/dashboard/sso/{provider}/login/?process=connect"
        assert client.get(address, HTTP_SEC_FETCH_SITE=site).status_code == 403
