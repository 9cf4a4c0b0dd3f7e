"""What a few seeds came to together: mean, spread and interval of one number.

Student's t, not a bootstrap: five values resampled can only be five values, and the interval comes
out too narrow. It assumes that seeds scatter symmetrically about their mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """One number of several seeds.

    Attributes:
        mean: Mean of the seeds that have it; ``None`` where none has.
        deviation: Sample standard deviation; ``None`` of fewer than two.
        ci95: 95 % interval of the mean; ``None`` of fewer than two.
        missing: Seeds that have no such number; they are in none of the others.
    """

    mean: float | None
    deviation: float | None
    ci95: tuple[float, float] | None
    missing: int


def spread(values: Iterable[float | None]) -> Spread:
    """Return mean, spread and interval of the values; ``None`` and NaN are missing."""
    given = list(values)
    known = np.array([v for v in given if v is not None and math.isfinite(v)])
    missing = len(given) - len(known)
    if not len(known):
        return Spread(mean=None, deviation=None, ci95=None, missing=missing)
    mean = float(known.mean())
    if len(known) == 1:
        return Spread(mean=mean, deviation=None, ci95=None, missing=missing)
    deviation = float(known.std(ddof=1))
    reach = float(stats.t.ppf(0.5 * (1.0 + CONFIDENCE), len(known) - 1))
    half = reach * deviation / math.sqrt(len(known))
    return Spread(mean=mean, deviation=deviation, ci95=(mean - half, mean + half), missing=missing)
