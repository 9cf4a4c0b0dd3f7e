"""What the process says when it ends: exit codes, and one sentence for what went wrong."""

from __future__ import annotations

import sys
from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended, as a shell sees it (``docs/cli.md``)."""

    DONE = 0
    UNEXPECTED = 1
    BAD_INPUT = 2
    ANSWER_IS_NO = 3
    INTERRUPTED = 130


def tell(sentence: str) -> None:
    """Write one line to standard error."""
    sys.stderr.write(f"gpupilot: {' '.join(sentence.split())}\n")
    sys.stderr.flush()
