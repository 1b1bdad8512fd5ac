"""Clients that hang up once they have all: Codex does so at `response.completed`."""

from typing import Any

from tests.conftest import Gateway
from tests.proxy.conftest import WIRES


def test_a_client_that_leaves_after_the_last_word_has_got_its_answer(
    gateway: Gateway, last_record: Any
) -> None:
    wire = WIRES["responses"]
    # When all is said, the upstream keeps the connection open and is silent.
    body = wire.body("hi [[double_done]] [[stall at=after_end]]", "gpt-5.5")
    with gateway.client() as client, client.stream("POST", wire.path, json=body) as answer:
        for line in answer.iter_lines():
            if line == "event: response.completed":
                break
        left = answer.headers["x-request-id"]

    record = last_record(id=left.removeprefix("req_"))
    assert record["outcome"] == "completed"
    assert record["output_tokens"] > 0
    assert not record["usage_estimated"]
