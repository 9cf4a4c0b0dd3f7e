"""Whether an objective is being burnt while a learned policy decides: two windows, as SREs page.

A trip needs the share of late requests to be far above what the objective allows over a short
and over a long window (Google's *Site Reliability Workbook*, chapter 5, "multiwindow, multi-burn-
rate alerts"): the long one says that it matters, the short one that it goes on. Then the policy
stands back for a stated time and begins with a clean sheet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from gpupilot_envs.signals import Signals

SHORT_S, LONG_S = 120.0, 1800.0
"""Time constants of the decaying windows."""
BURN_MAX = 6.0
"""Times the late requests that the objective allows, which in an hour spend the budget of six."""
LEAST_S = 600.0
"""A policy is not judged on less: what it finds when it begins is not of its making."""
TRIP_S = 1800.0
"""How long it stands back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Burn:
    """Requests and late ones, decaying.

    Attributes:
        at_s: Time of the last reading that was counted; ``None`` before the first.
        decided_s: Seconds over which the policy has decided.
        requests: Over the short and the long window.
        late: Of them, those out of time.
    """

    at_s: float | None = None
    decided_s: float = 0.0
    requests: tuple[float, float] = (0.0, 0.0)
    late: tuple[float, float] = (0.0, 0.0)


def counted(burn: Burn, reading: Signals, now_s: float) -> Burn:
    """Return the sheet with one more reading; what was not answered counts for nothing."""
    elapsed_s = 0.0 if burn.at_s is None else max(now_s - burn.at_s, 0.0)
    faded = [math.exp(-elapsed_s / window_s) for window_s in (SHORT_S, LONG_S)]
    rate, attained = reading.rate_rps, reading.attainment_ratio
    fresh = 0.0 if rate is None or attained is None else rate * elapsed_s
    late = 0.0 if attained is None else fresh * (1.0 - min(max(attained, 0.0), 1.0))
    short, long = (kept * share + fresh for kept, share in zip(burn.requests, faded, strict=True))
    late_short, late_long = (
        kept * share + late for kept, share in zip(burn.late, faded, strict=True)
    )
    return replace(
        burn,
        at_s=now_s,
        decided_s=burn.decided_s + elapsed_s,
        requests=(short, long),
        late=(late_short, late_long),
    )


def burns(burn: Burn, attainment_ratio: float) -> bool:
    """Whether both windows are far below the objective.

    Args:
        burn: The sheet.
        attainment_ratio: The objective, 0 to 1, less than 1.
    """
    if burn.decided_s < LEAST_S:
        return False
    allowed = BURN_MAX * (1.0 - attainment_ratio)
    return all(
        requests >= 1.0 and late > allowed * requests
        for requests, late in zip(burn.requests, burn.late, strict=True)
    )
