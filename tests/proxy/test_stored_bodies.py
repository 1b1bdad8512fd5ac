"""Bodies are stored for keys that ask, for as long as they ask, and for no other."""

import json
from typing import Any

import pytest

from simulator.testing import SimulatorThread
from tests.conftest import Gateway
from tests.proxy.test_keys_and_limits import bearer

ASK = """
from datetime import timedelta
from django.utils.timezone import now
from accounts import key_changes, keys
from accounts.members import solo_member
for name, days in (("keeps", 1), ("ended", -1), ("plain", None)):
    key, secret = keys.create(name, solo_member())
    if days:
        key_changes.store_bodies(key, now() + timedelta(days=days), actor="tests")
    print("KEY", name, secret)
"""
READ = """
import json
from usage.models import StoredBody
rows = StoredBody.objects.order_by("stored_at")
print("@@" + json.dumps([
    [r.exchange_id, r.request.reveal(), r.response.reveal(), r.is_cut] for r in rows
]))
"""


@pytest.fixture(scope="module")
def keys(shared_gateway: Gateway) -> dict[str, str]:
    made = shared_gateway.manage("shell", "-c", ASK).stdout
    found = [line.split() for line in made.splitlines() if line.startswith("KEY")]
    with shared_gateway.client(headers=bearer(found[-1][2])) as client:
        assert shared_gateway.wait_for(lambda: client.get("/v1/models").status_code == 200, 5)
    return {name: secret for _, name, secret in found}


def stored(gateway: Gateway) -> list[list[Any]]:
    done = gateway.manage("shell", "--no-imports", "-c", READ)
    found: list[list[Any]] = json.loads(done.stdout.rpartition("@@")[2])
    return found


def test_bodies_of_streams_and_whole_answers_are_kept_where_a_key_asks(
    gateway: Gateway, simulator: SimulatorThread, keys: dict[str, str]
) -> None:
    ids = []
    for name in ("plain", "ended", "keeps"):
        with gateway.client(headers=bearer(keys[name])) as client:
            for stream in (False, True):
                answer = client.post(
                    "/v1/chat/completions",
                    json={
                        "model": "gpt-4.1",
                        "stream": stream,
                        "messages": [{"role": "user", "content": f"tea of {name} sk-abcdefgh1234"}],
                    },
                )
                assert answer.status_code == 200
                ids.append((answer.headers["x-request-id"].removeprefix("req_"), answer.text))
    gateway.wait_for(
        lambda: gateway.query("SELECT count(*) AS n FROM usage_storedbody")[0]["n"] >= 2
    )
    rows = stored(gateway)
    assert [row[0] for row in rows] == [id_ for id_, _ in ids[-2:]]
    for (_, request, response, is_cut), (_, text) in zip(rows, ids[-2:], strict=True):
        assert "tea of keeps" in request
        assert "sk-abcdefgh1234" not in request
        assert response == text.replace("sk-abcdefgh1234", "[redacted]")
        assert is_cut is False
    files = b"".join(p.read_bytes() for p in gateway.data_dir.rglob("*") if p.is_file())
    assert b"tea of" not in files
