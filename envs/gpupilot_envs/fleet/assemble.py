"""From measured steady states to a fleet table: monotone, smooth, on regular axes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import cumulative_trapezoid
from scipy.interpolate import PchipInterpolator
from scipy.optimize import isotonic_regression

from gpupilot_envs.fleet.table import (
    BURST_STEP,
    BURSTS,
    LEVELS,
    LOAD_STEP,
    LOADS,
    SLACKS,
    FleetTable,
    Level,
    Steady,
)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SteadyStates:
    """Steady states of one replica, measured on a sparse grid.

    Attributes:
        bursts: Gap variations measured, ascending from 1.
        loads: Loads measured, ascending, above 0.
        states: By burst, load and column of :class:`Steady`; the diffusion is not read.
        slack: Share of requests answered within the target less x, x at ``SLACKS`` nodes from
            0 to the target; shape ``(bursts, loads, SLACKS)``.
    """

    bursts: Floats
    loads: Floats
    states: Floats
    slack: Floats


def assemble(name: str, plant: NDArray[np.void], measured: SteadyStates) -> FleetTable:
    """Spread measured steady states over the axes of a table.

    Below the lowest load measured its state holds. Above ``steady_load_max`` of ``plant`` the
    state at it holds, unless the service loses requests: then its overload is steady too.

    Args:
        name: Name of the profile.
        plant: Constants of the service; its ``level_max_s`` is set here, and where they are 0,
            full batches are taken as those of the highest load, and latencies shown as unbounded.
        measured: What the event level showed.
    """
    states, slack = _regular(measured)
    top = float(plant["steady_load_max"])
    steady = _on_axes(states, measured)
    curves = _on_axes(slack, measured)
    nodes = np.linspace(0.0, (LOADS - 1) * LOAD_STEP, LOADS)
    last = round(top / LOAD_STEP)
    if not plant["loses"]:
        steady[:, last + 1 :] = steady[:, last : last + 1]
    curves[:, last + 1 :] = curves[:, last : last + 1]
    below = np.minimum(nodes, nodes[last])
    capped = steady[:, np.minimum(np.arange(LOADS), last), Steady.BACKLOG_S]
    steady[:, :, Steady.DIFFUSION] = (1.0 - below) * capped
    _add_slopes(steady, nodes)
    done = _completed(plant, steady[0, last])
    done["level_max_s"] = steady[:, last, Steady.BACKLOG_S].max() + plant["target_s"]
    lost_s = np.linspace(0.0, float(plant["target_s"]), SLACKS)
    levels = np.stack(
        [
            _levels(steady[b], curves[b], last, lost_s, float(done["level_max_s"]))
            for b in range(BURSTS)
        ]
    )
    return FleetTable(
        name=name,
        plant=done,
        steady=np.ascontiguousarray(steady),
        slack=_integral(curves, lost_s),
        levels=levels,
    )


def _completed(plant: NDArray[np.void], busiest: Floats) -> NDArray[np.void]:
    done = plant.copy()
    for name, value in (
        ("full_batch", busiest[Steady.BATCH]),
        ("full_compute_s", busiest[Steady.COMPUTE_S]),
        ("latency_shown_max_s", np.inf),
    ):
        if done[name] == 0.0:
            done[name] = value
    return done


def _add_slopes(steady: Floats, nodes: Floats) -> None:
    """Differentiate by the log of the load: an interval with more requests has more load."""
    for slope, column in (
        (Steady.IN_TIME_SLOPE, Steady.IN_TIME),
        (Steady.LOG_P50_SLOPE, Steady.LOG_P50),
        (Steady.LOG_P95_SLOPE, Steady.LOG_P95),
        (Steady.LOG_P99_SLOPE, Steady.LOG_P99),
    ):
        by_load = np.gradient(steady[:, :, column], LOAD_STEP, axis=1)
        steady[:, :, slope] = by_load * nodes


def _regular(measured: SteadyStates) -> tuple[Floats, Floats]:
    """Remove sampling noise that says more load helps: pool adjacent violators."""
    states = measured.states.copy()
    slack = measured.slack.copy()
    for b in range(len(measured.bursts)):
        states[b, :, Steady.IN_TIME] = _falling(states[b, :, Steady.IN_TIME])
        states[b, :, Steady.BACKLOG_S] = -_falling(-states[b, :, Steady.BACKLOG_S])
        slack[b] = np.minimum(slack[b], states[b, :, Steady.IN_TIME, None])
    slack[:, :, 0] = states[:, :, Steady.IN_TIME]
    return states, slack


def _falling(values: Floats) -> Floats:
    fitted: Floats = isotonic_regression(values, increasing=False).x
    return fitted


def _on_axes(values: Floats, measured: SteadyStates) -> Floats:
    """Interpolate (burst, load, column) to the table's axes, keeping monotone runs monotone."""
    loads = np.clip(np.arange(LOADS) * LOAD_STEP, measured.loads[0], measured.loads[-1])
    bursts = np.clip(1.0 + np.arange(BURSTS) * BURST_STEP, measured.bursts[0], measured.bursts[-1])
    by_load = PchipInterpolator(measured.loads, values, axis=1)(loads)
    out: Floats = PchipInterpolator(measured.bursts, by_load, axis=0)(bursts)
    return out


def _integral(curves: Floats, lost_s: Floats) -> Floats:
    out: Floats = cumulative_trapezoid(curves, lost_s, axis=-1, initial=0.0)
    return np.ascontiguousarray(out)


def _levels(
    steady: Floats, curves: Floats, last: int, lost_s: Floats, level_max_s: float
) -> Floats:
    """Follow one burstiness from an empty queue along its steady states, then beyond them.

    Up to the backlog of the highest steady load a growing queue is taken to look like the
    steady queue with the same backlog; beyond it, like that queue shifted.
    """
    fine = np.linspace(0.0, 1.0, 16 * (LEVELS - 1) + 1) ** 2 * level_max_s
    backlog = steady[: last + 1, Steady.BACKLOG_S]
    beyond = np.maximum(fine - backlog[-1], 0.0)
    in_time = np.where(
        fine <= backlog[-1],
        np.interp(fine, backlog, steady[: last + 1, Steady.IN_TIME]),
        np.interp(beyond, lost_s, curves[last], right=0.0),
    )
    integral = cumulative_trapezoid(in_time, fine, initial=0.0)
    out = np.empty((LEVELS, len(Level)))
    out[:, Level.IN_TIME_INTEGRAL] = integral[::16]
    for level, column in (
        (Level.LOG_P50, Steady.LOG_P50),
        (Level.LOG_P95, Steady.LOG_P95),
        (Level.LOG_P99, Steady.LOG_P99),
    ):
        seconds = np.exp(np.interp(fine, backlog, steady[: last + 1, column]))
        out[:, level] = np.log(seconds + beyond)[::16]
    return out
