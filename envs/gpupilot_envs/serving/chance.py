"""Randomness inside the kernels: a counter hashed to bits, and execution noise drawn ahead.

A draw depends only on its key and its number, never on the order in which replicas are
advanced, so two policies on the same seed meet the same luck (common random numbers) and a
run is the same however it is cut into steps.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled

ServiceDistribution = Literal["lognormal", "exponential"]

NOISE_SIZE = 1 << 16
"""Entries of the noise table; a power of two, so that a hash is cut to an index by a mask."""


@compiled
def hashed(key: int, number: int) -> np.uint64:
    """Return 64 well-mixed bits for draw ``number`` of ``key``.

    The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) over a Weyl sequence.
    """
    z = np.uint64(key) + np.uint64(number) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.uint64(z ^ (z >> np.uint64(31)))


@compiled
def below(key: int, number: int, limit: int) -> int:
    """Return a uniform integer in ``[0, limit)`` by multiply and shift (Lemire 2019)."""
    high = hashed(key, number) >> np.uint64(32)
    # int() keeps uint64 in compiled code, and uint64 with int64 would turn into a float.
    return np.int64((high * np.uint64(limit)) >> np.uint64(32))  # type: ignore[return-value]


@lru_cache(maxsize=64)
def noise_table(cv: float, distribution: ServiceDistribution) -> NDArray[np.float64]:
    """Return factors of unit mean for the time of one execution, shape ``(NOISE_SIZE,)``.

    The entries are the distribution's quantiles at equal steps, so there is no sampling
    error in its moments; which entry an execution gets is a hash. The lognormal's shape is
    chosen such that the table, whose tail is cut, has the coefficient of variation asked for.

    Args:
        cv: Coefficient of variation of the lognormal, 0 for none.
        distribution: ``"lognormal"``, or ``"exponential"`` (coefficient of variation 1).
    """
    share = (np.arange(NOISE_SIZE, dtype=np.float64) + 0.5) / NOISE_SIZE
    if distribution == "exponential":
        factors = -np.log1p(-share)
    elif cv == 0.0:
        factors = np.ones(NOISE_SIZE)
    else:
        from scipy import optimize, special

        normal = special.ndtri(share)
        sigma = math.sqrt(math.log1p(cv * cv))
        sigma = optimize.brentq(lambda s: _spread(np.exp(s * normal)) - cv, sigma, 1.2 * sigma)
        factors = np.exp(sigma * normal)
    return np.asarray(factors / factors.mean(), dtype=np.float64)


def _spread(values: NDArray[np.float64]) -> float:
    """Return the coefficient of variation."""
    return float(values.std() / values.mean())
