"""What every page's markup keeps to: strict CSP, escaping, headers, a fixed number of queries."""

from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import Account, Member

PAGES = [
    "/dashboard/",
    "/dashboard/?range=30d&by=member",
    "/dashboard/requests/",
    "/dashboard/requests/{exchange}/",
    "/dashboard/conversations/conversation-of-ben/",
    "/dashboard/live/",
    "/dashboard/approvals/",
    "/dashboard/approvals/rules/",
    "/dashboard/approvals/rules/new/",
    "/dashboard/accounts/",
    "/dashboard/accounts/mona-dev/",
    "/dashboard/accounts/connect/?new=1",
    "/dashboard/accounts/connect/{device}/",
    "/dashboard/keys/",
    "/dashboard/keys/new/",
    "/dashboard/keys/{prefix}/",
    "/dashboard/models/",
    "/dashboard/models/changes/",
    "/dashboard/models/policies/new/",
    "/dashboard/models/terms/{account}/grok-4.6/",
    "/dashboard/setup/",
    "/dashboard/translate/",
    "/dashboard/health/",
    "/dashboard/me/",
    "/dashboard/notifications/",
    "/dashboard/notifications/channels/new/",
    "/dashboard/reports/",
    "/dashboard/reports/member/?range=30d",
    "/dashboard/reports/months/",
    "/dashboard/reports/months/2026-09/",
    "/dashboard/reports/reconciliation/",
    "/dashboard/members/",
    "/dashboard/members/ben/",
    "/dashboard/teams/",
    "/dashboard/teams/{team}/",
    "/dashboard/groups/",
    "/dashboard/invites/new/",
    "/dashboard/notice/",
    "/dashboard/notice/edit/",
    "/dashboard/nothing-here/",
]
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


