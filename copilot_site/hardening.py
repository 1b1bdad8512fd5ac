"""What every process of ours does first, so that its memory stays its own."""

import resource


def leave_no_core() -> None:
    """A crash writes no core file: memory holds tokens in clear."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
