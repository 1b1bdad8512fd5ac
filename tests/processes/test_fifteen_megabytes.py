"""Bodies as large as anybody's, well meant or not: they hold nobody up and leave nothing behind."""

import json
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from simulator.testing import SimulatorThread
from tests.conftest import Gateway
from tests.processes.observing import CHAT, chat, loop_cpu_s, memory_kib

pytestmark = pytest.mark.timeout(240)

FIFTEEN_MB = {
    "text": json.dumps(chat("x" * 15_000_000)).encode(),
    "escapes": json.dumps(chat('ä"\n' * 1_400_000)).encode(),
    "characters": json.dumps(chat("ä€" * 3_000_000), ensure_ascii=False).encode(),
    "no JSON": b"{" + random.Random(1).randbytes(15_000_000),
    "values": json.dumps(chat(x=[1] * 5_000_000)).encode(),
}


@pytest.mark.parametrize("raw", FIFTEEN_MB.values(), ids=FIFTEEN_MB)
def test_p19_p15_bodies_of_15_mb_hold_no_stream_and_leave_no_memory_behind(
    solo: Gateway, simulator: SimulatorThread, raw: bytes
) -> None:
    pid, rounds = solo.process.pid, []
    with solo.client() as client, solo.client() as other, ThreadPoolExecutor(1) as pool:

        def post() -> int:
            return client.post(CHAT, content=raw).status_code

        assert post() == 400
        resident = memory_kib(pid)
        for _ in range(6):
            doing, worst = pool.submit(post), 0.0
            while not doing.done():
                before = loop_cpu_s(pid)
                assert other.get("/healthz").status_code == 200
                worst = max(worst, loop_cpu_s(pid) - before)
            # Read and refused by us, or by an upstream that finds it too long.
            assert doing.result() == 400
            rounds.append(worst)
    # A machine that is busy with other things makes some of them longer.
    assert min(rounds) < 0.1, rounds
    # Each left up to 50 MB in what only the collector frees.
    assert memory_kib(pid) - resident < 60_000
