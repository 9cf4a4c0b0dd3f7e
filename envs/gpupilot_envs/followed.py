"""What is read off a service's carried state: margin, held need, whether a mean knows better."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled, inlined
from gpupilot_envs.following import Known, Ring

Floats = NDArray[np.float64]

_NEWEST = int(Known.NEWEST)
_COUNT = int(Known.COUNT)
_LEVEL = int(Known.LEVEL)
_ERRORS = int(Known.ERRORS)
_SQUARES = int(Known.SQUARES)
_WINDOW = int(Known.WINDOW)
_MISSES = int(Known.MISSES)
_RING_AT = int(Ring.AT)
_RING_BASE = int(Ring.BASE)


@inlined
def relative_miss(known: Floats, anchor: int) -> float:
    """Return the logarithm of a mean's error over the forecast's; below 0 the mean is better.

    Root mean squares of the last quarter of an hour; 0 while one of them is 0.
    """
    forecast, mean = known[_MISSES], known[_MISSES + 1 + anchor]
    return 0.5 * math.log(mean / forecast) if forecast > 0.0 and mean > 0.0 else 0.0


@compiled
def margin_of(z: float, conformal: bool, ordered: Floats, known: Floats) -> float:
    """Return the margin over the forecast, requests/s: ``queueing.margin_rps`` of the errors."""
    count = int(known[_ERRORS])
    if count == 0:
        first: float = z * math.sqrt(max(known[_LEVEL], 0.0) / known[_WINDOW])
        return first
    gaussian: float = z * math.sqrt(max(known[_SQUARES], 0.0) / count)
    if not conformal:
        return gaussian
    rank = math.ceil((count + 1) * 0.5 * (1.0 + math.erf(z / math.sqrt(2.0))))
    highest = ordered[count - max(count - rank + 1, 1)]
    return float(max(gaussian, highest) if rank > count else max(0.0, highest))


@compiled
def held_base(hold_s: float, ring: Floats, known: Floats) -> float:
    """Return the largest base of the last ``hold_s`` seconds, requests/s, at least the newest."""
    size, slot = ring.shape[1], int(known[_NEWEST])
    oldest_s = ring[_RING_AT, slot] - hold_s
    largest = ring[_RING_BASE, slot]
    for _ in range(int(known[_COUNT]) - 1):
        slot = slot - 1 if slot > 0 else size - 1
        if ring[_RING_AT, slot] < oldest_s or ring[_RING_BASE, slot] != ring[_RING_BASE, slot]:
            break
        largest = max(largest, ring[_RING_BASE, slot])
    return float(largest)
