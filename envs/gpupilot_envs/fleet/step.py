"""One decision interval of every service of a fleet, in one compiled call."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled, inlined
from gpupilot_envs.fleet.backlog import advance
from gpupilot_envs.fleet.interval import (
    SUMS,
    add_lost,
    add_share,
    begin,
    conclude,
    waiting_requests,
)
from gpupilot_envs.fleet.lookup import STEADY, burst_position
from gpupilot_envs.fleet.pods import ask, crash, crashes, join, settle
from gpupilot_envs.fleet.rates import bin_position, integral_at
from gpupilot_envs.fleet.reading import KEPT, show, silence_by_chance

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_INSTANT_S = 1e-6


@compiled
def step_all(
    services: NDArray[np.void],
    plants: NDArray[np.void],
    steady: Floats,
    slack: Floats,
    levels: Floats,
    first: Ints,
    bin_s: Floats,
    requests: Floats,
    squares: Floats,
    random: NDArray[np.uint64],
    ready_at_s: Floats,
    granted: Ints,
    interval_s: float,
    parts: int,
    kept: Floats,
    rows: Floats,
    outcome: Floats,
) -> None:
    """Let one interval pass for every service; see :class:`FleetWorld` for the arrays.

    The interval is resolved where the rate changes and where a pod becomes ready; a trace finer
    than the interval is taken in ``parts``, what varies inside them as burstiness.
    """
    felt = np.empty(STEADY)
    sums = np.empty(SUMS)
    for i in range(len(services)):
        service = services[i]
        plant = plants[service["profile"]]
        begin(sums)
        waiting = waiting_requests(service, plant)
        changed = granted[i] != service["ready"] + service["starting"]
        gpu_s = ask(service, plant, ready_at_s, random, i, granted[i])
        crash(service, plant, ready_at_s, random, i, crashes(service, random, i, interval_s))
        silence_by_chance(service, random, i, interval_s)
        trace = service["trace"]
        edge = first[trace]
        bins = first[trace + 1] - edge - 1
        width_s = bin_s[trace]
        at = bin_position(service["start_s"] + service["elapsed_s"], width_s, bins)
        fine = width_s < interval_s
        begin_s = service["elapsed_s"]
        end_s = begin_s + interval_s
        seen = integral_at(requests, edge, bins, at)
        seen_squares = integral_at(squares, edge, bins, at) if fine else 0.0
        while service["elapsed_s"] < end_s:
            until_s = _next_change(service["elapsed_s"], begin_s, end_s, at, width_s, parts)
            if service["starting"] > 0:
                until_s = min(until_s, join(service, plant, ready_at_s, i))
            span_s = until_s - service["elapsed_s"]
            service["elapsed_s"] = until_s
            at += span_s / width_s
            until = integral_at(requests, edge, bins, at)
            expected = (until - seen) * service["rate_scale"]
            within = 0.0
            if fine:
                until_squares = integral_at(squares, edge, bins, at)
                within = _dispersion_within(until - seen, until_squares - seen_squares, span_s)
                within *= service["rate_scale"] * min(width_s, span_s)
                seen_squares = until_squares
            seen = until
            ready = service["ready"]
            gpu_s += (ready + service["starting"]) * span_s
            if ready == 0:
                add_lost(sums, expected)
                continue
            burst = burst_position(1.0 + (service["dispersion"] + within) / ready)
            load = expected / (span_s * ready * plant["saturation_rps"])
            fresh = ready - service["stranded"]
            if fresh > 0:
                service["backlog_s"] = advance(
                    steady,
                    slack,
                    levels,
                    plant,
                    service["profile"],
                    burst,
                    load,
                    service["backlog_s"],
                    span_s,
                    felt,
                )
                add_share(sums, felt, expected * fresh / ready, fresh * span_s)
            if service["stranded"] > 0:
                service["stranded_s"] = advance(
                    steady,
                    slack,
                    levels,
                    plant,
                    service["profile"],
                    burst,
                    load,
                    service["stranded_s"],
                    span_s,
                    felt,
                )
                old = service["stranded"]
                add_share(sums, felt, expected * old / ready, old * span_s)
                settle(service, plant)
        service["newest"] = service["newest"] + 1 if service["newest"] < KEPT - 1 else 0
        conclude(
            service, plant, random, i, sums, interval_s, gpu_s, waiting, changed, kept, outcome
        )
        show(service, kept, i, interval_s, rows)


@inlined
def _next_change(
    now_s: float, begin_s: float, end_s: float, at: float, width_s: float, parts: int
) -> float:
    """Return the end of the piece of an interval in which one rate is taken to hold."""
    if width_s < end_s - begin_s:
        piece_s = (end_s - begin_s) / parts
        until_s = begin_s + piece_s * (int((now_s - begin_s) / piece_s + 1e-6) + 1)
    else:
        until_s = now_s + (int(at + 1e-9) + 1 - at) * width_s
    if until_s > end_s - _INSTANT_S:
        return end_s
    return until_s


@inlined
def _dispersion_within(requests: float, squares: float, span_s: float) -> float:
    """Return the variance over the mean of the rates within a span, in requests per second."""
    if requests <= 0.0:
        return 0.0
    mean_rps = requests / span_s
    excess: float = max(squares / span_s - mean_rps * mean_rps, 0.0) / mean_rps
    return excess


@compiled
def demand_ahead(
    services: NDArray[np.void],
    first: Ints,
    bin_s: Floats,
    requests: Floats,
    interval_s: float,
    out: Floats,
) -> None:
    """Write the expected rate of the next intervals into ``out``, shape ``(n, intervals)``."""
    for i in range(len(services)):
        service = services[i]
        trace = service["trace"]
        edge = first[trace]
        bins = first[trace + 1] - edge - 1
        width_s = bin_s[trace]
        at = bin_position(service["start_s"] + service["elapsed_s"], width_s, bins)
        seen = integral_at(requests, edge, bins, at)
        for k in range(out.shape[1]):
            at += interval_s / width_s
            until = integral_at(requests, edge, bins, at)
            out[i, k] = (until - seen) * service["rate_scale"] / interval_s
            seen = until
