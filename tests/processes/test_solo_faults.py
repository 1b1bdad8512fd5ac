"""A gateway alone on a machine: killed at any moment, its database locked, its disk full."""

import json
import os
import random
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress

import httpx
import pytest

from simulator.testing import SimulatorThread
from tests.conftest import Gateway
from tests.processes.observing import CHAT, KINDS, Stream, chat, files_of, private_mib

MakeGateway = Callable[..., Gateway]


def rollup_requests(gateway: Gateway) -> int:
    """Requests as the hourly sums count them; each stands in one row."""
    return int(gateway.query("SELECT coalesce(sum(requests), 0) AS n FROM usage_rollup")[0]["n"])


def new_records(gateway: Gateway, before: set[str]) -> list[dict[str, object]]:
    return [r for r in gateway.records() if r["id"] not in before]


def ids(gateway: Gateway) -> set[str]:
    return {str(r["id"]) for r in gateway.records()}


def test_p01_killed_at_any_moment_every_request_that_was_sent_up_has_one_record(
    solo: Gateway, simulator: SimulatorThread
) -> None:
    """Requests of all kinds begin, stream and end while the process is killed three times."""
    count = len(solo.records())
    with solo.client() as client:
        # Its token is good afterwards: nothing is sent up twice.
        assert client.post(CHAT, json=chat()).status_code == 200
    assert len(solo.wait_for_records(count + 1)) == count + 1
    before = ids(solo)
    simulator.reset(keep_tokens=True)
    simulator.play("drip", chunks=6, delay=0.03)
    moments = random.Random(4)
    answered: list[str] = []
    rounds = 3
    for _ in range(rounds):

        def ask(number: int) -> None:
            path, body = KINDS[number % len(KINDS)]
            with suppress(httpx.HTTPError), solo.client() as client:
                for _ in range(4):
                    answer = client.post(path, json=body)
                    answered.append(answer.headers["x-request-id"].removeprefix("req_"))

        with ThreadPoolExecutor(12) as pool:
            running = [pool.submit(ask, number) for number in range(24)]
            time.sleep(moments.uniform(0.2, 1.5))
            solo.kill()
        assert all(future.done() for future in running)
        solo.output.clear()
        solo.start()
    sent = len(simulator.generations)
    assert sent > 3 * 6

    # Everything that reached the upstream had its begin line before; everything answered its end.
    assert solo.wait_for(lambda: set(answered) <= ids(solo), 30)
    found = solo.wait_for(lambda: len(rows := new_records(solo, before)) >= sent and rows, 30)
    assert found, (len(new_records(solo, before)), sent)
    whole = {r["id"] for r in found if r["outcome"] == "completed"}
    assert set(answered) <= whole
    cut = [r for r in found if r["outcome"] != "completed"]
    assert {r["outcome"] for r in cut} <= {"interrupted"}
    assert all(r["usage_estimated"] for r in cut)
    assert rollup_requests(solo) == len(solo.records())
    assert "Traceback" not in solo.text

    # Another start finds nothing to replay.
    count = len(solo.records())
    solo.stop()
    solo.output.clear()
    solo.start()
    with solo.client() as client:
        assert client.post(CHAT, json=chat()).status_code == 200
    assert len(solo.wait_for_records(count + 1)) == count + 1
    assert rollup_requests(solo) == count + 1


def test_p11_a_client_that_does_not_read_holds_up_no_stop(
    solo: Gateway, simulator: SimulatorThread
) -> None:
    """Its stream is stuck for good: neither an end nor an error can be told to it."""
    before = ids(solo)
    body = json.dumps(chat("hi [[drip chunks=20000 delay=0.0001]]", stream=True)).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
    stuck = socket.socket()
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with stuck:
        stuck.connect(("127.0.0.1", solo.port))
        stuck.sendall(head.encode() + body)
        assert simulator.wait_received(1, path="/chat/completions", seconds=10)
        time.sleep(1)
        began = time.monotonic()
        solo.process.send_signal(signal.SIGTERM)
        assert solo.process.wait(40) == 0
        assert time.monotonic() - began < 20
    solo._close()
    assert "Traceback" not in solo.text, solo.text[-3000:]
    [record] = new_records(solo, before)
    assert record["outcome"] in ("interrupted", "cancelled")
    solo.output.clear()
    solo.start()


