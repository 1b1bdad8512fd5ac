"""`debug`: the seed's keys and ours, no secrets, nothing needed."""

import json
import os
import sqlite3
import subprocess
from typing import Any


def test_json_has_the_keys_that_scripts_know(manage: Any) -> None:
    manage("auth", "-g", "ghu_octocat")

    done = manage("debug", "--json")

    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert done.stderr == ""
    assert set(found["runtime"]) == {"name", "version", "platform", "arch"}
    assert found["paths"] == {
        "APP_DIR": str(manage.data_dir),
        "GITHUB_TOKEN_PATH": str(manage.data_dir / "gateway.sqlite3"),
    }
    assert found["tokenExists"] is True
    assert found["database"]["state"] == "ready"
    (account,) = found["accounts"]
    assert account["login"] == "octocat"
    assert (account["state"], account["token_kind"]) == ("active", "ghu")
    assert {"version", "broker", "cache", "workers"} <= set(found)
    assert "ghu_" not in done.stdout


def test_looking_makes_no_database(manage: Any, tmp_path: Any) -> None:
    fresh = tmp_path / "fresh"
    done = manage("debug", "--json", COPILOT_DATA_DIR=str(fresh))

    found = json.loads(done.stdout)
    assert found["tokenExists"] is False
    assert found["database"]["state"] == "not made yet"
    assert not (fresh / "gateway.sqlite3").exists()


def test_text_names_every_part_and_goes_to_stdout(manage: Any) -> None:
    manage("auth", "-g", "ghu_octocat")

    done = manage("debug")

    labels = [line.split("  ")[0].strip() for line in done.stdout.splitlines()]
    assert labels[:2] == ["Version", "Runtime"]
    assert {"Data folder", "Database", "Broker", "Cache", "Accounts", "Workers"} <= set(labels)
    assert "octocat (active, ghu, individual_pro)" in done.stdout
    assert done.stderr == ""


def test_services_that_are_away_are_told_without_their_passwords(manage: Any) -> None:
    done = manage(
        "debug",
        "--json",
        DATABASE_URL="postgres://gateway:hush-hush@127.0.0.1:1/gateway?connect_timeout=2",
        REDIS_URL="redis://:hush-hush@127.0.0.1:1/0",
    )

    found = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert found["database"]["state"] == "away"
    assert found["broker"]["state"] == "away"
    assert found["cache"]["state"] == "away"
    assert found["workers"]["state"] == "unknown"
    assert "hush-hush" not in done.stdout + done.stderr


def test_a_database_from_before_an_update_is_said_to_be_out_of_date(manage: Any) -> None:
    with sqlite3.connect(manage.data_dir / "gateway.sqlite3") as database:
        database.execute("DELETE FROM django_migrations WHERE app = 'usage'")
    database.close()

    found = json.loads(manage("debug", "--json").stdout)

    assert found["database"]["state"] == "out of date"


def test_a_reader_that_leaves_causes_no_traceback(manage: Any) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with open(write_end, "w") as gone:
        done: subprocess.CompletedProcess[str] = manage("debug", stdout=gone)

    assert done.returncode == 1
    assert done.stderr == ""
