"""What the gateway asks about models by itself: the drift canary, terms, refreshes."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connections

from accounts import database, tokens
from accounts.encryption import Secret
from accounts.models import Account
from accounts.snapshots import Snapshot, refresh_all
from proxy import canary, catalog, health_lines, tasks, terms
from proxy.errors import Forbidden, GatewayError, Unavailable
from proxy.models import Catalog, UpstreamProbe
from proxy.upstream.headers import SHIPPED
from simulator.testing import SimulatorThread
from usage.models import Notification

DOCUMENT = "/copilot_internal/user"


@pytest.fixture(autouse=True)
def quick(
    simulator: SimulatorThread, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    settings.GITHUB_URL = settings.GITHUB_API_URL = simulator.url
    settings.COPILOT_API_URL = ""
    monkeypatch.setattr(canary, "PAUSE_S", 0.0)
    cache.clear()
    empty = [(snapshot, snapshot.value) for snapshot in Snapshot.all]
    yield
    simulator.reset()
    tokens.forget()
    for snapshot, value in empty:
        snapshot.value, snapshot.loaded_at = value, None
    database._executor.submit(connections.close_all).result(timeout=10)


@pytest.fixture
def account(transactional_db: None) -> Account:
    row = Account(login="octocat", token_kind="ghu")
    row.github_token = Secret.of("ghu_octocat")
    row.save()
    refresh_all(force=True)
    return row


def probes() -> dict[str, UpstreamProbe]:
    return {probe.kind: probe for probe in UpstreamProbe.objects.all()}


def lines() -> list[health_lines.HealthLine]:
    return [line for line in health_lines.lines() if "API at" in line.part]


def test_versions_that_are_taken_are_green(account: Account, simulator: SimulatorThread) -> None:
    assert canary.run() == {"accepted": 2, "refused": 0, "unclear": 0}

    assert {probe.state for probe in probes().values()} == {"ok"}
    assert [line.tone for line in lines()] == ["ok", "ok"]
    assert not Notification.objects.exists()
    # Nothing was asked that costs.
    assert not simulator.generations
    (asked,) = simulator.received_on("/models")
    assert asked.headers["x-github-api-version"] == SHIPPED.api_version


def test_a_466_is_an_alarm_that_names_the_header_and_what_to_do(
    account: Account, simulator: SimulatorThread
) -> None:
    simulator.config(min_vscode_version="1.999.0")

    assert canary.run()["refused"] == 1
    assert canary.run()["refused"] == 1

    probe = probes()["models"]
    assert (probe.state, probe.status) == ("refused", 466)
    assert (probe.header, probe.sent) == ("Editor-Version", SHIPPED.editor_version)
    (line,) = [line for line in lines() if line.tone == "bad"]
    assert "raise “Editor version”" in line.detail
    (notice,) = Notification.objects.filter(event="drift")
    assert SHIPPED.editor_version in notice.text
    since = probe.since

    simulator.config(min_vscode_version="1.100.0")
    assert canary.run()["refused"] == 0
    probe = probes()["models"]
    assert probe.state == "ok"
    assert probe.since > since


@pytest.mark.parametrize(
    ("message", "header"),
    [
        ("bad request: invalid X-GitHub-Api-Version", "X-GitHub-Api-Version"),
        ("unknown Copilot-Integration-Id vscode-chat", "Copilot-Integration-Id"),
        ("bad request", ""),
    ],
)
def test_a_400_is_about_our_headers(
    account: Account, simulator: SimulatorThread, message: str, header: str
) -> None:
    simulator.play("status", code=400, message=message, match={"path": "/models"})

    assert canary.run()["refused"] == 1

    probe = probes()["models"]
    assert (probe.state, probe.header) == ("refused", header)
    assert probes()["account"].state == "ok"


@pytest.mark.parametrize("code", [401, 403, 404, 429, 500, 503])
def test_other_failures_are_no_alarm(
    account: Account, simulator: SimulatorThread, code: int
) -> None:
    simulator.play("status", code=code, match={"path": "/models"})
    simulator.play("status", code=code, match={"path": DOCUMENT})

    assert canary.run() == {"accepted": 0, "refused": 0, "unclear": 2}

    assert not Notification.objects.exists()
    assert {line.tone for line in lines()} == {"warn"}


def test_githubs_own_api_is_watched_too(account: Account, simulator: SimulatorThread) -> None:
    simulator.play("status", code=466, match={"path": DOCUMENT})

    assert canary.run()["refused"] == 1

    assert probes()["account"].state == "refused"
    assert probes()["models"].state == "ok"


def test_a_list_that_hides_its_prices_asks_for_an_update(account: Account) -> None:
    old = (
        b'{"data":[{"id":"a","warning_message":"Please update your client",'
        b'"billing":{"is_premium":true,"multiplier":1}}]}'
    )

    found = canary.judge(200, old, SHIPPED, is_token_billed=True)

    assert (found.state, found.header) == ("outdated", "X-GitHub-Api-Version")
    # With an old contract there are no such prices.
    assert canary.judge(200, old, SHIPPED, is_token_billed=False).state == "ok"


def test_no_host_is_asked_twice_and_frozen_accounts_not_at_all(
    account: Account, simulator: SimulatorThread
) -> None:
    for login in ("mona", "lisa"):
        row = Account(login=login, token_kind="ghu", state=Account.State.FROZEN)
        row.github_token = Secret.of("ghu_mona")
        row.save()
    Account.objects.update(api_base=simulator.url)
    refresh_all(force=True)

    canary.run()

    assert len(simulator.received_on("/models")) == 1
    assert {r.login for r in simulator.received_on(DOCUMENT)} == {"octocat"}


def test_two_workers_at_once_probe_once(
    account: Account, simulator: SimulatorThread, make_busy: Callable[[str], Any]
) -> None:
    with make_busy("canary"):
        assert tasks.probe_upstream.apply().get() == "another worker is at it"

    assert not simulator.received_on("/models")
    assert tasks.probe_upstream.apply().get()["accepted"] == 2


@pytest.fixture
def make_busy() -> Callable[[str], Any]:
    from accounts import claims

    return lambda name: claims.held(name, 60)


# Terms.


@pytest.fixture
def mona(transactional_db: None) -> Account:
    """A seat that an organisation gives."""
    row = Account(login="mona", token_kind="ghu")
    row.github_token = Secret.of("ghu_mona")
    row.save()
    refresh_all(force=True)
    return row


def test_where_an_organisation_decides_github_refuses_and_says_who_can(
    mona: Account, simulator: SimulatorThread
) -> None:
    with pytest.raises(Forbidden, match=r"managed by your organization.*owner enables") as refused:
        terms.accept(mona.pk, "grok-4.6")

    assert refused.value.code == "policy_managed"
    assert len(simulator.received_on("/models/grok-4.6/policy")) == 1


def test_terms_are_accepted_and_the_list_is_read_again(
    account: Account, simulator: SimulatorThread
) -> None:
    tasks.refresh_catalogs.apply()
    found = terms.of(account.pk, "grok-4.6")
    assert found is not None
    assert (found.entry.is_enabled, found.text) == (False, "Enable access to Grok 4.6.")

    terms.accept(account.pk, "grok-4.6")

    found = terms.of(account.pk, "grok-4.6")
    assert found is not None
    assert found.entry.is_enabled
    assert terms.of(account.pk, "no-such-model") is None


@pytest.mark.parametrize("state", ["frozen", "paused", "needs_sign_in"])
def test_for_an_account_out_of_service_nothing_is_sent(
    account: Account, simulator: SimulatorThread, state: str
) -> None:
    Account.objects.update(state=state)

    with pytest.raises(Unavailable):
        terms.accept(account.pk, "grok-4.6")

    assert not simulator.received_on("/models/grok-4.6/policy")


def test_a_model_id_cannot_lead_elsewhere(account: Account, simulator: SimulatorThread) -> None:
    with pytest.raises(GatewayError):
        terms.accept(account.pk, "../../v1/messages?x=")

    assert not [r for r in simulator.received if r.path.endswith("/messages")]


# Refreshes.


def test_a_refresh_that_fails_keeps_the_list_and_says_why(
    account: Account, simulator: SimulatorThread
) -> None:
    tasks.refresh_catalogs.apply()
    before = Catalog.objects.get().entries
    Catalog.objects.update(fetched_at=None)
    simulator.play("rate_limited", match={"path": "/models"})

    assert tasks.refresh_catalogs.apply().get() == 1

    row = Catalog.objects.get()
    assert row.entries == before
    assert row.error
    assert catalog.accounts_due() == [account.pk]