def test_p03_a_database_that_is_locked_for_a_while_holds_no_request_up(
    solo: Gateway, simulator: SimulatorThread
) -> None:
    before = ids(solo)
    lock = sqlite3.connect(solo.data_dir / "gateway.sqlite3", isolation_level=None, timeout=10)
    lock.execute("BEGIN IMMEDIATE")
    try:
        with solo.client() as client:
            for path, body in KINDS * 3:
                began = time.monotonic()
                assert client.post(path, json=body).status_code == 200
                assert time.monotonic() - began < 3
            # Readers do not wait for a writer.
            assert client.get("/readyz").status_code == 200
        time.sleep(1)
        assert new_records(solo, before) == []
    finally:
        lock.execute("ROLLBACK")
        lock.close()
    count = 3 * len(KINDS)
    found = solo.wait_for(lambda: len(rows := new_records(solo, before)) >= count and rows, 40)
    assert found
    assert len(found) == count
    assert rollup_requests(solo) == len(solo.records())


@contextmanager
def full_disk(gateway: Gateway) -> Iterator[None]:
    """No file of the process may grow any more: its writes fail as on a full disk."""
    pid = gateway.process.pid
    old = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1024, old[1]))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, old)


def requests_go_on_and_records_come_later(
    gateway: Gateway, fault: AbstractContextManager[None]
) -> None:
    """Within the `fault` nothing can be stored; afterwards everything is, once."""
    before = ids(gateway)
    gateway.output.clear()
    with fault, gateway.client() as client:
        for path, body in KINDS * 2:
            assert client.post(path, json=body).status_code == 200
        assert client.get("/healthz").status_code == 200
        assert gateway.wait_for(lambda: "usage records wait for the database" in gateway.text)
        assert new_records(gateway, before) == []
    count = 2 * len(KINDS)
    found = gateway.wait_for(
        lambda: len(rows := new_records(gateway, before)) >= count and rows, 30
    )
    assert found
    assert len(found) == count
    assert {r["outcome"] for r in found} == {"completed"}
    assert rollup_requests(gateway) == len(gateway.records())


def test_p04_on_a_full_disk_requests_go_on_and_their_records_come_when_there_is_room(
    solo: Gateway, simulator: SimulatorThread
) -> None:
    requests_go_on_and_records_come_later(solo, full_disk(solo))
    assert solo.text.count("journal cannot be written") == 1
    assert "Traceback" not in solo.text


@contextmanager
def unwritable_database(gateway: Gateway) -> Iterator[None]:
    """Nobody may write to the database, not even root through a file that is open."""
    files = [str(path) for path in gateway.data_dir.glob("gateway.sqlite3*")]
    change = shutil.which("chattr")
    if change is None:
        pytest.skip("chattr is not installed")
    try:
        if subprocess.run([change, "+i", *files], check=False).returncode:
            pytest.skip("files cannot be made immutable here")
        yield
    finally:
        subprocess.run([change, "-i", *files], check=False)


def test_p04_a_solo_database_that_may_only_be_read_delays_records_and_loses_none(
    solo: Gateway, simulator: SimulatorThread
) -> None:
    requests_go_on_and_records_come_later(solo, unwritable_database(solo))


def test_p04_in_strict_mode_a_journal_that_cannot_be_written_refuses_honestly(
    new_gateway: MakeGateway, simulator: SimulatorThread
) -> None:
    gateway = new_gateway(GATEWAY_JOURNAL_STRICT="true")
    with gateway.client() as client:
        assert client.post(CHAT, json=chat()).status_code == 200
        sent = len(simulator.generations)
        with full_disk(gateway):
            for path, body in KINDS:
                answer = client.post(path, json=body)
                assert answer.status_code == 503
                assert answer.headers["retry-after"] == "30"
                assert "journal" in answer.json()["error"]["message"]
            assert len(simulator.generations) == sent, "nothing is sent that cannot be noted"
            assert client.get("/healthz").status_code == 200
        assert client.post(CHAT, json=chat()).status_code == 200
    refused = gateway.wait_for_records(len(KINDS), "error_code = 'journal_unwritable'")
    assert len(refused) == len(KINDS)
    assert {r["outcome"] for r in refused} == {"refused"}
    assert len(gateway.wait_for_records(len(KINDS) + 2)) == len(KINDS) + 2
    assert "Traceback" not in gateway.text


