"""What a finished exchange leaves behind."""

import sys
from functools import partial

import pytest
from django.test import RequestFactory

from proxy.exchange import LIVE, Exchange
from tests.proxy.test_models_rules import CALLER


@pytest.mark.parametrize("outcome", ["completed", "cancelled", "upstream_error"])
async def test_nothing_holds_a_finished_exchange(outcome: str) -> None:
    request = RequestFactory().post(
        "/v1/chat/completions", data=b"{}", content_type="application/json"
    )
    exchange = Exchange.begin(request, "chat_completions", CALLER)
    exchange.records = False
    exchange.enter()
    # What it holds of the limits knows it, as the gates' leases do.
    exchange.leases.append(partial(exchange.drop, "a lease"))

    exchange.finish(outcome, 200)

    assert exchange.id not in LIVE
    assert exchange.dropped == ["a lease"]
    # This frame's and the argument's: otherwise it would wait for the collector, with its body.
    assert sys.getrefcount(exchange) == 2
