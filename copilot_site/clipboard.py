"""The system's clipboard, by whichever of its tools is there."""

import contextlib
import os
import shutil
import subprocess
from typing import Final

TIMEOUT_S: Final = 2.0


def copy(text: str) -> bool:
    """Put `text` on the clipboard; False when there is none or its tool fails."""
    return any(_fed(command, text) for command in tools())


def tools() -> list[list[str]]:
    """The commands that are installed and have a display to talk to, best first."""
    known = [["pbcopy"]]
    if os.environ.get("WAYLAND_DISPLAY"):
        known.append(["wl-copy"])
    if os.environ.get("DISPLAY"):
        known += [["xclip", "-selection", "clipboard"], ["xsel", "--clipboard", "--input"]]
    # Windows, also from within WSL.
    known += [["clip.exe"], ["clip"]]
    return [command for command in known if shutil.which(command[0])]


def _fed(command: list[str], text: str) -> bool:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(  # noqa: S603 - one of the tools above, without a shell
            command,
            input=text.encode(),
            # xclip stays behind to serve the selection: it must not hold our output open.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            check=False,
        )
        return done.returncode == 0
    return False
