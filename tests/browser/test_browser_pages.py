"""The pages in a real browser, on the gateway as people start it: sizes, themes, keyboard, live."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

pytestmark = pytest.mark.browser

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PAGES = [
    "/dashboard/",
    "/dashboard/requests/",
    "/dashboard/live/",
    "/dashboard/approvals/",
    "/dashboard/approvals/rules/",
    "/dashboard/approvals/rules/new/",
    "/dashboard/accounts/",
    "/dashboard/accounts/octocat/",
    "/dashboard/accounts/connect/",
    "/dashboard/keys/",
    "/dashboard/keys/new/",
    "/dashboard/setup/",
    "/dashboard/models/",
    "/dashboard/health/",
    "/dashboard/me/",
    "/dashboard/me/second-factor/",
    "/dashboard/members/",
    "/dashboard/members/owner/",
    "/dashboard/teams/",
    "/dashboard/groups/",
    "/dashboard/invites/new/",
    "/dashboard/notice/edit/",
]
MAKE_LINK = (
    "from accounts import links, members; print('token=' + links.make(members.solo_member()))"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def session(shared_gateway: Any, browser: Browser) -> Any:
    """The cookies of the solo person, who came in by a link."""
    printed = shared_gateway.manage("shell", "-c", MAKE_LINK).stdout
    token = re.search(r"token=(\S+)", printed)
    assert token is not None
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{shared_gateway.url}/dashboard/?signin={token[1]}")
    assert page.url == f"{shared_gateway.url}/dashboard/"
    state = context.storage_state()
    context.close()
    return state


class Watched:
    """A page that remembers what a browser complains about and whom it asks."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.page: Page = context.new_page()
        self.url = url
        self.complaints: list[str] = []
        self.strangers: list[str] = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._asked)

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.url, self.url.replace("http", "ws"))):
            self.strangers.append(request.url)

    def open(self, path: str) -> Page:
        self.page.goto(self.url + path, wait_until="load")
        return self.page


@pytest.fixture
def watch(shared_gateway: Any, browser: Browser, session: Any) -> Iterator[Callable[..., Watched]]:
    contexts: list[BrowserContext] = []

    def make(width: int = 1360, scheme: str = "light", **options: Any) -> Watched:
        context = browser.new_context(
            viewport={"width": width, "height": 800},
            color_scheme=scheme,  # type: ignore[arg-type]
            storage_state=session,
            **options,
        )
        contexts.append(context)
        return Watched(context, shared_gateway.url)

    yield make
    for context in contexts:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 768, 1360])
def test_every_page_fits_and_nothing_is_complained_of(
    width: int, scheme: str, watch: Callable[..., Watched]
) -> None:
    watched = watch(width, scheme)
    for path in PAGES:
        page = watched.open(path)
        wider = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert wider <= 0, f"{path} is {wider} px too wide at {width} px"

    assert watched.complaints == []
    assert watched.strangers == []


@pytest.mark.parametrize("path", PAGES)
def test_texts_have_enough_contrast(path: str, watch: Callable[..., Watched]) -> None:
    """WCAG AA for every visible text against the nearest ground behind it, in both themes."""
    for scheme in ("light", "dark"):
        page = watch(1360, scheme).open(path)
        poor = page.evaluate(CONTRAST)
        assert poor == [], f"{scheme}: {poor}"


