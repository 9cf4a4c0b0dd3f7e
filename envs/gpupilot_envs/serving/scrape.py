"""How metrics are collected: when, how late they are seen, and into which buckets."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.errors import InputInvalid

SPREAD = (0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0, 1.15, 1.35, 1.7, 2.5, 4.0, 8.0, 20.0, 60.0)
"""Default bucket bounds as multiples of the latency target: dense where decisions are made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrape:
    """Prometheus' side of the metrics.

    Attributes:
        interval_s: Seconds between scrapes; they fall on its multiples, the first at 0.
        delay_s: Seconds until a scrape can be queried.
        buckets_s: Upper bounds of the gateway's latency histogram, ascending, without +Inf;
            the target is added when missing. ``None`` spreads 16 bounds round the target.
    """

    interval_s: float = 1.0
    delay_s: float = 0.0
    buckets_s: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse intervals, delays and bounds that cannot be."""
        if not self.interval_s > 0:
            raise InputInvalid("interval_s", self.interval_s, "seconds, more than 0")
        if not self.delay_s >= 0:
            raise InputInvalid("delay_s", self.delay_s, "seconds, 0 or more")
        bounds = self.buckets_s or ()
        if any(not b > a for a, b in pairwise((0.0, *bounds))):
            raise InputInvalid("buckets_s", bounds, "ascending seconds, more than 0")

    def bounds_s(self, target_s: float) -> NDArray[np.float64]:
        """Return the bounds of the histogram, the target among them."""
        given = self.buckets_s or tuple(target_s * multiple for multiple in SPREAD)
        return np.unique(np.array([*given, target_s], dtype=np.float64))
