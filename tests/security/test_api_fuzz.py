"""Our own API under schemathesis: whatever is sent, no 5xx, and errors are JSON in the right envelope.

The suite gives each description about half a minute; `API_FUZZ_S=600` gives it more.
"""

import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode

from simulator.testing import SimulatorThread
from tests.conftest import Gateway

BUDGET_S = float(os.environ.get("API_FUZZ_S", "25"))
EXAMPLES = max(8, int(BUDGET_S / 3))
Execute = Callable[[str], object]
# Ending the run's own key or member would end the run; a poll or refresh asks GitHub.
LEFT_OUT = ("/refresh", "/poll")
BODY = {"model": "gpt-4.1", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module")
def managed(
    shared_simulator: SimulatorThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Gateway, str]]:
    gateway = Gateway(
        tmp_path_factory.mktemp("fuzzed"),
        shared_simulator.url,
        ("--github-token", "ghu_octocat", "--require-keys"),
        {"GATEWAY_IDLE_TIMEOUT_S": "3", "GATEWAY_FIRST_BYTE_TIMEOUT_S": "5"},
    )
    gateway.wait_signed_in()
    key = gateway.manage("create-key", "fuzz", "--admin").stdout.strip()
    with gateway.client(headers={"authorization": f"Bearer {key}"}) as client:
        assert gateway.wait_for(lambda: client.get("/api/admin/keys").status_code == 200)
        client.post("/v1/chat/completions", json=BODY)
    yield gateway, key
    gateway.stop()


@pytest.mark.timeout(BUDGET_S * 4 + 120)
@pytest.mark.parametrize("description", ["/api/admin/openapi.json", "/api/openapi.json"])
def test_no_operation_of_our_api_ever_fails(managed: tuple[Gateway, str], description: str) -> None:
    gateway, key = managed

    def execute(sql: str) -> None:
        with sqlite3.connect(gateway.data_dir / "gateway.sqlite3", timeout=20) as connection:
            connection.execute(sql)
        connection.close()

    run_through(gateway, key, description, execute)


@pytest.mark.team
@pytest.mark.timeout(BUDGET_S * 4 + 120)
def test_no_operation_of_the_management_api_fails_on_postgresql(
    new_team: Callable[..., Any],
) -> None:
    """It is stricter than SQLite: about NUL in texts, lengths and the width of numbers."""
    team = new_team(processes=1)
    key = team.new_key("--admin")
    run_through(team.gateways[0], key, "/api/admin/openapi.json", team.query)


def run_through(gateway: Gateway, key: str, description: str, execute: Execute) -> None:
    schema = schemathesis.openapi.from_url(gateway.url + description)
    schema.config.generation.update(modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 10
    wrong: list[str] = []
    statuses: Counter[int] = Counter()
    ends = time.monotonic() + BUDGET_S
    with gateway.client(headers={"authorization": f"Bearer {key}"}) as client:
        for number, operation in enumerate(operations):
            if operation.path.endswith(LEFT_OUT):
                continue
            # What is left of the budget is shared by the operations that are left.
            share = max(0.2, (ends - time.monotonic()) / (len(operations) - number))
            statuses += try_out(gateway, client, operation, time.monotonic() + share, wrong)
            # The run's own key and owner must go on.
            revive(execute, key)
            assert gateway.wait_for(lambda: client.get("/api/admin/keys").status_code == 200)
    assert not wrong, "\n".join(dict.fromkeys(wrong))
    # It was really used: some requests did what they should, many were refused for what they held.
    assert statuses[200] + statuses[201] >= 10
    assert statuses[400] >= 20
    assert statuses[401] < statuses.total() / 5
    assert "Traceback" not in gateway.text, gateway.text[-3000:]


def try_out(
    gateway: Gateway, client: httpx.Client, operation: Any, until: float, wrong: list[str]
) -> Counter[int]:
    """Ask one operation in many ways; how often each status came."""
    statuses: Counter[int] = Counter()

    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize="API_FUZZ_S" not in os.environ,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(), row=st.sampled_from(["1", "2", "3", ""]))
    def ask(case: Any, row: str) -> None:
        if time.monotonic() > until:
            return
        if row and case.path_parameters and "pk" in case.path_parameters:
            # A row that may be there; else hardly anything is ever found.
            case.path_parameters["pk"] = row
        sent = case.as_transport_kwargs(base_url=gateway.url)
        sent.pop("cookies", None)
        headers = {
            str(k): str(v).encode("latin-1", "replace")
            for k, v in (sent.pop("headers", None) or {}).items()
            if str(k).lower() not in ("authorization", "host", "content-length")
            and str(v).isprintable()
        }
        try:
            answer = client.request(
                sent["method"],
                sent["url"],
                params=sent.get("params"),
                json=sent.get("json"),
                content=sent.get("data") if isinstance(sent.get("data"), bytes | str) else None,
                headers={**headers, "authorization": client.headers["authorization"]},
                timeout=20,
            )
        except (httpx.LocalProtocolError, httpx.InvalidURL, ValueError, UnicodeError):
            # No client could send this.
            return
        statuses[answer.status_code] += 1
        wrong.extend(judge(case, answer))

    ask()
    return statuses


def judge(case: Any, answer: httpx.Response) -> list[str]:
    """What is wrong with an answer, in words."""
    what = f"{case.method} {case.operation.path}: {answer.status_code} {answer.text[:200]!r}"
    if answer.status_code >= 500 and answer.status_code not in (502, 503, 504):
        return [f"failed: {what} for {case.body!r:.300}"]
    kind = answer.headers.get("content-type", "")
    if answer.status_code >= 400:
        if not kind.startswith("application/json"):
            return [f"no JSON: {what}"]
        error = answer.json().get("error")
        if not isinstance(error, dict) or not isinstance(error.get("message"), str):
            return [f"no envelope: {what}"]
        if len(error["message"]) > 600:
            return [f"a long message: {what}"]
    return []


def revive(execute: Execute, key: str) -> None:
    """Undo what would end the run: the owner disabled, the key revoked or limited."""
    prefix = key[:12]
    execute(
        "UPDATE accounts_apikey SET revoked_at = NULL, expires_at = NULL, is_admin = true, "
        f"updated_at = CURRENT_TIMESTAMP WHERE prefix = '{prefix}' "
        "AND (revoked_at IS NOT NULL OR expires_at IS NOT NULL OR NOT is_admin)"
    )
    execute(
        "UPDATE accounts_member SET is_active = true, is_superuser = true, is_auditor = false, "
        "updated_at = CURRENT_TIMESTAMP WHERE (NOT is_active OR NOT is_superuser) AND id = "
        f"(SELECT owner_id FROM accounts_apikey WHERE prefix = '{prefix}')"
    )
    # A notice stops every key until somebody agrees in a browser.
    execute("UPDATE accounts_member SET notice_id = NULL")
    execute("DELETE FROM accounts_notice")
