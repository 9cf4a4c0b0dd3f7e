"""What the fleet knows of a service: steady states by load and burstiness, as arrays.

One table holds one profile at one target. Its axes are the load of a replica (arrival rate over
saturation rate) and the *burstiness a replica sees*: random balancing thins the service's
arrivals, and a thinned renewal process of gap variation ``cv`` has, at ``n`` replicas, the gap
variation ``sqrt(1 + (cv**2 - 1) / n)`` (Cox, Renewal Theory, 1962). So replicas and burstiness
share one axis, and Poisson traffic needs no axis at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.errors import InputInvalid

Floats = NDArray[np.float64]

LOAD_STEP = 0.0125
"""Distance of the load nodes; node 0 is an idle replica."""

LOADS = 121
"""Load nodes: 0 to 1.5 times saturation; beyond, the last node holds."""

BURST_STEP = 0.25
"""Distance of the burstiness nodes; node 0 is Poisson."""

BURSTS = 21
"""Burstiness nodes: gap variation 1 to 6 as one replica sees it."""

SLACKS = 17
"""Nodes from 0 to the target at which the latency distribution is kept."""

LEVELS = 97
"""Nodes of the backlog axis, denser near 0."""


class Steady(IntEnum):
    """Columns of :attr:`FleetTable.steady`: one replica in its steady state."""

    DIFFUSION = 0
    """Backlog times (1 - load): what keeps a queue from emptying, in seconds."""
    BACKLOG_S = 1
    """Requests waiting over the saturation rate."""
    IN_TIME = 2
    """Share of requests answered within the target."""
    ERRORS = 3
    """Share of requests rejected or timed out."""
    LOG_P50 = 4
    LOG_P95 = 5
    LOG_P99 = 6
    QUEUE_S = 7
    COMPUTE_S = 8
    BATCH = 9
    BUSY = 10
    IN_TIME_SLOPE = 11
    """Change per relative excess of an interval's arrivals over the expected; so the next."""
    LOG_P50_SLOPE = 12
    LOG_P95_SLOPE = 13
    LOG_P99_SLOPE = 14


class Level(IntEnum):
    """Columns of :attr:`FleetTable.levels`: a replica whose backlog grows without a bound."""

    IN_TIME_INTEGRAL = 0
    """Integral of the in-time share over the backlog from 0, in seconds."""
    LOG_P50 = 1
    LOG_P95 = 2
    LOG_P99 = 3


PLANT = np.dtype(
    [
        ("saturation_rps", np.float64),
        ("slo_rps", np.float64),
        ("idle_latency_s", np.float64),
        ("target_s", np.float64),
        ("attainment_ratio", np.float64),
        ("cold_start_mean_s", np.float64),
        ("cold_start_cv", np.float64),
        ("scheduling_s", np.float64),
        ("drain_s", np.float64),
        ("overhead_s", np.float64),
        ("gpu_share", np.float64),
        ("pod_share", np.float64),
        ("idle_w", np.float64),
        ("busy_w", np.float64),
        ("full_batch", np.float64),
        ("full_compute_s", np.float64),
        ("latency_shown_max_s", np.float64),
        ("steady_load_max", np.float64),
        ("level_max_s", np.float64),
        ("loses", np.float64),
    ]
)
"""Constants of one service: capacity, objective, cold start, cost and the ends of its axes.

``gpu_share`` is what a pod is billed: its share of a GPU, or its CPU limit in cores where the
profile's device is a CPU. ``pod_share`` is the share its pod template states: gears of equal
share change without new pods.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetTable:
    """One service as the fleet sees it.

    Attributes:
        name: Name of the profile.
        plant: Its constants, a :data:`PLANT` record of shape ``()``.
        steady: Steady states, shape ``(BURSTS, LOADS, len(Steady))``.
        slack: Integral over x of the share of requests in time with x seconds less, from 0;
            shape ``(BURSTS, LOADS, SLACKS)``, x from 0 to the target.
        levels: States of a growing backlog, shape ``(BURSTS, LEVELS, len(Level))``; node k is a
            backlog of ``level_max_s * (k / (LEVELS - 1)) ** 2``.
    """

    name: str
    plant: NDArray[np.void]
    steady: Floats
    slack: Floats
    levels: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetTables:
    """Several services stacked on a leading profile axis, so that training can mix them.

    Attributes:
        names: Name of each profile.
        plants: Their constants, dtype :data:`PLANT`, shape ``(profiles,)``.
        steady: Shape ``(profiles, BURSTS, LOADS, len(Steady))``.
        slack: Shape ``(profiles, BURSTS, LOADS, SLACKS)``.
        levels: Shape ``(profiles, BURSTS, LEVELS, len(Level))``.
    """

    names: tuple[str, ...]
    plants: NDArray[np.void]
    steady: Floats
    slack: Floats
    levels: Floats

    @classmethod
    def of(cls, tables: Sequence[FleetTable]) -> FleetTables:
        """Stack ``tables``.

        Raises:
            InputInvalid: There is no table.
        """
        if not tables:
            raise InputInvalid("tables", "none", "at least one fitted service")
        return cls(
            names=tuple(table.name for table in tables),
            plants=np.array([table.plant for table in tables], dtype=PLANT),
            steady=np.stack([table.steady for table in tables]),
            slack=np.stack([table.slack for table in tables]),
            levels=np.stack([table.levels for table in tables]),
        )

    def __len__(self) -> int:
        """Return the number of profiles."""
        return len(self.names)
