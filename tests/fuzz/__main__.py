"""Fuzz one target with coverage: `python -m tests.fuzz frames -max_total_time=60`.

Findings are written to tests/fuzz/seeds/<target>/ as `crash-…`; keep them there: pytest plays every
seed again. The golden files are the first seeds.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["proxy.formats"]):
    from tests.fuzz import corpus, targets

SEEDS = Path(__file__).parent / "seeds"


def main() -> None:
    name, *options = sys.argv[1:]
    target = targets.TARGETS[name]
    kept = SEEDS / name
    kept.mkdir(parents=True, exist_ok=True)
    found = Path("build") / "fuzz" / name
    found.mkdir(parents=True, exist_ok=True)
    for place, data in enumerate(corpus.golden(name)):
        (found / f"golden-{place}").write_bytes(data)
    atheris.Setup(
        [
            sys.argv[0],
            str(found),
            str(kept),
            f"-artifact_prefix={kept}/",
            "-max_len=65536",
            *options,
        ],
        target,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
