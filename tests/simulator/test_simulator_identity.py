"""Device sign-in, the token exchange and the quota document, over a socket."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest

CLIENT = "Iv1.b507a08c87ecfe98"
GRANT = "urn:ietf:params:oauth:grant-type:device_code"
JSON = {"accept": "application/json"}


def start(copilot, client_id=CLIENT):
    body = {"client_id": client_id, "scope": "read:user"}
    return copilot.http.post("/login/device/code", json=body, headers=JSON).json()


def poll(copilot, code, client_id=CLIENT):
    body = {"client_id": client_id, "device_code": code["device_code"], "grant_type": GRANT}
    answer = copilot.http.post("/login/oauth/access_token", data=body, headers=JSON)
    assert answer.status_code == 200
    return answer.json()


def test_a_sign_in_goes_from_pending_to_a_token_that_works(simulator, copilot):
    simulator.config(device_interval_s=0)
    code = start(copilot)
    assert code["verification_uri"] == f"{simulator.url}/login/device"
    assert poll(copilot, code)["error"] == "authorization_pending"

    simulator.approve_device("mona")
    token = poll(copilot, code)["access_token"]

    assert token.startswith("ghu_")
    assert copilot.rest("/user", token).json()["login"] == "mona"
    assert poll(copilot, code)["error"] == "incorrect_device_code"


def test_an_impatient_poll_slows_the_whole_flow_down(simulator, copilot):
    code = start(copilot)
    assert code["interval"] == 5
    first, second = poll(copilot, code), poll(copilot, code)
    assert (first["error"], first["interval"]) == ("slow_down", 10)
    assert (second["error"], second["interval"]) == ("slow_down", 15)


def test_a_sign_in_is_denied_or_expires(simulator, copilot):
    simulator.config(device_interval_s=0)
    denied = start(copilot)
    simulator.deny_device()
    assert poll(copilot, denied)["error"] == "access_denied"

    late = start(copilot)
    simulator.config(clock_offset_s=900)
    assert poll(copilot, late)["error"] == "expired_token"


def test_without_accept_json_github_answers_with_a_form(simulator, copilot):
    answer = copilot.http.post(
        "/login/device/code", json={"client_id": CLIENT}, headers={"accept": "*/*"}
    )
    assert answer.headers["content-type"].startswith("application/x-www-form-urlencoded")
    assert "user_code" in parse_qs(answer.text)


def test_a_person_approves_on_the_page_and_the_demo_by_itself(simulator, copilot):
    simulator.config(device_interval_s=0)
    code = start(copilot)
    page = copilot.http.get("/login/device", params={"user_code": code["user_code"]})
    assert code["user_code"] in page.text
    form = {"user_code": code["user_code"], "login": "mona", "answer": "approve"}
    assert "Signed in as mona" in copilot.http.post("/login/device", data=form).text
    assert "access_token" in poll(copilot, code)

    simulator.config(device_auto_approve_s=0)
    assert "access_token" in poll(copilot, start(copilot))


def test_an_unknown_client_is_refused_and_a_third_party_gets_no_copilot(simulator, copilot):
    assert start(copilot, "made-up")["error"] == "Not Found"

    simulator.config(device_interval_s=0)
    code = start(copilot, "Ov23liSelfMade")
    simulator.approve_device()
    token = poll(copilot, code, "Ov23liSelfMade")["access_token"]
    assert copilot.rest("/copilot_internal/v2/token", token).status_code == 404
    assert copilot.rest("/copilot_internal/user", token).status_code == 404


def test_the_exchange_gives_a_token_that_expires_by_the_upstreams_clock(simulator, copilot):
    document = copilot.rest("/copilot_internal/v2/token").json()
    assert document["token"].startswith("tid=")
    assert document["endpoints"]["api"] == simulator.url
    assert document["refresh_in"] == 1500

    copilot.bearer = document["token"]
    assert copilot.chat().status_code == 200
    simulator.config(clock_offset_s=1801)
    answer = copilot.chat()
    assert (answer.status_code, answer.text) == (401, "unauthorized: token expired\n")
    assert answer.headers["content-type"].startswith("text/plain")


def test_every_exchange_gives_another_token_and_is_counted(simulator, copilot):
    first, second = copilot.exchange(), copilot.exchange()
    assert first != second
    assert simulator.exchanges("octocat") == 2
    copilot.bearer = first
    assert copilot.chat().status_code == 200
    assert simulator.revoke_copilot_tokens() == 2
    assert copilot.chat().status_code == 401


@pytest.mark.parametrize(
    ("token", "exchange", "bearer"),
    [
        ("ghu_octocat", 200, 200),
        ("gho_opencode", 404, 200),
        ("github_pat_ok", 404, 200),
        ("github_pat_noperm", 404, 401),
        ("ghp_classic", 404, 400),
        ("ghs_install", 404, 200),
        ("ghu_noseat", 403, 403),
        ("ghu_revoked", 401, 401),
        ("ghu_unknown", 401, 401),
    ],
)
def test_each_kind_of_token_does_what_its_prefix_allows(copilot, token, exchange, bearer):
    assert copilot.rest("/copilot_internal/v2/token", token).status_code == exchange
    copilot.bearer = token
    assert copilot.chat().status_code == bearer


def test_a_refused_exchange_tells_why(simulator, copilot):
    document = copilot.rest("/copilot_internal/v2/token", "ghu_noseat").json()
    assert document["error_details"]["notification_id"] == "no_copilot_access"

    simulator.play("exchange_denied", notification_id="billing_locked", times=1)
    denied = copilot.rest("/copilot_internal/v2/token")
    assert denied.json()["error_details"]["notification_id"] == "billing_locked"
    assert copilot.rest("/copilot_internal/v2/token").status_code == 200


def test_the_rest_front_is_strict_about_its_own_headers(copilot):
    path = "/copilot_internal/v2/token"
    assert copilot.rest(path, user_agent="").status_code == 403
    assert copilot.rest(path, x_github_api_version="2026-08-01").status_code == 400
    assert copilot.rest(path, x_github_api_version="2025-04-01").status_code == 200


def test_an_exchange_answer_may_drift(simulator, copilot):
    simulator.config(token_body_drop=["endpoints", "sku"], token_body={"refresh_in": -1, "new": 1})
    document = copilot.rest("/copilot_internal/v2/token").json()
    assert "endpoints" not in document
    assert (document["refresh_in"], document["new"]) == (-1, 1)


def test_quota_documents_differ_by_plan(simulator, copilot):
    path = "/copilot_internal/user"
    pro = copilot.rest(path).json()["quota_snapshots"]["premium_interactions"]
    assert (pro["entitlement"], pro["remaining"], pro["has_quota"]) == (3900, 3900, True)

    pooled = copilot.rest(path, "ghu_mona").json()["quota_snapshots"]["premium_interactions"]
    assert (pooled["entitlement"], pooled["percent_remaining"]) == (0, 100.0)
    assert pooled["credits_used"] == 169.8

    free = copilot.rest(path, "ghu_free").json()
    assert free["monthly_quotas"] == {"chat": 50, "completions": 2000}
    assert "quota_snapshots" not in free


def test_overage_is_negative_and_numbers_may_be_text(simulator, copilot):
    simulator.add_account(
        "octocat",
        credits_used=4000,
        overage_permitted=True,
        entitlement_as_text=True,
        reset_at_unknown=True,
        user_host="http://api.other.example",
    )
    document = copilot.rest("/copilot_internal/user").json()
    quota = document["quota_snapshots"]["premium_interactions"]
    assert quota["entitlement"] == "3900"
    assert (quota["remaining"], quota["quota_reset_at"]) == (-100, 0)
    assert quota["percent_remaining"] < 0
    assert document["endpoints"]["api"] == "http://api.other.example"
