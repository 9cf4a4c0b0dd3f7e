"""Reading the fleet's tables between their nodes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled, inlined
from gpupilot_envs.fleet.table import BURST_STEP, BURSTS, LEVELS, LOAD_STEP, LOADS, SLACKS, Steady

Floats = NDArray[np.float64]

STEADY = len(Steady)


@inlined
def burst_position(cv_squared: float) -> float:
    """Return where a replica's gap variation lies on the burstiness axis, in nodes."""
    nodes: float = min((np.sqrt(cv_squared) - 1.0) * (1.0 / BURST_STEP), BURSTS - 1.001)
    return nodes


@inlined
def load_position(load: float) -> float:
    """Return where a replica's load lies on the load axis, in nodes."""
    return min(load * (1.0 / LOAD_STEP), LOADS - 1.001)


@inlined
def read_steady(steady: Floats, profile: int, burst: float, load: float, out: Floats) -> None:
    """Write every column of the steady state at a position (in nodes) into ``out``."""
    b = int(burst)
    j = int(load)
    high_b = burst - b
    high_j = load - j
    w00 = (1.0 - high_b) * (1.0 - high_j)
    w01 = (1.0 - high_b) * high_j
    w10 = high_b * (1.0 - high_j)
    w11 = high_b * high_j
    for k in range(STEADY):
        out[k] = (
            w00 * steady[profile, b, j, k]
            + w01 * steady[profile, b, j + 1, k]
            + w10 * steady[profile, b + 1, j, k]
            + w11 * steady[profile, b + 1, j + 1, k]
        )


@compiled
def read_slack(
    slack: Floats, profile: int, burst: float, load: float, lost_s: float, target_s: float
) -> float:
    """Return the integral of the in-time share over 0 to ``lost_s`` seconds less of the target."""
    x = min(lost_s / target_s, 1.0) * (SLACKS - 1)
    k = min(int(x), SLACKS - 2)
    high_x = x - k
    # the nearest node of the other axes: this corrects a transient, not the steady state
    b = int(burst + 0.5)
    j = int(load + 0.5)
    lost: float = slack[profile, b, j, k] + high_x * (
        slack[profile, b, j, k + 1] - slack[profile, b, j, k]
    )
    return lost


@compiled
def level_position(backlog_s: float, level_max_s: float) -> float:
    """Return where a backlog lies on the level axis, in nodes."""
    nodes: float = min(np.sqrt(max(backlog_s, 0.0) / level_max_s) * (LEVELS - 1), LEVELS - 1.001)
    return nodes


@compiled
def read_level(levels: Floats, profile: int, burst: float, position: float, column: int) -> float:
    """Return one column of a growing backlog's state at a position (in nodes)."""
    b = int(burst + 0.5)
    k = int(position)
    # between nodes the backlog is quadratic in the position
    low = float(k * k)
    high_k = (position * position - low) / ((k + 1.0) * (k + 1.0) - low)
    here = levels[profile, b, k, column]
    value: float = here + high_k * (levels[profile, b, k + 1, column] - here)
    return value