def test_p15_six_hundred_mixed_requests_leave_memory_and_sockets_as_they_were(
    solo: Gateway, simulator: SimulatorThread
) -> None:
    pid = solo.process.pid

    def ask(number: int) -> int:
        path, body = KINDS[number % len(KINDS)]
        if number % 10 == 9:
            path, body = CHAT, {"model": "no-such-model", "messages": []}
        with solo.client() as client:
            if number % 10 == 4:
                # It leaves after the first piece.
                with client.stream("POST", CHAT, json=chat("hi", stream=True)) as answer:
                    next(answer.iter_raw(), b"")
                return answer.status_code
            return client.post(path, json=body).status_code

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(ask, range(150)))
        simulator.wait_closed(10)
        memory, files = private_mib(pid), files_of(pid)
        statuses = list(pool.map(ask, range(600)))
    assert set(statuses) <= {200, 400, 404}
    assert statuses.count(200) > 500
    assert simulator.wait_closed(10)
    assert solo.wait_for(lambda: files_of(pid) <= files + 5, 20), (files_of(pid), files)
    assert private_mib(pid) - memory < 25


def test_p16_out_of_descriptors_it_neither_dies_nor_spins_and_recovers(
    solo: Gateway, simulator: SimulatorThread
) -> None:
    pid = solo.process.pid
    with solo.client() as client:
        assert client.post(CHAT, json=chat()).status_code == 200
    old = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    held: list[socket.socket] = []
    try:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (files_of(pid) + 6, old[1]))
        for _ in range(60):
            held.append(socket.create_connection(("127.0.0.1", solo.port), timeout=5))
        began = time.monotonic()
        burnt = cpu_s(pid)
        time.sleep(2)
        used = (cpu_s(pid) - burnt) / (time.monotonic() - began)
        assert used < 0.6, f"it spins: {used:.0%} of a processor"
        assert solo.process.poll() is None
        for connection in held:
            connection.close()
        held.clear()

        def is_served() -> bool:
            with suppress(httpx.HTTPError), solo.client() as client:
                return client.post(CHAT, json=chat()).status_code == 200
            return False

        # It comes back while descriptors are still scarce.
        assert solo.wait_for(is_served, 30), solo.text[-2000:]
    finally:
        for connection in held:
            connection.close()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, old)
    with solo.client() as client:
        for path, body in KINDS:
            assert client.post(path, json=body).status_code == 200


def cpu_s(pid: int) -> float:
    """Processor time of all threads."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_p22_one_line_for_each_request_and_no_word_of_a_prompt(
    solo: Gateway, simulator: SimulatorThread
) -> None:
    solo.output.clear()
    asked: list[str] = []
    with solo.client() as client:
        for path, body in KINDS:
            said = json.loads(json.dumps(body).replace("Hello", "unmistakable-prompt"))
            answer = client.post(path, json=said)
            assert answer.status_code == 200
            asked.append(answer.headers["x-request-id"])
        refused = client.post(CHAT, json={**chat("unmistakable-prompt"), "n": 0})
        assert refused.status_code == 400
        asked.append(refused.headers["x-request-id"])
        left = Stream(client, "unmistakable-prompt [[drip chunks=4 delay=0.05]]")
        assert left.is_whole, left
        asked.append(left.request_id)
    assert solo.wait_for(lambda: all(one in solo.text for one in asked))
    for one in asked:
        assert solo.text.count(one) == 1
    assert "unmistakable-prompt" not in solo.text
    for file in solo.data_dir.rglob("*"):
        if file.is_file() and "static" not in file.parts:
            assert b"unmistakable-prompt" not in file.read_bytes(), file