CONTRAST = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const read = (color) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(v => v / 255).map(
      v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * x + .7152 * y + .0722 * z;
  };
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const c = read(getComputedStyle(e).backgroundColor); if (c[3] > .9) return c;
    }
    return read(getComputedStyle(document.body).backgroundColor);
  };
  const poor = new Set();
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility({opacityProperty: true}) || e.closest('.sr, svg')) continue;
    const style = getComputedStyle(e), a = light(read(style.color)), b = light(ground(e));
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    const what = `${e.className} ${e.textContent.trim().slice(0, 30)}`;
    if (ratio < 4.5) poor.add(`${what} ${ratio.toFixed(2)}`);
  }
  return [...poor];
}"""


def test_the_theme_changes_at_once_and_stays(watch: Callable[..., Watched]) -> None:
    watched = watch()
    page = watched.open("/dashboard/me/")
    with page.expect_response("**/me/theme/"):
        page.get_by_role("button", name="Change the theme").click()
    chosen = page.evaluate("document.documentElement.dataset.theme")
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == chosen
    page.get_by_label("Theme", exact=True).select_option("system")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "system")


def test_a_key_is_made_copied_and_used_by_keyboard_alone(
    watch: Callable[..., Watched], shared_gateway: Any
) -> None:
    watched = watch()
    page = watched.open("/dashboard/")
    page.keyboard.press("g")
    page.keyboard.press("k")
    page.wait_for_url("**/dashboard/keys/")
    page.get_by_role("link", name="New key").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/keys/new/")
    page.get_by_label("Name").focus()
    page.keyboard.type("by keyboard")
    page.keyboard.press("Enter")
    secret = page.locator("#secret").inner_text()
    assert secret.startswith("cgw_")

    page.locator("button[data-copy=secret]").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#toasts")).to_contain_text(re.compile("Copied|Ctrl-C"))
    with page.expect_response(re.compile("setup/seen")):
        answer = httpx.post(
            f"{shared_gateway.url}/v1/chat/completions",
            headers={"Authorization": f"Bearer {secret}", "User-Agent": "curl/8.5"},
            json={"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Hello"}]},
            timeout=30,
            trust_env=False,
        )
    assert answer.status_code == 200
    expect(page.locator("#seen")).to_contain_text("first request", timeout=10_000)
    expect(page.locator("#seen")).to_contain_text("curl/8.5")
    assert watched.complaints == []


def test_the_live_page_shows_a_request_while_it_happens(
    watch: Callable[..., Watched], shared_gateway: Any
) -> None:
    made = shared_gateway.manage("create-key", "live page")
    secret = re.search(r"cgw_\S+", made.stdout + made.stderr)
    assert secret is not None
    watched = watch()
    page = watched.open("/dashboard/live/")
    expect(page.locator("[data-pill]")).to_have_text("live", timeout=10_000)

    answer = httpx.post(
        f"{shared_gateway.url}/v1/chat/completions",
        headers={"Authorization": f"Bearer {secret[0]}", "User-Agent": "live-client/1.0"},
        json={"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Hello"}]},
        timeout=30,
        trust_env=False,
    )
    assert answer.status_code == 200
    row = page.locator("tr", has_text="live-client/1.0").first
    expect(row).to_contain_text("ok", timeout=10_000)

    page.keyboard.press("p")
    expect(page.locator("[data-pill]")).to_have_text("paused")
    row.click()
    page.wait_for_url("**/dashboard/requests/*/")
    expect(page.locator("h1")).to_contain_text("Requests")
    assert watched.complaints == []


def test_rows_open_beside_the_list_and_keys_walk_through_them(
    watch: Callable[..., Watched], shared_gateway: Any
) -> None:
    made = shared_gateway.manage("create-key", "panel")
    secret = re.search(r"cgw_\S+", made.stdout + made.stderr)
    assert secret is not None
    for _turn in range(2):
        httpx.post(
            f"{shared_gateway.url}/v1/chat/completions",
            headers={"Authorization": f"Bearer {secret[0]}"},
            json={"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Hello"}]},
            timeout=30,
            trust_env=False,
        )
    shared_gateway.wait_for_records(2, "key = ?", "panel")
    watched = watch()
    page = watched.open("/dashboard/requests/?range=24h")

    page.keyboard.press("j")
    page.keyboard.press("Enter")
    panel = page.locator("#panel")
    expect(panel).to_contain_text("Initiator")
    first = panel.locator("h2 code").inner_text()
    page.keyboard.press("j")
    expect(panel.locator("h2 code")).not_to_have_text(first)
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    assert watched.complaints == []


def test_pages_work_without_javascript(watch: Callable[..., Watched]) -> None:
    watched = watch(java_script_enabled=False)
    page = watched.open("/dashboard/setup/")
    page.get_by_text("Codex", exact=True).click()
    assert page.locator("#code-codex-1").is_visible()
    page.get_by_label("Pages", exact=True).get_by_role("link", name="Requests").click()
    assert page.locator("h1").inner_text() == "Requests"
