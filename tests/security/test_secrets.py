"""X01 to X06: after a full day nothing that the gateway wrote or showed holds a secret in clear.

D24: nor does any page, of members or administrators.
"""

import contextlib
import os
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from simulator.testing import SimulatorThread
from tests.conftest import Gateway
from tests.security import canaries
from tests.security.canaries import Day, files_under

# A whole day, and a machine that others use, too.
pytestmark = pytest.mark.timeout(400)
# A pickle by its first bytes: protocol, and how one goes on.
PICKLED = re.compile(rb"\x80[\x02-\x05][\x95\x8c\]})(KXcC]")
# What makes a page fail, and what heals it.
CRASH = (
    "ALTER TABLE usage_channel RENAME TO usage_channel_away",
    "ALTER TABLE usage_channel_away RENAME TO usage_channel",
)


@pytest.fixture(scope="module")
def lived(
    shared_simulator: SimulatorThread, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Gateway, Day, list[str]]:
    """A gateway that has had its day and has stopped."""
    shared_simulator.reset(keep_tokens=True)
    gateway = Gateway(
        tmp_path_factory.mktemp("lived"),
        shared_simulator.url,
        ("--require-keys", "--verbose"),
        {
            "GATEWAY_TOKEN_ENDPOINT": "true",
            "GH_TOKEN": "ghu_octocat",
            "GATEWAY_MAX_IN_FLIGHT": "50",
        },
    )
    gateway.wait_signed_in()
    day = canaries.spend_a_day(gateway, gateway, shared_simulator, gateway.sign_in_link)
    crash(gateway, day)
    arguments = command_lines(gateway.process.pid)
    core = Path(f"/proc/{gateway.process.pid}/limits").read_text()
    gateway.stop()
    return gateway, day, [*arguments, core]


def crash(gateway: Gateway, day: Day) -> None:
    """Make a page fail with a traceback, secrets in its address and headers."""
    connection = sqlite3.connect(gateway.data_dir / "gateway.sqlite3", timeout=20)
    try:
        connection.execute(CRASH[0])
        connection.commit()
        with gateway.client() as browser:
            browser.get(made_link(gateway), follow_redirects=True)
            answer = browser.get(
                f"/dashboard/notifications/?event={canaries.PROMPT}&key={canaries.WRONG_KEY}",
                headers={"x-api-key": canaries.WRONG_KEY, "authorization": "Bearer ghu_octocat"},
            )
            assert answer.status_code == 500
            assert not day.found_in(answer.text)
            assert "Traceback" not in answer.text
    finally:
        connection.execute(CRASH[1])
        connection.commit()
        connection.close()
    assert "Traceback" in gateway.text


def made_link(gateway: Gateway) -> str:
    code = (
        "from accounts import links; from accounts.members import solo_member; "
        "print('link:' + links.make(solo_member()))"
    )
    found = re.search(r"link:(\S+)", gateway.manage("shell", "--no-imports", "-c", code).stdout)
    assert found is not None
    return f"/dashboard/?signin={found[1]}"


def command_lines(pid: int) -> list[str]:
    """What every user of the machine can read of a process and its children."""
    lines = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            status = (folder / "status").read_text()
            parent = re.search(r"PPid:\s+(\d+)", status)
            if folder.name == str(pid) or (parent and parent[1] == str(pid)):
                lines.append((folder / "cmdline").read_bytes().decode("utf-8", "replace"))
    return lines


def test_x04_x05_no_log_line_holds_a_secret(lived: tuple[Gateway, Day, list[str]]) -> None:
    gateway, day, _ = lived
    for line in gateway.output:
        assert not day.found_in(line), re.sub(r"\S{12,}", "…", line)
    assert "tid=" not in gateway.text


def test_x01_x02_no_file_holds_a_secret(lived: tuple[Gateway, Day, list[str]]) -> None:
    """Database, journal and everything else in the data folder, as a thief would copy it."""
    gateway, day, _ = lived
    names = []
    for name, content in files_under(gateway.data_dir):
        names.append(name)
        assert not day.found_in(content), name
    assert any(name.endswith("gateway.sqlite3") for name in names)


def test_x01_no_session_holds_a_secret(lived: tuple[Gateway, Day, list[str]]) -> None:
    """Sessions are compressed: a search through the file would not find it."""
    gateway, day, _ = lived
    sessions = gateway.query("SELECT session_data FROM django_session")
    assert sessions
    for row in sessions:
        assert not day.found_in(canaries.opened_session(row["session_data"]))


def test_x02_what_a_killed_gateway_leaves_holds_no_secret(
    new_gateway: Callable[..., Gateway], simulator: SimulatorThread
) -> None:
    """The journal of a request in flight, as `kill -9` leaves it, before anybody has stored it."""
    gateway = new_gateway("--require-keys")
    day = Day()
    key = day.keep("key", gateway.manage("create-key", "laptop").stdout.strip())
    day.keep("prompt", canaries.PROMPT)
    body = {
        "model": "gpt-4.1",
        "stream": True,
        "messages": [{"role": "user", "content": f"{canaries.PROMPT} [[drip]]"}],
    }
    headers = {"authorization": f"Bearer {key}"}
    with (
        gateway.client(headers=headers) as tool,
        tool.stream("POST", "/v1/chat/completions", json=body) as answer,
    ):
        next(answer.iter_bytes())
        gateway.kill()
    for bearer in canaries.bearers(simulator):
        day.keep(f"bearer {bearer[:4]}", bearer)

    journals = [name for name, text in files_under(gateway.data_dir) if name.startswith("journal")]
    assert any((gateway.data_dir / name).stat().st_size for name in journals)
    for name, content in files_under(gateway.data_dir):
        assert not day.found_in(content), name


