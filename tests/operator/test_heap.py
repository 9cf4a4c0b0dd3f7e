"""Memory that was given back leaves the process: one heap, however many threads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LEFT = Path(__file__).with_name("left_over.py")
MIB = 2**20


def left_over(*words: str) -> int:
    """Return the bytes a process of its own holds after threads gave back what they took."""
    command = [sys.executable, str(LEFT), *words]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60.0)
    return int(answer.stdout)


def test_what_threads_gave_back_leaves_the_process() -> None:
    as_it_comes, settled = left_over(), left_over("settled")
    assert as_it_comes > 24 * MIB
    assert settled < 8 * MIB
