"""What each service of a fleet is given at a reset: profile, traffic, start, metrics, faults."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.errors import InputInvalid

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Episodes:
    """One row per service that is reset; every array has shape ``(k,)``.

    Attributes:
        seed: Seed of the service's own randomness, 0 or more; equal seeds and inputs replay
            bit for bit, wherever in the fleet the service sits.
        profile: Index into :class:`FleetTables`.
        trace: Index into :class:`RateLibrary`.
        start_s: Where in the trace to begin, 0 or more; the trace repeats after its end.
        rate_scale: Factor on the trace's rates, 0 or more.
        cv: Variation of the gaps between arrivals, 1 (Poisson) or more.
        replicas: Pods ready at the start, 0 to the fleet's ``replicas_max``.
        lag_s: How late metrics arrive, 0 to four intervals.
        cold_start_scale: Factor on the profile's mean cold start, more than 0.
        crashes_per_hour: Rate at which each ready pod crashes and restarts.
        silences_per_hour: Rate at which the metrics fall silent, for a minute on average.
    """

    seed: NDArray[np.uint64]
    profile: Ints
    trace: Ints
    start_s: Floats
    rate_scale: Floats
    cv: Floats
    replicas: Ints
    lag_s: Floats
    cold_start_scale: Floats
    crashes_per_hour: Floats
    silences_per_hour: Floats

    @classmethod
    def of(
        cls,
        seed: NDArray[np.uint64] | NDArray[np.int64],
        *,
        rate_scale: Floats | float,
        replicas: Ints | int,
        profile: Ints | int = 0,
        trace: Ints | int = 0,
        start_s: Floats | float = 0.0,
        cv: Floats | float = 1.0,
        lag_s: Floats | float = 0.0,
        cold_start_scale: Floats | float = 1.0,
        crashes_per_hour: Floats | float = 0.0,
        silences_per_hour: Floats | float = 0.0,
    ) -> Episodes:
        """Spread scalars over the services of ``seed``.

        Raises:
            InputInvalid: A value is out of the range stated above, or NaN.
        """
        shape = seed.shape

        def whole(value: Ints | int) -> Ints:
            return np.broadcast_to(np.asarray(value, dtype=np.int64), shape)

        def real(value: Floats | float) -> Floats:
            return np.broadcast_to(np.asarray(value, dtype=np.float64), shape)

        episodes = cls(
            seed=seed.astype(np.uint64),
            profile=whole(profile),
            trace=whole(trace),
            start_s=real(start_s),
            rate_scale=real(rate_scale),
            cv=real(cv),
            replicas=whole(replicas),
            lag_s=real(lag_s),
            cold_start_scale=real(cold_start_scale),
            crashes_per_hour=real(crashes_per_hour),
            silences_per_hour=real(silences_per_hour),
        )
        for name, low in _LOWEST.items():
            _check(name, getattr(episodes, name), low)
        return episodes

    def __len__(self) -> int:
        """Return the number of services."""
        return len(self.seed)


_LOWEST: dict[str, float] = {
    "profile": 0,
    "trace": 0,
    "start_s": 0.0,
    "rate_scale": 0.0,
    "cv": 1.0,
    "replicas": 0,
    "lag_s": 0.0,
    "cold_start_scale": 1e-9,
    "crashes_per_hour": 0.0,
    "silences_per_hour": 0.0,
}

FIELDS: tuple[str, ...] = tuple(field.name for field in fields(Episodes))
"""Names of the fields of :class:`Episodes`."""


def _check(name: str, values: Floats | Ints, low: float) -> None:
    wrong = ~((values >= low) & (values < np.inf))
    if wrong.any():
        value = values[int(np.argmax(wrong))].item()
        raise InputInvalid(name, value, f"finite values of {low:g} or more")
