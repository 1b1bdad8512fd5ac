"""The first seeds of each target: the golden files, marked with the format they are of."""

from collections.abc import Iterator
from pathlib import Path

from tests.fuzz.targets import NAMES, UPSTREAM

GOLDEN = Path(__file__).parent.parent / "formats" / "golden"


def golden(target: str) -> Iterator[bytes]:
    """Inputs of `target`, in its own form."""
    for folder in sorted(path for path in GOLDEN.iterdir() if path.is_dir()):
        streams = [path.read_bytes() for path in sorted(folder.glob("*.sse"))]
        bodies = [path.read_bytes() for path in sorted(folder.glob("request*.json"))]
        name = folder.name
        match target:
            case "frames":
                yield from (bytes([7]) + data for data in streams)
            case "requests" if name in NAMES:
                yield from (bytes([NAMES.index(name)]) + data for data in bodies)
            case "answers" if name in UPSTREAM:
                for data in streams:
                    for client in range(len(NAMES)):
                        yield bytes([UPSTREAM.index(name), client]) + data
            case "taps" if name in UPSTREAM:
                yield from (bytes([UPSTREAM.index(name)]) + data for data in streams)
