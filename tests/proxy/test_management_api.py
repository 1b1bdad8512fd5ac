"""The HTTP management API: who may use it, and that rows go in and out as described."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from simulator.testing import SimulatorThread
from tests.conftest import Gateway
from tests.proxy.test_keys_and_limits import bearer

PEOPLE = """
from accounts import keys
from accounts.models import Member
ada = Member.objects.filter(is_superuser=True).first()
ben = Member.objects.create_user('ben')
aud = Member.objects.create_user('aud', is_auditor=True)
for name, owner, admin in (('ada', ada, True), ('ben', ben, False), ('aud', aud, False)):
    print('KEY', name, keys.create(name, owner, is_admin=admin)[1], owner.pk)
"""
SECRETS = ("private_key", "github_token", "copilot_token", "digest", "password")


@pytest.fixture(scope="module")
def team_gateway(
    shared_simulator: SimulatorThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Gateway, dict[str, str], dict[str, int]]]:
    gateway = Gateway(
        tmp_path_factory.mktemp("managed"),
        shared_simulator.url,
        ("--github-token", "ghu_octocat", "--require-keys"),
    )
    gateway.wait_signed_in()
    made = gateway.manage("shell", "-c", PEOPLE).stdout
    lines = [line.split() for line in made.splitlines() if line.startswith("KEY")]
    keys = {name: secret for _, name, secret, _ in lines}
    ids = {name: int(pk) for _, name, _, pk in lines}
    with gateway.client(headers=bearer(keys["aud"])) as client:
        assert gateway.wait_for(lambda: client.get("/api/admin/teams").status_code == 200, 5)
    yield gateway, keys, ids
    gateway.stop()


@pytest.fixture
def ada(team_gateway: Any) -> Iterator[httpx.Client]:
    gateway, keys, _ = team_gateway
    with gateway.client(headers=bearer(keys["ada"])) as client:
        yield client


@pytest.fixture
def description(team_gateway: Any) -> dict[str, Any]:
    gateway, _, _ = team_gateway
    with gateway.client() as client:
        found: dict[str, Any] = client.get("/api/admin/openapi.json").json()
    return found


def operations(description: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (method.upper(), path.replace("{pk}", "1"))
        for path, methods in description["paths"].items()
        for method in methods
        if "{grouping}" not in path and "{exchange_id}" not in path
    ]


def test_a18_every_operation_asks_for_the_right_key(
    team_gateway: Any, description: dict[str, Any]
) -> None:
    """Anonymous and wrong keys 401, members 403, auditors read and change nothing."""
    gateway, keys, _ = team_gateway
    tried = operations(description)
    assert len(tried) > 60
    with gateway.client() as client:
        for method, path in tried:
            body = {"json": {}} if method in ("POST", "PATCH") else {}
            answers = {
                who: client.request(method, path, headers=bearer(key) if key else {}, **body)
                for who, key in (
                    ("nobody", ""),
                    ("wrong", "cgw_" + "x" * 43),
                    ("ben", keys["ben"]),
                    ("aud", keys["aud"]),
                )
            }
            where = f"{method} {path}"
            assert answers["nobody"].status_code == 401, where
            assert answers["wrong"].status_code == 401, where
            assert answers["ben"].status_code == 403, where
            allowed = {200, 404} if method == "GET" else {403}
            assert answers["aud"].status_code in allowed, (where, answers["aud"].text)
            for answer in answers.values():
                assert answer.headers["content-type"].startswith("application/json"), where
    assert gateway.query("SELECT count(*) AS n FROM accounts_team")[0]["n"] == 0


def test_a18_nobody_raises_themselves(team_gateway: Any) -> None:
    gateway, keys, ids = team_gateway
    where = f"/api/admin/members/{ids['ben']}"
    raised = {"is_superuser": True, "is_auditor": True, "role": "administrator", "is_admin": True}

    def row() -> dict[str, Any]:
        return dict(
            gateway.query(
                "SELECT is_superuser, is_staff, is_auditor, is_active FROM accounts_member"
                " WHERE id = ?",
                ids["ben"],
            )[0]
        )

    before = row()
    for who in ("ben", "aud"):
        with gateway.client(headers=bearer(keys[who])) as client:
            for method, path, body in (
                ("PATCH", where, raised),
                ("POST", f"{where}/role", {"role": "administrator"}),
                ("POST", "/api/admin/keys", {"name": "x", "owner_id": ids["ben"], **raised}),
            ):
                assert client.request(method, path, json=body).status_code == 403, (who, path)
    assert row() == before
    # Not even an administrator changes a role by the way.
    with gateway.client(headers=bearer(keys["ada"])) as client:
        assert client.patch(where, json=raised).status_code in (400, 404, 405)
    assert row() == before


def test_a_session_cookie_opens_nothing(team_gateway: Any) -> None:
    gateway, _, _ = team_gateway
    with gateway.client(follow_redirects=True) as client:
        assert client.get(gateway.sign_in_link).status_code == 200
        assert client.get("/api/admin/members").status_code == 401


def test_a_team_is_added_read_changed_and_removed(ada: httpx.Client, team_gateway: Any) -> None:
    gateway, _, _ = team_gateway
    made = ada.post(
        "/api/admin/teams",
        json={"name": "Build", "cost_centre": "4711", "budget_month_nano_aiu": 5 * 10**12},
    )
    assert made.status_code == 201, made.text
    team = made.json()
    where = f"/api/admin/teams/{team['id']}"
    assert ada.get(where).json() == team
    changed = ada.patch(where, json={"requests_per_minute": 60})
    assert changed.json() == {**team, "requests_per_minute": 60}
    listed = ada.get("/api/admin/teams", params={"cost_centre": "4711"}).json()
    assert [row["id"] for row in listed["data"]] == [team["id"]]
    assert ada.delete(where).status_code == 200
    assert ada.get(where).status_code == 404
    audited = gateway.query("SELECT action FROM accounts_auditentry WHERE action LIKE 'team.%'")
    assert [row["action"] for row in audited] == ["team.added", "team.changed", "team.removed"]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("teams", {}, "name"),
        ("teams", {"name": "x", "nmae": "y"}, "nmae"),
        ("teams", {"name": "x", "requests_per_minute": -1}, "requests_per_minute"),
        ("teams", {"name": "x", "requests_per_minute": "many"}, "requests_per_minute"),
        ("teams", {"name": "x", "lead_id": 999}, "lead"),
        ("teams", {"name": "x", "max_effort": "huge"}, "max_effort"),
        ("raises", {"key_id": 1, "period": "day", "extra_nano_aiu": 1}, "reason"),
        ("keys", {"name": "", "owner_id": 1}, "name"),
    ],
)
def test_bad_values_are_named(
    ada: httpx.Client, path: str, body: dict[str, Any], param: str
) -> None:
    answer = ada.post(f"/api/admin/{path}", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"[" * 5000])
def test_broken_bodies_are_a_400(ada: httpx.Client, body: bytes) -> None:
    answer = ada.post("/api/admin/teams", content=body)
    assert answer.status_code == 400, answer.text
    assert "error" in answer.json()


def test_a_key_is_made_rotated_extended_and_revoked(ada: httpx.Client, team_gateway: Any) -> None:
    gateway, _, ids = team_gateway
    made = ada.post(
        "/api/admin/keys",
        json={"name": "ci", "owner_id": ids["ben"], "requests_per_minute": 7},
    ).json()
    assert made["secret"].startswith("cgw_")
    assert "secret" not in ada.get(f"/api/admin/keys/{made['id']}").json()
    rotated = ada.post(f"/api/admin/keys/{made['id']}/rotate", json={"grace_h": 1}).json()
    assert rotated["secret"] != made["secret"]
    assert rotated["requests_per_minute"] == 7
    assert rotated["replaces_id"] == made["id"]
    old = ada.get(f"/api/admin/keys/{made['id']}").json()
    assert old["expires_at"] is not None
    until = "2031-01-01T00:00:00Z"
    moved = ada.post(f"/api/admin/keys/{rotated['id']}/extend", json={"until": until}).json()
    assert moved["expires_at"].startswith("2031-01-01")
    gone = ada.post(f"/api/admin/keys/{rotated['id']}/revoke").json()
    assert gone["revoked_at"] is not None
    with gateway.client(headers=bearer(rotated["secret"])) as client:
        assert client.get("/v1/models").status_code == 401
    again = ada.post(f"/api/admin/keys/{rotated['id']}/rotate", json={})
    assert again.status_code == 409


def test_a_personal_account_serves_no_other_members_key(
    ada: httpx.Client, team_gateway: Any
) -> None:
    _, _, ids = team_gateway
    account = ada.get("/api/admin/accounts").json()["data"][0]
    answer = ada.post(
        "/api/admin/keys",
        json={"name": "x", "owner_id": ids["ben"], "account_id": account["id"]},
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "account_id"


def test_a_key_is_not_changed_to_another_members_account_nor_to_store_for_ever(
    ada: httpx.Client, team_gateway: Any
) -> None:
    _, _, ids = team_gateway
    key = next(
        row for row in ada.get("/api/admin/keys").json()["data"] if row["owner_id"] == ids["ben"]
    )
    account = next(row for row in ada.get("/api/admin/accounts").json()["data"] if row["owner_id"])
    for change, param in (
        ({"account_id": account["id"]}, "account_id"),
        ({"stores_bodies_until": "2199-01-01T00:00:00Z"}, "stores_bodies_until"),
    ):
        answer = ada.patch(f"/api/admin/keys/{key['id']}", json=change)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["param"] == param


def test_an_account_is_paused_and_resumed(ada: httpx.Client) -> None:
    account = ada.get("/api/admin/accounts").json()["data"][0]
    where = f"/api/admin/accounts/{account['id']}"
    paused = ada.post(f"{where}/pause", json={"reason": "holiday"}).json()
    assert (paused["state"], paused["state_reason"]) == ("paused", "holiday")
    assert ada.post(f"{where}/unfreeze").status_code == 409
    assert ada.post(f"{where}/resume").json()["state"] == "active"


def test_no_answer_holds_a_secret(ada: httpx.Client, description: dict[str, Any]) -> None:
    saved = ada.post(
        "/api/admin/apps",
        json={"name": "app", "issuer": "Iv1.x", "private_key": "-----BEGIN SECRET-----"},
    ).json()
    assert saved["has_private_key"] is True
    for path in {p for p in description["paths"] if "{" not in p and "export" not in p}:
        if "get" in description["paths"][path]:
            text = ada.get(path).text
            assert "BEGIN SECRET" not in text
            assert "ghu_octocat" not in text
            assert not any(f'"{name}":' in text for name in SECRETS), path


def test_usage_is_listed_summed_and_exported(ada: httpx.Client, team_gateway: Any) -> None:
    gateway, _, _ = team_gateway
    answer = ada.post(
        "/v1/chat/completions",
        json={"model": "gpt-5.4", "messages": [{"role": "user", "content": "hello"}]},
    )
    assert answer.status_code == 200, answer.text
    exchange = answer.headers["x-request-id"]
    gateway.wait_for_records(1)
    listed = ada.get("/api/admin/usage/records", params={"range": "24h"}).json()
    assert f"req_{listed['data'][0]['id']}" == exchange
    one = ada.get(f"/api/admin/usage/records/{exchange}").json()
    assert one["nano_aiu"] > 0
    sums = ada.get("/api/admin/usage/groups/member").json()
    assert sum(line["nano_aiu"] for line in sums["data"]) >= one["nano_aiu"]
    exported = ada.get("/api/admin/usage/export.json").json()
    assert one["id"] in [row["id"] for row in exported]
    assert ada.get("/api/admin/usage/groups/nothing").status_code == 404
    assert ada.get("/api/admin/usage/records", params={"after": "x"}).status_code == 400


def test_pages_of_rows_go_on_where_the_last_one_ended(ada: httpx.Client) -> None:
    for name in ("a", "b", "c"):
        assert ada.post("/api/admin/pools", json={"name": name}).status_code == 201
    first = ada.get("/api/admin/pools", params={"limit": 2}).json()
    second = ada.get("/api/admin/pools", params={"limit": 2, "after": first["next"]}).json()
    assert [row["name"] for row in first["data"] + second["data"]] == ["a", "b", "c"]
    assert second["next"] is None
    for query in ({"limit": "0"}, {"limit": "x"}, {"colour": "red"}, {"after": "x"}):
        assert ada.get("/api/admin/pools", params=query).status_code == 400


def test_people_are_invited_given_roles_and_disabled(ada: httpx.Client, team_gateway: Any) -> None:
    gateway, _, ids = team_gateway
    made = ada.post("/api/admin/invites", json={"email": "eve@example.org", "role": "auditor"})
    assert made.status_code == 201, made.text
    invite = made.json()
    with gateway.client() as visitor:
        page = visitor.get(invite["link"].split("/", 3)[3], headers={"accept": "text/html"})
        assert page.status_code == 200
    assert "token" not in ada.get(f"/api/admin/invites/{invite['id']}").json()
    assert ada.post(f"/api/admin/invites/{invite['id']}/revoke").status_code == 200
    assert ada.post(f"/api/admin/invites/{invite['id']}/revoke").status_code == 409

    new = ada.post("/api/admin/keys", json={"name": "b", "owner_id": ids["ben"]}).json()
    where = f"/api/admin/members/{ids['ben']}"
    assert ada.post(f"{where}/role", json={"role": "auditor"}).json()["is_auditor"] is True
    assert ada.post(f"{where}/role", json={"role": "member"}).json()["is_auditor"] is False
    assert ada.post(f"{where}/role", json={"role": "king"}).status_code == 400
    assert ada.post(f"{where}/disable", json={"why": "left"}).json()["is_active"] is False
    with gateway.client(headers=bearer(new["secret"])) as client:
        assert client.get("/v1/models").status_code == 401
    assert ada.post(f"{where}/enable").json()["is_active"] is True
    own = f"/api/admin/members/{ids['ada']}"
    assert ada.post(f"{own}/role", json={"role": "member"}).status_code == 409


def test_rows_keep_the_rules_of_their_pages(ada: httpx.Client) -> None:
    for path, body, param in (
        ("model-policies", {"model": "a b"}, "model"),
        ("model-policies", {"model": "gpt-5.4", "fallback": "gpt-5.4"}, "fallback"),
        ("approval-rules", {"name": "x", "outside_hours": "whenever"}, "outside_hours"),
        ("teams", {"name": "x", "office_hours": "Mon-Fri 8-19"}, "office_hours"),
        ("channels", {"name": "x", "kind": "webhook", "address": "file:///etc"}, "address"),
        ("channels", {"name": "x", "kind": "webhook", "address": "http://10.0.0.1/"}, "address"),
    ):
        answer = ada.post(f"/api/admin/{path}", json=body)
        assert answer.status_code == 400, (path, body, answer.text)
        assert answer.json()["error"]["param"] == param


def test_a_seat_of_a_person_joins_no_pool(ada: httpx.Client) -> None:
    account = ada.get("/api/admin/accounts").json()["data"][0]
    pool = ada.post("/api/admin/pools", json={"name": "seats"}).json()
    where = f"/api/admin/accounts/{account['id']}/pool"
    answer = ada.post(where, json={"pool_id": pool["id"]})
    assert answer.status_code == (200 if account["owner_id"] is None else 409)
    assert ada.post(where, json={"pool_id": 999}).status_code == 400
    assert ada.post(where, json={"pool_id": None}).status_code == 200
