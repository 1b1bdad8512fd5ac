"""A lock on an open file that the kernel gives back when its process ends, however it ends."""

import os
import sys
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    # Windows locks bytes and forbids others to read them: one byte far behind the end does no harm.
    _BYTE = 0x7FFF_FFF0

    def try_lock(descriptor: int) -> bool:
        """True when this process now holds the file; False when another holds it."""
        position = os.lseek(descriptor, 0, os.SEEK_CUR)
        try:
            os.lseek(descriptor, _BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(descriptor, position, os.SEEK_SET)
        return True

    def remove_locked(path: Path, descriptor: int) -> None:
        """Delete a file that we hold. Windows deletes closed files only."""
        os.close(descriptor)
        path.unlink(missing_ok=True)

else:
    import fcntl

    def try_lock(descriptor: int) -> bool:
        """True when this process now holds the file; False when another holds it."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def remove_locked(path: Path, descriptor: int) -> None:
        """Delete a file that we hold; the lock goes last, so that nobody reads it in between."""
        path.unlink(missing_ok=True)
        os.close(descriptor)
