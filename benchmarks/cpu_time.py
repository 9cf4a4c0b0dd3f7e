"""The CPU time of a piece of work, as several benchmarks take it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

RUNS = 5


def cpu_s(work: Callable[[], object]) -> float:
    """Return the median CPU seconds of one run of ``work``, after one that is not counted."""
    work()
    spent = []
    for _ in range(RUNS):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return statistics.median(spent)
