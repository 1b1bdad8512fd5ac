"""GitHub's answers through a socket: what is read, and what is said when it refuses."""

import asyncio
from typing import Any

import pytest

from accounts import github, refusals
from accounts.errors import GitHubRefused
from simulator.testing import SimulatorThread

EXCHANGE = "/copilot_internal/v2/token"
TOKEN = "ghu_octocat"


async def refused(token: str = TOKEN) -> GitHubRefused:
    with pytest.raises(GitHubRefused) as caught:
        await github.exchange(token)
    assert token not in caught.value.message
    assert token not in str(caught.value)
    assert len(caught.value.message) < 500
    return caught.value


async def test_the_exchange_is_asked_as_an_editor_asks(simulator: SimulatorThread) -> None:
    answer = await github.exchange(TOKEN)

    assert answer["token"].startswith("tid=")
    sent = simulator.received_on(EXCHANGE)[-1].headers
    assert sent["authorization"] == "token ghu_octocat"
    assert sent["x-github-api-version"] == "2025-04-01"
    assert sent["user-agent"] == "GitHubCopilotChat/0.68.0"
    assert sent["editor-version"] == "vscode/1.140.0"
    assert sent["editor-plugin-version"] == "copilot-chat/0.68.0"


async def test_whose_token_it_is(simulator: SimulatorThread) -> None:
    user = await github.whoami(TOKEN)
    document = await github.account_document(TOKEN)

    assert (user["login"], user["id"]) == ("octocat", 583231)
    assert document["copilot_plan"] == "individual_pro"
    assert simulator.received_on("/user")[-1].headers["x-github-api-version"] == "2022-11-28"


@pytest.mark.parametrize("notification_id", sorted(refusals.BY_NOTIFICATION))
async def test_every_reason_of_the_403_has_words_and_a_next_step(
    simulator: SimulatorThread, notification_id: str
) -> None:
    simulator.play("exchange_denied", notification_id=notification_id)

    error = await refused()

    assert (error.status, error.reason) == (403, notification_id)
    assert error.message == refusals.BY_NOTIFICATION[notification_id]


async def test_an_unknown_reason_is_shown_in_githubs_own_words(
    simulator: SimulatorThread,
) -> None:
    simulator.play("exchange_denied", notification_id="moon_phase")

    error = await refused()

    assert error.reason == "moon_phase"
    assert "Access to Copilot is refused: moon_phase" in error.message


async def test_a_revoked_token_means_signing_in_again(simulator: SimulatorThread) -> None:
    error = await refused("ghu_revoked")

    assert (error.status, error.reason) == (401, refusals.REVOKED)
    assert "Sign in again" in error.message


@pytest.mark.parametrize("code", [403, 429])
async def test_a_rest_limit_is_no_lack_of_a_seat(simulator: SimulatorThread, code: int) -> None:
    message = "API rate limit exceeded for user ID 1234567."
    simulator.play("rest_error", code=code, message=message)

    error = await refused()

    assert (error.status, error.reason) == (code, refusals.RATE_LIMITED)
    assert error.retry_after_s == github.DEFAULT_RATE_LIMIT_WAIT_S


@pytest.mark.parametrize(
    ("header", "expected"),
    [("7", 7.0), ("0.5", 0.5), ("-3", None), ("soon", None), ("1e9", None), ("nan", None)],
)
async def test_retry_after_is_obeyed_when_it_is_plausible(
    simulator: SimulatorThread, header: str, expected: float | None
) -> None:
    simulator.play("status", code=503, retry_after=header, match={"path": EXCHANGE})

    error = await refused()

    assert error.status == 503
    assert error.retry_after_s == expected


async def test_a_hidden_exchange_names_the_kind_of_token(simulator: SimulatorThread) -> None:
    simulator.add_account("octocat", refusal="hidden")

    error = await refused()

    assert (error.status, error.reason) == (404, refusals.NOT_ALLOWED)
    assert "Copilot Requests" in error.message


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            "unauthorized: Personal Access Token does not have Copilot Requests permission",
            refusals.PAT_WITHOUT_PERMISSION,
        ),
        (
            "bad request: Personal Access Tokens are not supported for this endpoint",
            refusals.PAT_UNSUPPORTED,
        ),
    ],
)
async def test_personal_tokens_hear_what_they_lack(
    simulator: SimulatorThread, message: str, words: str
) -> None:
    simulator.play("rest_error", code=401, message=message)

    assert (await refused()).message == words


@pytest.mark.parametrize("name", ["html_200", "empty_200", "broken_json_200", "json_200"])
async def test_an_answer_without_a_token_is_an_error(simulator: SimulatorThread, name: str) -> None:
    simulator.play(name, match={"path": EXCHANGE})

    assert (await refused()).reason == refusals.UNREADABLE


