"""P17, X12, X13: what would make the gateway weak is named, and it does not start with it."""

import re
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from copilot_site import checks
from tests.conftest import ROOT, clean_environment

STRONG = "3yYH6o0bO9cJXnq1mB7s2LrTtWv4zQkEFgUiPdAa"
OTHER = "Zx81Lk0pQwErTyUiOpAsDfGhJkLzXcVbNmQ2w3e4"
TEAM = {
    "DATABASE_URL": "postgres://gateway:x@127.0.0.1:1/gateway",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "SECRET_KEY": secrets.token_urlsafe(48),
    "ENCRYPTION_KEYS": secrets.token_urlsafe(48),
    "ALLOWED_HOSTS": "gateway.example.com",
    "GATEWAY_HTTPS": "true",
}


def run(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """A program of ours with these variables and no others of ours."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**clean_environment(), "COPILOT_DATA_DIR": str(folder), **environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )


def found(settings: Any, **values: Any) -> set[str]:
    sound = {"SECRET_KEY": STRONG, "ENCRYPTION_KEYS": [OTHER], "ALLOWED_HOSTS": ["localhost"]}
    for name, value in {**sound, **values}.items():
        setattr(settings, name, value)
    return {str(each.id) for each in checks.weak_settings()}


@pytest.mark.parametrize(
    ("values", "number"),
    [
        ({"SECRET_KEY": "short"}, 1),
        ({"SECRET_KEY": "a" * 60}, 1),
        ({"SECRET_KEY": "django-insecure-" + STRONG}, 1),
        ({"SECRET_KEY": "changeme-" + STRONG}, 1),
        ({"ENCRYPTION_KEYS": ["hunter2"]}, 2),
        ({"ENCRYPTION_KEYS": [OTHER, "old"]}, 2),
        ({"ENCRYPTION_KEYS": [""]}, 2),
        ({"ENCRYPTION_KEYS": [STRONG]}, 3),
        ({"TEAM_MODE": True, "SECRETS_IN_FILES": ["ENCRYPTION_KEYS"]}, 4),
        ({"DEBUG": True, "ALLOWED_HOSTS": ["localhost", "gateway.example.com"]}, 5),
        ({"DEBUG": True, "TEAM_MODE": True, "SECRETS_IN_FILES": []}, 5),
        ({"ALLOWED_HOSTS": ["*"]}, 6),
        ({"ALLOWED_HOSTS": [".example.com"]}, 6),
        ({"TEAM_MODE": True, "SECRETS_IN_FILES": [], "DEMO": True}, 7),
        ({"GATEWAY_CORS_ORIGINS": ["*"]}, 8),
        ({"GATEWAY_CORS_ORIGINS": ["https://tools.example.org/"]}, 8),
        ({"GATEWAY_CORS_ORIGINS": ["null"]}, 8),
        ({"GATEWAY_PROXIES": ["everybody"]}, 9),
        ({"GITHUB_API_URL": "http://api.github.com"}, 10),
        ({"COPILOT_API_URL": "http://10.0.0.1"}, 10),
        ({"COPILOT_API_URL": "http://127.evil.example"}, 10),
        ({"GATEWAY_OIDC_ISSUER": "http://login.corp.example"}, 10),
        ({"GITHUB_STAND_INS": {"acme.ghe.com": "http://10.0.0.1"}}, 10),
        ({"GATEWAY_BREACHED_PASSWORDS": "/nowhere/pwned.txt"}, 11),
    ],
)
def test_p17_x10_each_weakness_is_found(settings: Any, values: dict[str, Any], number: int) -> None:
    assert found(settings, **values) == {f"gateway.E{number:03}"}
    with pytest.raises(ImproperlyConfigured):
        checks.refuse_weak_settings()


def test_what_is_made_on_first_use_is_strong(settings: Any) -> None:
    assert found(settings, SECRET_KEY=secrets.token_urlsafe(48)) == set()
    # A laptop's Django debug pages are nobody else's.
    assert found(settings, DEBUG=True) == set()
    settings.GITHUB_API_URL = "http://127.0.0.1:8787"
    assert checks.weak_settings() == []


@pytest.mark.parametrize(
    ("weak", "named"),
    [
        ({"SECRET_KEY": "changeme"}, "SECRET_KEY"),
        ({"DEBUG": "true", "ALLOWED_HOSTS": "gateway.example.com"}, "DEBUG"),
        ({"REDIS_URL": "redis://127.0.0.1:1/0", "SECRET_KEY": STRONG}, "ENCRYPTION_KEYS"),
    ],
)
def test_p17_start_refuses_and_names_it(tmp_path: Path, weak: dict[str, str], named: str) -> None:
    done = run(tmp_path, "manage.py", "start", "--port", "0", **weak)

    assert done.returncode != 0
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert STRONG not in done.stderr


@pytest.mark.parametrize(
    "program",
    [
        ("-m", "daphne", "-p", "0", "copilot_site.asgi:application"),
        ("-m", "celery", "-A", "copilot_site", "worker", "--concurrency", "1"),
        ("-m", "celery", "-A", "copilot_site", "beat", "--schedule", "/dev/null"),
    ],
    ids=["pages", "worker", "beat"],
)
def test_p17_no_process_of_a_team_starts_weak(tmp_path: Path, program: tuple[str, ...]) -> None:
    done = run(tmp_path, *program, **{**TEAM, "SECRET_KEY": "changeme"})

    assert done.returncode != 0
    assert "SECRET_KEY is weak" in done.stderr + done.stdout


def test_x13_the_deployment_check_finds_nothing_in_a_teams_settings(tmp_path: Path) -> None:
    done = run(tmp_path, "manage.py", "check", "--deploy", "--fail-level", "WARNING", **TEAM)

    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout


def test_x13_a_team_without_https_is_warned(tmp_path: Path) -> None:
    plain = {**TEAM, "GATEWAY_HTTPS": "false"}
    done = run(tmp_path, "manage.py", "check", "--deploy", "--fail-level", "WARNING", **plain)

    assert done.returncode != 0
    assert "gateway.W001" in done.stderr


def test_x13_stores_on_other_hosts_without_tls_are_warned_of(tmp_path: Path) -> None:
    far = {
        **TEAM,
        "DATABASE_URL": "postgres://gateway:hunter2-of-the-database@db.example.com/gateway",
        "REDIS_URL": "redis://:hunter2-of-redis@10.0.0.9:6379/0",
    }
    done = run(tmp_path, "manage.py", "check", "--deploy", "--fail-level", "WARNING", **far)
    said = done.stdout + done.stderr

    assert said.count("gateway.W002") == 2
    assert "hunter2" not in said
    sound = {
        **TEAM,
        "DATABASE_URL": f"{far['DATABASE_URL']}?sslmode=verify-full",
        "REDIS_URL": far["REDIS_URL"].replace("redis:", "rediss:"),
    }
    done = run(tmp_path, "manage.py", "check", "--deploy", "--fail-level", "WARNING", **sound)
    assert done.returncode == 0, done.stdout + done.stderr


def test_x10_secrets_may_come_from_files_that_a_vault_writes(tmp_path: Path) -> None:
    files = {}
    for name in ("SECRET_KEY", "ENCRYPTION_KEYS", "DATABASE_URL", "REDIS_URL"):
        path = tmp_path / name.lower()
        path.write_text(TEAM[name] + "\n")
        files[f"{name}_FILE"] = str(path)
    others = {name: value for name, value in TEAM.items() if f"{name}_FILE" not in files}
    code = "from django.conf import settings as s; print(s.SECRET_KEY, s.REDIS_URL, s.TEAM_MODE)"
    folder = tmp_path / "data"
    done = run(folder, "manage.py", "shell", "--no-imports", "-c", code, **others, **files)

    assert done.stdout.split() == [TEAM["SECRET_KEY"], TEAM["REDIS_URL"], "True"], done.stderr
    assert not (folder / "secret_key").exists()
    done = run(folder, "manage.py", "check", **{**others, **files, "SECRET_KEY_FILE": "/nowhere"})
    assert done.returncode != 0
    assert "SECRET_KEY_FILE names '/nowhere'" in done.stderr


def test_x12_containers_run_as_nobody_special_and_only_nginx_is_published() -> None:
    compose = (ROOT / "docker-compose.yml").read_text()
    dockerfile = (ROOT / "Dockerfile").read_text()

    assert re.search(r"^USER gateway$", dockerfile, re.MULTILINE)
    assert not re.search(r"(FROM|image:) *\S+alpine", dockerfile + compose)
    services = re.split(r"^  (?=[a-z]+:$)", compose.partition("\nservices:\n")[2], flags=re.M)
    published = [
        part.partition(":")[0] for part in services if re.search(r"^    ports:", part, re.M)
    ]
    assert published == ["nginx"]
    assert "privileged" not in compose
    # Passwords come from the operator, and there is none without.
    for name in ("POSTGRES_PASSWORD", "REDIS_PASSWORD"):
        assert f"${{{name}:?" in compose
    assert not re.search(r"PASSWORD\S*:-", compose)


def test_x07_x08_what_we_ship_of_others_is_pinned_by_hash_and_nothing_comes_at_run_time() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        lines = (ROOT / name).read_text().replace("\\\n", " ").splitlines()
        pins = [line for line in lines if line.strip() and not line.startswith(("#", "-", " "))]
        assert len(pins) > 20
        for pin in pins:
            assert "==" in pin, pin
            assert "--hash=sha256:" in pin, pin
    for program in ("Makefile", "Dockerfile"):
        text = (ROOT / program).read_text()
        assert "--require-hashes" in text
        assert "--only-binary :all:" in text
    for path in (ROOT / "static").rglob("*.js"):
        assert not re.search(r"(?:src|href|import)\W{1,3}https?://", path.read_text()), path


def test_x09_x14_the_gate_holds_no_secret_and_publishes_nothing() -> None:
    for path in (ROOT / ".ci").iterdir():
        text = path.read_text()
        assert not re.search(r"(TOKEN|SECRET|PASSWORD)\s*=\s*['\"]?[A-Za-z0-9]{12,}", text)
        assert not re.search(r"twine|docker push|npm publish|gh release", text)
        # Nothing that is fetched is run.
        assert not re.search(r"(curl|wget)[^\n|]*\|\s*(ba)?sh", text)