def test_x01_the_folder_and_its_files_are_the_owners_alone(
    lived: tuple[Gateway, Day, list[str]],
) -> None:
    gateway, _, _ = lived
    for path in gateway.data_dir.rglob("*"):
        if "static" not in path.relative_to(gateway.data_dir).parts:
            assert os.stat(path).st_mode & 0o077 == 0, path


def test_d24_no_page_and_no_listing_shows_a_secret(lived: tuple[Gateway, Day, list[str]]) -> None:
    _, day, _ = lived
    admin = [path for path, _ in day.seen if path.startswith("/admin/")]
    assert len(admin) > 20, admin
    assert len(day.seen) > 60
    for path, text in day.seen:
        assert not day.found_in(text), path


def test_x06_x15_nothing_in_arguments_and_no_core_files(
    lived: tuple[Gateway, Day, list[str]],
) -> None:
    _, day, lines = lived
    *arguments, limits = lines
    assert arguments
    for line in arguments:
        assert not day.found_in(line)
    assert re.search(r"Max core file size\s+0\s", limits)


def test_x11_proxies_of_the_environment_are_not_obeyed_unless_asked(
    new_gateway: Callable[..., Gateway], simulator: SimulatorThread
) -> None:
    nowhere = "http://127.0.0.1:9"
    gateway = new_gateway(
        HTTP_PROXY=nowhere, HTTPS_PROXY=nowhere, ALL_PROXY=nowhere, http_proxy=nowhere
    )
    body = {"model": "gpt-4.1", "messages": [{"role": "user", "content": "hello"}]}
    with gateway.client() as client:
        assert client.post("/v1/chat/completions", json=body).status_code == 200
    assert simulator.generations


@pytest.mark.team
def test_x04_a_teams_log_holds_no_way_in_once_an_administrator_has_one(
    new_team: Callable[..., Any],
) -> None:
    team = new_team(processes=1)
    first: Gateway = team.gateways[0]
    assert "signin=" in first.text
    code = (
        "from accounts.members import solo_member as s; m = s(); "
        f"m.set_password({canaries.PASSWORD!r}); m.save()"
    )
    first.manage("shell", "--no-imports", "-c", code)
    first.stop()
    del first.output[:]
    first.start()

    assert "Dashboard" in first.text
    assert "signin=" not in first.text
    link = first.manage("sign-in-link").stdout.strip()
    with first.client() as browser:
        path = link.partition("/dashboard/")[2]
        answer = browser.get(f"/dashboard/{path}", follow_redirects=True)
        assert answer.status_code == 200


@pytest.mark.team
def test_x03_nothing_in_redis_postgresql_or_any_process_of_a_team(
    new_team: Callable[..., Any], simulator: SimulatorThread
) -> None:
    """Caches, queues and channel layers hold JSON without secrets; the dump of the database, too."""
    team = new_team("--verbose", processes=2)
    first: Gateway = team.gateways[0]
    link = first.sign_in_link
    with commands_to(team.redis.url) as commands:
        day = canaries.spend_a_day(first, team, simulator, link)
    # Also what did not stay: messages, queues, what ends by itself.
    assert len(commands) > 100
    assert any("PUBLISH" in command for command in commands)
    for command in commands:
        assert not day.found_in(command), command[:60]

    # Pages keep things in the cache, too.
    held = list(everything_in(team.redis.url))
    assert any("health" in name or "tries" in name for name, _ in held), held
    for name, content in held:
        assert not day.found_in(content), name
        assert not PICKLED.search(content), f"{name} is pickled"
    for table, text in dump(team):
        assert not day.found_in(text), table
    for row in team.query("SELECT session_data FROM django_session"):
        assert not day.found_in(canaries.opened_session(row["session_data"]))
    for gateway in team.gateways:
        for line in gateway.output:
            assert not day.found_in(line), re.sub(r"\S{12,}", "…", line)
        for name, content in files_under(gateway.data_dir):
            assert not day.found_in(content), name


@contextlib.contextmanager
def commands_to(url: str) -> Iterator[list[str]]:
    """Every command that anybody gives to Redis meanwhile, with all that it carries."""
    store = redis.Redis.from_url(url)
    commands: list[str] = []
    is_over = threading.Event()

    def listen(monitor: Any) -> None:
        while not is_over.is_set():
            commands.append(monitor.next_command()["command"])

    with store.monitor() as monitor:
        listener = threading.Thread(target=listen, args=(monitor,), daemon=True)
        listener.start()
        try:
            yield commands
        finally:
            is_over.set()
            # One more command to hear, and it ends.
            store.ping()
            listener.join(5)
    store.close()


def everything_in(url: str) -> Iterator[tuple[str, bytes]]:
    """Every key of Redis with what it holds."""
    store = redis.Redis.from_url(url)
    try:
        for key in store.scan_iter(count=1000):
            kind = store.type(key)
            name = key.decode("utf-8", "replace")
            match kind:
                case b"string":
                    yield name, key + b" " + bytes(store.get(key) or b"")  # type: ignore[arg-type]
                case b"hash":
                    yield name, key + repr(store.hgetall(key)).encode()
                case b"list":
                    yield name, key + repr(store.lrange(key, 0, -1)).encode()
                case b"set":
                    yield name, key + repr(store.smembers(key)).encode()
                case b"zset":
                    yield name, key + repr(store.zrange(key, 0, -1, withscores=True)).encode()
                case b"stream":
                    yield name, key + repr(store.xrange(key)).encode()
    finally:
        store.close()


def dump(team: Any) -> Iterator[tuple[str, str]]:
    tables = team.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    for row in tables:
        name = row["tablename"]
        rows = team.query(f'SELECT t::text AS line FROM "{name}" t')
        yield name, "\n".join(str(each["line"]) for each in rows)