class Reader(HTMLParser):
    """Collects what a strict policy would refuse, and what a page for everyone must have."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: list[str] = []
        self.headings = 0
        self.ids: list[str] = []
        self.labelled: set[str] = set()
        self.unlabelled: list[str] = []
        self.foreign: list[str] = []
        self.in_label = 0
        self.in_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.in_script = tag == "script"
        if tag == "style":
            self.refused.append("a style element")
        if tag == "script" and "src" not in given and given.get("type") != "application/json":
            self.refused.append("an inline script")
        for name, value in given.items():
            if name == "style" or name.startswith(("on", "hx-on")):
                self.refused.append(f"{name} on {tag}")
            if value.strip().lower().startswith("javascript:"):
                self.refused.append(f"{value} on {tag}")
        source = given.get("src", "") or (given.get("href", "") if tag == "link" else "")
        if source.startswith(("http:", "https:", "//")):
            self.foreign.append(source)
        self.headings += tag == "h1"
        if "id" in given:
            self.ids.append(given["id"])
        self.in_label += tag == "label"
        if tag == "label" and "for" in given:
            self.labelled.add(given["for"])
        is_field = tag in ("select", "textarea") or (
            tag == "input" and given.get("type") not in ("hidden", "submit")
        )
        if is_field and not self.in_label and "aria-label" not in given:
            self.unlabelled.append(given.get("id", given.get("name", "?")))

    def handle_endtag(self, tag: str) -> None:
        self.in_label -= tag == "label"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)


def read(body: str) -> Reader:
    reader = Reader()
    reader.feed(body)
    return reader


def place(path: str, world: Any) -> str:
    return path.format(
        exchange=world.exchange.id,
        device=world.device.pk,
        prefix=world.key.prefix,
        team=world.team.pk,
        account=world.account.pk,
    )


@pytest.mark.parametrize("path", PAGES)
def test_d03_d04_no_page_needs_more_than_the_strict_policy_allows(
    path: str, world: Any, as_ada: Client
) -> None:
    answer = as_ada.get(place(path, world))
    page = read(answer.content.decode())

    assert page.refused == []
    assert page.foreign == []
    policy = answer["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer["Cache-Control"] == "no-store"
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", PAGES)
def test_every_page_has_one_heading_unique_ids_and_labels(
    path: str, world: Any, as_ada: Client
) -> None:
    page = read(as_ada.get(place(path, world)).content.decode())

    assert page.headings == 1
    assert len(page.ids) == len(set(page.ids))
    assert [field for field in page.unlabelled if field not in page.labelled] == []


@pytest.mark.parametrize(
    "path",
    [
        "/dashboard/?by=key",
        "/dashboard/?by=client",
        "/dashboard/?by=model",
        "/dashboard/requests/",
        "/dashboard/requests/{exchange}/",
        "/dashboard/live/",
        "/dashboard/keys/",
        "/dashboard/keys/{prefix}/",
        "/dashboard/accounts/",
        "/dashboard/accounts/mona-dev/",
        "/dashboard/health/",
        "/dashboard/members/",
        "/dashboard/members/ben/",
        "/dashboard/requests/?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E&range=7d&model=%3Cscript%3E",
    ],
)
def test_d02_stored_markup_is_shown_as_text(
    path: str, world: Any, ben: Member, as_ada: Client
) -> None:
    Account.objects.update(state_reason=HOSTILE, quota_error=HOSTILE, refresh_error=HOSTILE)
    type(world.key).objects.filter(pk=world.key.pk).update(name=HOSTILE[:100])
    Member.objects.filter(pk=ben.pk).update(first_name=HOSTILE)
    names = ("model_used", "model_asked", "client", "key", "member", "account", "error_message")
    values = dict.fromkeys(names, HOSTILE)
    type(world.exchange).objects.filter(pk=world.exchange.pk).update(
        outcome="upstream_error",
        quirks=[HOSTILE],
        dropped=[HOSTILE],
        attempts=[{"account": HOSTILE, "error": HOSTILE}],
        initiator_rule="rule",
        effort=HOSTILE[:16],
        stop_reason=HOSTILE[:32],
        **values,
    )

    body = as_ada.get(place(path, world)).content.decode()

    assert "<script>alert" not in body
    assert "<img" not in body
    assert read(body).refused == []


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("/dashboard/", 16),
        ("/dashboard/requests/", 12),
        ("/dashboard/live/", 10),
        ("/dashboard/keys/", 10),
        ("/dashboard/models/", 16),
        ("/dashboard/conversations/conversation-of-ben/", 10),
        ("/dashboard/requests/{exchange}/", 10),
    ],
)
def test_a_page_costs_as_many_queries_for_many_rows_as_for_few(
    path: str,
    most: int,
    world: Any,
    ben: Member,
    as_ada: Client,
    make_record: Callable[..., Any],
) -> None:
    from accounts import keys

    path = place(path, world)
    cache.clear()
    with CaptureQueriesContext(
        connection,
    ) as few:
        as_ada.get(path)
    for number in range(20, 60):
        make_record(number, ben, world.key, model_used=f"model-{number}")
    for number in range(5):
        keys.create(f"key {number}", ben)
    cache.clear()
    with CaptureQueriesContext(connection) as many:
        as_ada.get(path)

    assert len(many) <= len(few)
    assert len(many) <= most


def test_fragments_are_parts_of_the_page_without_its_shell(world: Any, as_ada: Client) -> None:
    for path in ("/dashboard/", "/dashboard/live/", "/dashboard/health/", "/dashboard/approvals/"):
        answer = as_ada.get(path, headers={"HX-Request": "true"})
        assert answer.status_code == 200
        assert "<html" not in answer.content.decode()
        assert "HX-Request" in answer["Vary"]


@pytest.mark.parametrize("template", ["400.html", "403.html", "404.html", "500.html"])
def test_d18_error_pages_tell_nothing_of_the_inside(template: str) -> None:
    from django.template.loader import render_to_string

    page = read(body := render_to_string(template))

    assert page.refused == []
    assert page.headings == 1
    assert "Traceback" not in body
    assert "Django" not in body


def test_the_demo_says_that_it_is_one(settings: Any, as_ada: Client, client: Client) -> None:
    assert b"simulated data" not in as_ada.get("/dashboard/").content
    settings.DEMO = True
    assert b"Demo: simulated data" in as_ada.get("/dashboard/").content
    assert b"Demo: simulated data" in client.get("/dashboard/sign-in/").content
