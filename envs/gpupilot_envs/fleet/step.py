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

    The interval is resolved into ``parts`` unless nothing changes within it: one rate, no pod
    that starts, no pods apart from the others.
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
        calm = at + interval_s / width_s <= int(at) + 1.0
        pieces = 1 if calm and service["starting"] + service["stranded"] == 0 else parts
        span_s = interval_s / pieces
        seen = integral_at(requests, edge, bins, at)
        seen_squares = integral_at(squares, edge, bins, at)
        for _ in range(pieces):
            if service["starting"] > 0:
                join(service, plant, ready_at_s, i, service["elapsed_s"] + 0.5 * span_s)
            service["elapsed_s"] += span_s
            at += span_s / width_s
            until = integral_at(requests, edge, bins, at)
            expected = (until - seen) * service["rate_scale"]
            within = 0.0
            if width_s < span_s:
                until_squares = integral_at(squares, edge, bins, at)
                within = _dispersion_within(until - seen, until_squares - seen_squares, span_s)
                within *= service["rate_scale"] * width_s
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
