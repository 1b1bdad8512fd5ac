"""Websocket handshakes on the API, by a client that really opens one."""

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.conftest import Gateway


@pytest.mark.parametrize(
    ("path", "status"), [("/v1/responses", 426), ("/responses", 426), ("/v1/nothing", 404)]
)
def test_a_websocket_asked_of_the_api_gets_the_answer_of_a_get(
    gateway: Gateway, path: str, status: int
) -> None:
    # Codex falls back to HTTP at once on 426, and after seven attempts on anything else.
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{gateway.port}{path}", proxy=None)
    assert refused.value.response.status_code == status
    assert b'"error"' in (refused.value.response.body or b"")
    # The handshake leaves nothing behind: the next request is served.
    with gateway.client() as client:
        assert client.get("/v1/models").status_code == 200
