"""One decision interval of every service of a fleet, in one compiled call."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled, inlined
from gpupilot_envs.fleet.backlog import advance
from gpupilot_envs.fleet.interval import (
    BOOKED,
    BUSY,
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
from gpupilot_envs.fleet.shift import ask_gear, asked_pods, flip

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_INSTANT_S = 1e-6

_SPREAD_LEAST = 0.02
"""Relative spread of the rates within a part that is worth being resolved."""


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
    profiles: Ints,
    interval_s: float,
    parts: int,
    kept: Floats,
    rows: Floats,
    outcome: Floats,
) -> None:
    """Let one interval pass for every service; see :class:`FleetWorld` for the arrays.

    The interval is resolved where the rate changes, a pod becomes ready or a gear takes over; a
    trace finer than a part is taken in ``parts``, each half above and half below its mean rate.
    """
    felt = np.empty(STEADY)
    sums = np.empty(SUMS)
    for i in range(len(services)):
        service = services[i]
        plant = plants[service["profile"]]
        begin(sums)
        waiting = waiting_requests(service, plant)
        changed = granted[i] != asked_pods(service)
        if profiles[i] < 0 and service["next_profile"] < 0:
            gpu_s = ask(service, plant, ready_at_s, random, i, granted[i])
        else:
            gpu_s = ask_gear(
                service, plants, ready_at_s, random, i, granted[i], profiles[i], sums, BOOKED
            )
        shifting = service["next_profile"] >= 0
        replacing = shifting and service["restarting"] == 1
        crash(service, plant, ready_at_s, random, i, crashes(service, random, i, interval_s))
        silence_by_chance(service, random, i, interval_s)
        trace = service["trace"]
        edge = first[trace]
        bins = first[trace + 1] - edge - 1
        width_s = bin_s[trace]
        at = bin_position(service["start_s"] + service["elapsed_s"], width_s, bins)
        # bins shorter than a part are not resolved: their spread round the mean is
        fine = width_s * parts < 0.999 * interval_s
        begin_s = service["elapsed_s"]
        end_s = begin_s + interval_s
        seen = integral_at(requests, edge, bins, at)
        seen_squares = integral_at(squares, edge, bins, at) if fine else 0.0
        while service["elapsed_s"] < end_s:
            until_s = _next_change(service["elapsed_s"], begin_s, end_s, at, width_s, parts, fine)
            if shifting:
                if service["flip_at_s"] <= service["elapsed_s"] + _INSTANT_S:
                    flip(service, plants, ready_at_s, i, gpu_s, sums, BOOKED, BUSY)
                    plant = plants[service["profile"]]
                    gpu_s = 0.0
                    shifting, replacing = False, False
                else:
                    until_s = min(until_s, service["flip_at_s"])
            if service["starting"] > 0 and not replacing:
                until_s = min(until_s, join(service, plant, ready_at_s, i))
            span_s = until_s - service["elapsed_s"]
            service["elapsed_s"] = until_s
            at += span_s / width_s
            until = integral_at(requests, edge, bins, at)
            expected = (until - seen) * service["rate_scale"]
            spread = 0.0
            if fine:
                until_squares = integral_at(squares, edge, bins, at)
                spread = _relative_spread(until - seen, until_squares - seen_squares, span_s)
                seen_squares = until_squares
            seen = until
            ready = service["ready"]
            if replacing:
                later = plants[service["next_profile"]]
                held_s = service["starting"] * span_s * later["gpu_share"]
                sums[BOOKED] += held_s
                sums[BOOKED + 1] += held_s * later["idle_w"]
                gpu_s += ready * span_s
            else:
                gpu_s += (ready + service["starting"]) * span_s
            if ready == 0:
                add_lost(sums, expected)
                continue
            burst = burst_position(1.0 + service["dispersion"] / ready)
            mean_load = expected / (span_s * ready * plant["saturation_rps"])
            halves = 2 if spread > _SPREAD_LEAST else 1
            for part in range(2 * halves):
                fresh = part % 2 == 0
                pods = ready - service["stranded"] if fresh else service["stranded"]
                if pods == 0:
                    continue
                tilt = 0.0 if halves == 1 else spread if part < 2 else -spread
                backlog_s = service["backlog_s"] if fresh else service["stranded_s"]
                backlog_s = advance(
                    steady,
                    slack,
                    levels,
                    plant,
                    service["profile"],
                    burst,
                    mean_load * (1.0 + tilt),
                    backlog_s,
                    span_s / halves,
                    felt,
                )
                share = (1.0 + tilt) * pods / (ready * halves)
                add_share(sums, felt, expected * share, pods * span_s / halves)
                if fresh:
                    service["backlog_s"] = backlog_s
                else:
                    service["stranded_s"] = backlog_s
            if service["stranded"] > 0:
                settle(service, plant)
        service["newest"] = service["newest"] + 1 if service["newest"] < KEPT - 1 else 0
        conclude(
            service, plant, random, i, sums, interval_s, gpu_s, waiting, changed, kept, outcome
        )
        show(service, kept, i, interval_s, rows)


@inlined
def _next_change(
    now_s: float,
    begin_s: float,
    end_s: float,
    at: float,
    width_s: float,
    parts: int,
    fine: bool,
) -> float:
    """Return the end of the piece of an interval in which one rate is taken to hold."""
    if fine:
        piece_s = (end_s - begin_s) / parts
        until_s = begin_s + piece_s * (int((now_s - begin_s) / piece_s + 1e-6) + 1)
    else:
        until_s = now_s + (int(at + 1e-9) + 1 - at) * width_s
    if until_s > end_s - _INSTANT_S:
        return end_s
    return until_s


@inlined
def _relative_spread(requests: float, squares: float, span_s: float) -> float:
    """Return the standard deviation over the mean of the rates within a span, at most 1."""
    if requests <= 0.0:
        return 0.0
    mean_rps = requests / span_s
    spread: float = np.sqrt(max(squares / (span_s * mean_rps * mean_rps) - 1.0, 0.0))
    return min(spread, 1.0)


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


@compiled
def demand_over(
    services: NDArray[np.void],
    first: Ints,
    bin_s: Floats,
    requests: Floats,
    edges_s: Floats,
    out: Floats,
) -> None:
    """Write the expected rate between the edges, seconds from now, into ``out``."""
    for i in range(len(services)):
        service = services[i]
        trace = service["trace"]
        edge = first[trace]
        bins = first[trace + 1] - edge - 1
        width_s = bin_s[trace]
        at = bin_position(service["start_s"] + service["elapsed_s"], width_s, bins)
        before = integral_at(requests, edge, bins, at + edges_s[0] / width_s)
        for k in range(len(edges_s) - 1):
            after = integral_at(requests, edge, bins, at + edges_s[k + 1] / width_s)
            out[i, k] = (after - before) * service["rate_scale"] / (edges_s[k + 1] - edges_s[k])
            before = after
