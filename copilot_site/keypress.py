"""Single keys from the terminal, without Enter, while something else goes on."""

import contextlib
import os
import select
import sys
from typing import Any, Self


class Keys:
    """Reads keys inside a `with`; `can_read` is false where there is no terminal to read from.

    Ctrl-C stays Ctrl-C. What the terminal was set to comes back at the end.
    """

    def __init__(self) -> None:
        self.can_read = False
        self._before: list[Any] = []

    def __enter__(self) -> Self:
        with contextlib.suppress(ImportError, OSError, ValueError, AttributeError):
            import termios
            import tty

            fd = sys.stdin.fileno()
            # A background job that touches the terminal would be stopped.
            if os.isatty(fd) and os.tcgetpgrp(fd) == os.getpgrp():
                self._before = termios.tcgetattr(fd)
                tty.setcbreak(fd)
                self.can_read = True
        return self

    def __exit__(self, *_: object) -> None:
        if self.can_read:
            import termios

            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._before)
            self.can_read = False

    def pressed(self) -> str:
        """The keys since the last time, in lower case; never waits."""
        if not self.can_read or not select.select([sys.stdin], [], [], 0)[0]:
            return ""
        typed = os.read(sys.stdin.fileno(), 64)
        if not typed:
            # The terminal is gone: reading it again and again would tell nothing.
            self.__exit__()
        return typed.decode("ascii", "ignore").lower()