@pytest.mark.parametrize("body", ['{"token": ""}', '{"token": 5}', '{"token": "a\\nb"}', "[1]"])
async def test_a_token_that_cannot_be_sent_is_an_error(
    simulator: SimulatorThread, body: str
) -> None:
    simulator.play("json_200", body=body, match={"path": EXCHANGE})

    assert (await refused()).reason == refusals.UNREADABLE


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("error_500_html", {}),
        ("huge_error", {"code": 500}),
        ("redirect", {}),
        ("leaky_error", {"code": 500}),
        ("status", {"code": 418}),
    ],
)
async def test_an_incident_is_told_without_githubs_page(
    simulator: SimulatorThread, name: str, args: dict[str, Any]
) -> None:
    simulator.play(name, match={"path": EXCHANGE}, **args)

    error = await refused()

    assert "<" not in error.message
    assert error.reason in {refusals.INCIDENT, refusals.UNREADABLE}
    # A redirect is not followed: the token goes nowhere else.
    assert len(simulator.received) == 1


@pytest.mark.parametrize("name", ["reset_before", "close_before", "garbage", "hang"])
async def test_a_github_that_is_away_is_told_in_time(
    simulator: SimulatorThread, settings: Any, name: str
) -> None:
    settings.GATEWAY_GITHUB_TIMEOUT_S = 0.3
    simulator.play(name, match={"path": EXCHANGE})

    error = await refused()

    assert (error.status, error.reason) == (0, refusals.UNREACHABLE)


async def test_a_body_that_stops_ends_at_the_limit(settings: Any) -> None:
    async def stop_in_the_middle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"token": "tid')
        await writer.drain()
        await gone.wait()
        writer.close()

    gone = asyncio.Event()
    server = await asyncio.start_server(stop_in_the_middle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings.GITHUB_API_URL = f"http://127.0.0.1:{port}"
    settings.GATEWAY_GITHUB_TIMEOUT_S = 0.3
    try:
        assert (await refused()).reason == refusals.UNREACHABLE
    finally:
        gone.set()
        server.close()
        await server.wait_closed()


async def test_a_text_that_quotes_the_token_is_scrubbed(simulator: SimulatorThread) -> None:
    simulator.play(
        "status",
        code=403,
        body='{"message": "Bearer ghu_octocat and tid=1;exp=2 may not"}',
        match={"path": EXCHANGE},
    )

    error = await refused()

    assert "tid=1" not in error.message
    assert "[secret]" in error.message


async def test_the_device_flow_reads_forms_and_json(simulator: SimulatorThread) -> None:
    body = "error=slow_down&interval=10&error_description=Too+many"
    path = "/login/oauth/access_token"
    simulator.play(
        "status",
        code=200,
        body=body,
        content_type="application/x-www-form-urlencoded",
        match={"path": path},
        times=1,
    )

    assert (await github.poll_device_flow("x"))["interval"] == "10"
    assert (await github.poll_device_flow("x"))["error"] == "incorrect_device_code"
    assert simulator.received_on(path)[-1].headers["accept"] == "application/json"


async def test_a_client_id_that_github_does_not_know_is_told(
    simulator: SimulatorThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator.play(
        "json_200", body='{"error": "device_flow_disabled"}', match={"path": "/login/device/code"}
    )

    with pytest.raises(GitHubRefused) as caught:
        await github.start_device_flow()

    assert caught.value.message == refusals.BY_DEVICE_ERROR["device_flow_disabled"]


async def test_only_githubs_own_hosts_are_asked(simulator: SimulatorThread, settings: Any) -> None:
    settings.GITHUB_API_URL = "https://api.github.com"

    for host in ("evil.example", "ghe.com", "a.b.ghe.com", "x.ghe.com.evil.example", "..ghe.com"):
        with pytest.raises(GitHubRefused) as caught:
            await github.exchange(TOKEN, host=host)
        assert caught.value.reason == "unknown_host"
    assert simulator.received == []


@pytest.mark.parametrize(
    ("token", "kind", "credential_kind"),
    [
        ("ghu_x", "ghu", "exchange"),
        ("gho_x", "gho", "direct"),
        ("github_pat_x", "github_pat", "direct"),
        ("ghs_x", "ghs", "direct"),
        ("0123abcd", "unknown", "exchange"),
    ],
)
def test_the_prefix_tells_the_way_of_a_token(token: str, kind: str, credential_kind: str) -> None:
    assert github.token_kind(token) == kind
    assert github.credential_kind_for(kind) == credential_kind
    assert github.check_token(f"  {token}\n") == token


@pytest.mark.parametrize("text", ["ghp_classic", "tid=1;exp=2", "", "ghu_a b", "ghu_ä", "x" * 2000])
def test_what_can_never_work_is_refused_at_once(text: str) -> None:
    with pytest.raises(GitHubRefused) as caught:
        github.check_token(text)

    assert caught.value.reason == refusals.UNUSABLE
    assert not text or text not in caught.value.message
