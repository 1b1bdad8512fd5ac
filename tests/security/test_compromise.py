"""X16: one command takes back all that opens something, and says how much that was."""

import re
from collections.abc import Callable

from simulator.testing import SimulatorThread
from tests.conftest import Gateway

CHAT = {"model": "gpt-4.1", "messages": [{"role": "user", "content": "hello"}]}
PREPARE = """
from accounts import invites, links
from accounts.members import solo_member
invites.make(actor=solo_member())
links.make(solo_member())
"""


def test_x16_one_command_revokes_everything_and_reports(
    new_gateway: Callable[..., Gateway], simulator: SimulatorThread
) -> None:
    gateway = new_gateway("--require-keys")
    keys = [gateway.manage("create-key", name).stdout.strip() for name in ("one", "two")]
    gateway.manage("revoke-key", keys[1][:12])
    gateway.manage("shell", "--no-imports", "-c", PREPARE)
    bearer = {"authorization": f"Bearer {keys[0]}"}
    with gateway.client() as client, gateway.client(headers=bearer) as tool:
        client.get(gateway.sign_in_link)
        assert client.get("/dashboard/").status_code == 200
        assert tool.post("/v1/chat/completions", json=CHAT).status_code == 200
        exchanges = simulator.exchanges("octocat")

        done = gateway.manage("revoke-everything", "--yes")

        found = re.findall(r"(\d+)  ([a-z ]+)\n", done.stdout)
        said = {word: int(count) for count, word in found}
        assert said["api keys"] == 1
        assert said["sessions"] == 1
        assert said["sign in links"] == 1
        assert said["invites"] == 1
        assert said["copilot tokens"] == 1
        assert said["accounts signed out"] == 0
        assert "Settings, Applications" in done.stderr
        refused = gateway.wait_for(
            lambda: tool.post("/v1/chat/completions", json=CHAT).status_code == 401, 3
        )
        assert refused
        assert client.get("/dashboard/").status_code == 302

        new = gateway.manage("create-key", "after").stdout.strip()
        again = client.post(
            "/v1/chat/completions", json=CHAT, headers={"authorization": f"Bearer {new}"}
        )
        assert again.status_code == 200
    # The Copilot token of before is used by nobody any more.
    assert simulator.exchanges("octocat") == exchanges + 1
    rows = gateway.query("SELECT * FROM accounts_auditentry WHERE action = 'everything.revoked'")
    assert [row["actor"] for row in rows] == ["terminal"]
    revoked = gateway.query("SELECT * FROM accounts_auditentry WHERE action = 'key.revoked'")
    assert len(revoked) == 2


def test_x16_accounts_are_signed_out_when_that_is_asked_for(
    new_gateway: Callable[..., Gateway], simulator: SimulatorThread
) -> None:
    gateway = new_gateway()
    with gateway.client() as client:
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 200

        gateway.manage("revoke-everything", "--yes", "--sign-out-accounts")

        gone = gateway.wait_for(
            lambda: client.post("/v1/chat/completions", json=CHAT).status_code == 503, 3
        )
        assert gone
    row = gateway.query("SELECT * FROM accounts_account")[0]
    assert (row["github_token"], row["copilot_token"]) == ("", "")
    assert row["state"] == "needs_sign_in"


def test_x16_nothing_happens_unasked(gateway: Gateway) -> None:
    before = gateway.query("SELECT count(*) AS n FROM accounts_auditentry")

    done = gateway.manage("revoke-everything", check=False)

    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert gateway.query("SELECT count(*) AS n FROM accounts_auditentry") == before
