"""The admin in a real browser: nothing is complained of, nobody else is asked, acts ask first."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.browser.test_browser_pages import ARGUMENTS, MAKE_LINK, Watched

pytestmark = pytest.mark.browser

# Where a person may look at what the tests saw.
SHOTS = os.environ.get("GATEWAY_SHOTS", "")
FILL = """
from django.contrib import admin
admin.autodiscover()
from accounts.encryption import Secret
from tests.proxy.admin_rows import MAKERS
for make in MAKERS.values():
    for n in (11, 12):
        make(n)
"""
PAGES = [
    "/admin/",
    "/admin/accounts/account/",
    "/admin/accounts/account/1/change/",
    "/admin/accounts/account/1/unfreeze/",
    "/admin/accounts/apikey/",
    "/admin/accounts/apikey/1/change/",
    "/admin/accounts/apikey/1/rotate/",
    "/admin/accounts/member/",
    "/admin/accounts/member/1/change/",
    "/admin/accounts/team/add/",
    "/admin/accounts/auditentry/",
    "/admin/usage/usagerecord/",
    "/admin/usage/rollup/rebuild/",
    "/admin/usage/channel/add/",
    "/admin/usage/storedbody/",
    "/admin/proxy/approvalrule/add/",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def session(shared_gateway: Any, browser: Browser) -> Any:
    shared_gateway.manage("shell", "-c", FILL)
    printed = shared_gateway.manage("shell", "-c", MAKE_LINK).stdout
    token = re.search(r"token=(\S+)", printed)
    assert token is not None
    context = browser.new_context()
    context.new_page().goto(f"{shared_gateway.url}/dashboard/?signin={token[1]}")
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture
def contexts() -> Iterator[list[BrowserContext]]:
    made: list[BrowserContext] = []
    yield made
    for context in made:
        context.close()


def opened(browser: Browser, session: Any, url: str, scheme: Any, made: Any) -> Watched:
    context = browser.new_context(
        viewport={"width": 1360, "height": 900}, color_scheme=scheme, storage_state=session
    )
    made.append(context)
    return Watched(context, url)


def shoot(page: Page, name: str) -> None:
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_admin_opens_without_a_complaint(
    scheme: str, shared_gateway: Any, browser: Browser, session: Any, contexts: Any
) -> None:
    watched = opened(browser, session, shared_gateway.url, scheme, contexts)
    for path in PAGES:
        page = watched.open(path)
        expect(page.locator("#main")).to_be_visible()
        shoot(page, f"{scheme}{path.replace('/', '-')}")

    assert watched.complaints == []
    assert watched.strangers == []


def test_a_row_s_menu_leads_to_a_page_that_asks(
    shared_gateway: Any, browser: Browser, session: Any, contexts: Any
) -> None:
    watched = opened(browser, session, shared_gateway.url, "light", contexts)
    page = watched.open("/admin/accounts/account/?q=octo11")
    page.get_by_text("more_horiz").last.click()
    shoot(page, "row-menu")
    page.get_by_role("link", name="Pause").last.click()

    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    expect(page.get_by_text("octo11").first).to_be_visible()
    shoot(page, "asks")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("octo11: Paused.")).to_be_visible()
    shoot(page, "done")
    assert watched.complaints == []
