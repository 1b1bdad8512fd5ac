"""Where a credential may go: GitHub names the host, our rules decide."""

from typing import Any

import pytest

from accounts.hosts import api_url, copilot_host, github_url
from accounts.models import Account

REAL = "https://api.github.com"


@pytest.fixture(autouse=True)
def _real_github(settings: Any) -> None:
    settings.GITHUB_API_URL, settings.GITHUB_URL = REAL, "https://github.com"
    settings.COPILOT_API_URL = ""


def seat(account_type: str = "individual", host: str = "github.com") -> Account:
    return Account(login="octocat", account_type=account_type, host=host)


def named(url: Any) -> dict[str, Any]:
    return {"endpoints": {"api": url}}


@pytest.mark.parametrize("plan", ["individual", "business", "enterprise"])
def test_the_host_that_github_names_is_used(plan: str) -> None:
    url = f"https://api.{plan}.githubcopilot.com"

    assert copilot_host(named(url), seat()) == url
    assert copilot_host(named(url + "/"), seat()) == url


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example",
        "https://evilgithubcopilot.com",
        "https://api.githubcopilot.com.evil.example",
        "http://api.githubcopilot.com",
        "https://api.githubcopilot.com:8443",
        "https://user:pw@api.githubcopilot.com",
        "https://api.githubcopilot.com@evil.example",
        "https://api.githubcopilot.com/path",
        "https://api.githubcopilot.com?x=1",
        "https://other.ghe.com",
        "http://127.0.0.1:9",
        "http://localhost",
        "//evil.example",
        "file:///etc/passwd",
        "https://[",
        "https://api.githubcopilot.com:x",
        7,
        "",
    ],
)
def test_any_other_host_falls_back_to_the_plans(url: Any) -> None:
    assert copilot_host(named(url), seat()) == "https://api.githubcopilot.com"
    assert copilot_host(named(url), seat("business")) == "https://api.business.githubcopilot.com"


def test_the_tokens_own_text_names_the_host_when_endpoints_are_missing() -> None:
    token = "tid=1;exp=2;proxy-ep=proxy.business.githubcopilot.com;st=dotcom:sig"

    assert copilot_host({"token": token}, seat()) == "https://api.business.githubcopilot.com"
    assert copilot_host({"token": "tid=1;proxy-ep=proxy.evil.example:x"}, seat()) == (
        "https://api.githubcopilot.com"
    )
    assert copilot_host({"endpoints": None, "token": 5}, seat("enterprise")) == (
        "https://api.enterprise.githubcopilot.com"
    )


def test_the_setting_overrides_what_github_names(settings: Any) -> None:
    settings.COPILOT_API_URL = "http://10.0.0.5:8080"

    assert copilot_host(named("https://api.githubcopilot.com"), seat()) == "http://10.0.0.5:8080"


def test_a_tenants_token_stays_with_the_tenant() -> None:
    acme = seat(host="acme.ghe.com")

    assert api_url("acme.ghe.com") == "https://api.acme.ghe.com"
    assert github_url("acme.ghe.com") == "https://acme.ghe.com"
    assert copilot_host({}, acme) == "https://copilot-api.acme.ghe.com"
    own = "https://copilot-api.acme.ghe.com"
    assert copilot_host(named(own), acme) == own
    assert copilot_host(named("https://copilot-api.evil.ghe.com"), acme) == own


def test_a_stand_in_may_name_this_machine_only(settings: Any) -> None:
    settings.GITHUB_API_URL = "http://127.0.0.1:8787"

    assert copilot_host(named("http://localhost:9999"), seat()) == "http://localhost:9999"
    assert copilot_host(named("http://evil.example"), seat()) == "http://127.0.0.1:8787"
    assert copilot_host({}, seat("business")) == "http://127.0.0.1:8787"
    # Nothing leaves the machine, whatever host an account says it has.
    assert api_url("acme.ghe.com") == "http://127.0.0.1:8787"


def test_a_configured_github_may_name_itself(settings: Any) -> None:
    settings.GITHUB_API_URL = "https://github.corp.example/api/v3"

    assert copilot_host(named("https://github.corp.example"), seat()) == (
        "https://github.corp.example"
    )
    for url in ("http://localhost:1", "http://github.corp.example"):
        assert copilot_host(named(url), seat()) == "https://api.githubcopilot.com"
