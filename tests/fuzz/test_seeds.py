"""Every seed that is kept, played again: what a fuzzer has found once stays found."""

from pathlib import Path

import pytest

from tests.fuzz import corpus, targets

SEEDS = Path(__file__).parent / "seeds"
KEPT = sorted(path for path in SEEDS.rglob("*") if path.is_file() and path.name != ".gitkeep")


@pytest.mark.parametrize("name", targets.TARGETS)
def test_golden_files_are_good_seeds(name: str) -> None:
    inputs = list(corpus.golden(name))
    assert inputs
    for data in inputs:
        targets.TARGETS[name](data)


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_kept_seed_stays_harmless(path: Path) -> None:
    targets.TARGETS[path.parent.name](path.read_bytes())
