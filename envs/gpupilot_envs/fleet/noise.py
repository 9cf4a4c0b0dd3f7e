"""Random numbers that belong to a service, so that its place in the fleet changes nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled, inlined

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)
_S27 = np.uint64(27)
_S30 = np.uint64(30)
_S31 = np.uint64(31)
_S11 = np.uint64(11)

_FEW = 24.0
"""Mean number of clusters below which counts are drawn exactly, not from the normal limit."""


@inlined
def uniform(random: NDArray[np.uint64], service: int) -> float:
    """Return the service's next uniform number in [0, 1): SplitMix64 (Steele et al., 2014)."""
    random[service] += _GOLDEN
    z = random[service]
    z = (z ^ (z >> _S30)) * _MIX_A
    z = (z ^ (z >> _S27)) * _MIX_B
    z = z ^ (z >> _S31)
    share: float = (z >> _S11) * (1.0 / 9007199254740992.0)
    return share


@inlined
def normal(random: NDArray[np.uint64], service: int) -> float:
    """Return the service's next standard normal number (Box and Muller, 1958)."""
    radius = np.sqrt(-2.0 * np.log(1.0 - uniform(random, service)))
    drawn: float = radius * np.cos(2.0 * np.pi * uniform(random, service))
    return drawn


@inlined
def count(random: NDArray[np.uint64], service: int, mean: float, dispersion: float) -> float:
    """Return a whole number of arrivals with a mean and an index of dispersion.

    Clusters arrive as a Poisson process, each of ``dispersion`` requests, rounded at random;
    1 is Poisson. Many clusters are drawn from the normal limit.

    Args:
        random: State of every service's generator.
        service: Which service draws.
        mean: Expected arrivals, 0 or more.
        dispersion: Variance of the count over its mean, 1 or more.
    """
    clusters = mean / dispersion
    if clusters > _FEW:
        drawn = clusters + np.sqrt(clusters) * normal(random, service)
    else:
        drawn = _poisson(random, service, clusters)
    arrivals: float = np.floor(max(drawn, 0.0) * dispersion + uniform(random, service))
    return arrivals


@compiled
def _poisson(random: NDArray[np.uint64], service: int, mean: float) -> float:
    limit = np.exp(-mean)
    product = uniform(random, service)
    events = 0.0
    while product > limit:
        product *= uniform(random, service)
        events += 1.0
    return events


@compiled
def positive(random: NDArray[np.uint64], service: int, mean: float, cv: float) -> float:
    """Return a log-normal number with a mean and a coefficient of variation."""
    spread = np.sqrt(np.log(1.0 + cv * cv))
    drawn: float = mean * np.exp(spread * normal(random, service) - 0.5 * spread * spread)
    return drawn
