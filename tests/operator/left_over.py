"""Four threads take 16 MiB each in small pieces and give most back; prints what is left of it."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from gpupilot_operator import heap

TAKEN, PIECE, THREADS = 16 * 2**20, 2000, 4


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Print what the process holds more than before."""
    if "settled" in sys.argv:
        heap.settle()
    together = threading.Barrier(THREADS)
    kept: list[bytes] = []

    def work() -> None:
        together.wait()
        taken = [bytes(PIECE) for _ in range(TAKEN // PIECE)]
        together.wait()
        # one piece at the end of a heap holds all below it
        kept.append(taken[-1])

    before = resident_bytes()
    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    if "settled" in sys.argv:
        heap.give_back()
    sys.stdout.write(f"{resident_bytes() - before}\n")


if __name__ == "__main__":
    main()
