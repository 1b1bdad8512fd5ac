"""docs/asvs.md and docs/security.md say what is: their counts add up, and the tests they name exist."""

import re
from collections import Counter
from pathlib import Path

from tests.conftest import ROOT

ROW = re.compile(r"^\| (\d+\.\d+\.\d+) \| ([12]) \| (met|partly|operator|n/a) \| (.+) \|$", re.M)
TESTS = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))


def test_the_counts_of_the_walk_are_those_of_its_rows() -> None:
    text = (ROOT / "docs" / "asvs.md").read_text()
    rows = ROW.findall(text)
    states = Counter(state for _, _, state, _ in rows)
    said = re.search(r"(\d+) met, (\d+) partly, (\d+) operator, (\d+) n/a", text)

    assert said is not None
    assert [int(count) for count in said.groups()] == [
        states[name] for name in ("met", "partly", "operator", "n/a")
    ]
    numbers = [number for number, *_ in rows]
    assert len(numbers) == len(set(numbers))
    # Every line that looks like a requirement is one.
    assert len(rows) == len(re.findall(r"^\| \d+\.\d+\.\d+ \|", text, re.M))


def test_every_test_and_file_that_is_named_exists() -> None:
    for name in ("asvs.md", "security.md"):
        text = (ROOT / "docs" / name).read_text()
        for test in set(re.findall(r"`(test_\w+)`", text)):
            assert f"def {test}(" in TESTS, (name, test)
        for path in set(re.findall(r"`([a-z_]+/[\w./-]+\.(?:py|conf|md|yml))`", text)):
            assert Path(ROOT / path).exists(), (name, path)
