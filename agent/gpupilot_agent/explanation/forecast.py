"""The traffic to come where only the past is known: as it has changed before, from today's rate.

Each draw takes one earlier stretch of the same service and adds its changes to the present rate
(the method of analogues; Lorenz, *Journal of the Atmospheric Sciences* 26, 1969). It needs no model
of seasons or bursts, and its spread is the spread of what the service has really done.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEVEL_S = 60.0
"""The present rate is the mean over so many seconds."""


def futures(
    past_rps: NDArray[np.float64], *, bin_s: float, bins: int, draws: int
) -> NDArray[np.float64]:
    """Return possible rates of the next ``bins`` bins, shape ``(draws, bins)``, 0 or more.

    With less past than a minute and ``bins`` bins every draw is the present rate, held.

    Args:
        past_rps: Rates so far, newest last, shape ``(n,)`` with ``n`` at least 1.
        bin_s: Length of a bin in seconds.
        bins: Bins wanted.
        draws: How many futures; they begin at stretches spread evenly over the past.
    """
    width = max(1, min(round(LEVEL_S / bin_s), len(past_rps)))
    level = past_rps[-width:].mean()
    last = len(past_rps) - bins
    if last < width:
        return np.full((draws, bins), level)
    starts = np.linspace(width, last, draws).round().astype(np.int64)
    drawn = [past_rps[at : at + bins] - past_rps[at - width : at].mean() for at in starts]
    return np.asarray(np.maximum(level + np.stack(drawn), 0.0), dtype=np.float64)
