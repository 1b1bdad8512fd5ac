"""Two processes on one database: one exchange per account, whoever comes first."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulator.testing import SimulatorThread

ROOT = Path(__file__).resolve().parents[2]
SETUP = "import django; django.setup()\n"
ENROL = (
    SETUP
    + """
from django.core.management import call_command
call_command("migrate", verbosity=0)
from accounts.models import Account
from accounts.encryption import Secret
Account.objects.create(login="octocat", token_kind="ghu", github_token=Secret.of("ghu_octocat"))
"""
)
ASK = (
    SETUP
    + """
import asyncio, hashlib, sys
from accounts import tokens
async def ask():
    return await asyncio.gather(*(tokens.credential(1) for _ in range(50)))
print("ready", flush=True)
sys.stdin.readline()
print(len({one.token for one in asyncio.run(ask())}), flush=True)
print(hashlib.sha256(asyncio.run(tokens.credential(1)).token.encode()).hexdigest(), flush=True)
"""
)


@pytest.fixture
def environment(simulator: SimulatorThread, tmp_path: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return kept | {
        "DJANGO_SETTINGS_MODULE": "copilot_site.settings",
        "COPILOT_DATA_DIR": str(tmp_path),
        "GITHUB_URL": simulator.url,
        "GITHUB_API_URL": simulator.url,
        "PYTHONWARNINGS": "ignore",
    }


def test_t02_two_processes_exchange_once(
    simulator: SimulatorThread, environment: dict[str, str]
) -> None:
    simulator.config(exchange_latency_s=1.5)
    subprocess.run([sys.executable, "-c", ENROL], cwd=ROOT, env=environment, check=True, timeout=60)

    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ASK],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = [process.communicate(timeout=30)[0].split() for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()

    assert [answer[0] for answer in answers] == ["1", "1"]
    assert answers[0][1] == answers[1][1]
    assert simulator.exchanges("octocat") == 1
