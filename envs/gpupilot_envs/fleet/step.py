"""One decision interval of every service of a fleet, in one compiled call."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled
from gpupilot_envs.fleet.backlog import advance
from gpupilot_envs.fleet.interval import (
    SUMS,
    add_lost,
    add_share,
    begin,
    conclude,
)
from gpupilot_envs.fleet.lookup import STEADY, burst_position
from gpupilot_envs.fleet.pods import ask, crash, crashes, join, settle
from gpupilot_envs.fleet.rates import integral_until
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
    """Let one interval pass for every service; see :class:`FleetWorld` for the arrays."""
    felt = np.empty(STEADY)
    sums = np.empty(SUMS)
    span_s = interval_s / parts
    for i in range(len(services)):
        service = services[i]
        profile = service["profile"]
        plant = plants[profile]
        begin(sums)
        changed = granted[i] != service["ready"] + service["starting"]
        gpu_s = ask(service, plant, ready_at_s[i], random, i, granted[i])
        struck = crashes(service, random, i, interval_s)
        if struck > 0:
            crash(service, plant, ready_at_s[i], random, i, struck)
        silence_by_chance(service, random, i, interval_s)
        trace = service["trace"]
        edge = first[trace]
        bins = first[trace + 1] - edge - 1
        width_s = bin_s[trace]
        at_s = service["start_s"] + service["elapsed_s"]
        seen = integral_until(requests, edge, bins, width_s, at_s)
        seen_squares = integral_until(squares, edge, bins, width_s, at_s)
        for _ in range(parts):
            join(service, plant, ready_at_s[i], service["elapsed_s"] + 0.5 * span_s)
            service["elapsed_s"] += span_s
            at_s = service["start_s"] + service["elapsed_s"]
            until = integral_until(requests, edge, bins, width_s, at_s)
            until_squares = integral_until(squares, edge, bins, width_s, at_s)
            mean_rps = (until - seen) / span_s
            expected = (until - seen) * service["rate_scale"]
            spread = max((until_squares - seen_squares) / span_s - mean_rps * mean_rps, 0.0)
            seen = until
            seen_squares = until_squares
            ready = service["ready"]
            gpu_s += (ready + service["starting"]) * span_s
            if ready == 0:
                add_lost(sums, expected)
                continue
            within = spread / max(mean_rps, 1e-12) * service["rate_scale"] * min(width_s, span_s)
            burst = burst_position(1.0 + (service["dispersion"] + within) / ready)
            load = expected / (span_s * ready * plant["saturation_rps"])
            fresh = (ready - service["stranded"]) / ready
            if fresh > 0.0:
                service["backlog_s"] = advance(
                    steady,
                    slack,
                    levels,
                    plant,
                    profile,
                    burst,
                    load,
                    service["backlog_s"],
                    span_s,
                    felt,
                )
                add_share(sums, felt, expected * fresh, ready * fresh * span_s)
            if service["stranded"] > 0:
                service["stranded_s"] = advance(
                    steady,
                    slack,
                    levels,
                    plant,
                    profile,
                    burst,
                    load,
                    service["stranded_s"],
                    span_s,
                    felt,
                )
                add_share(sums, felt, expected * (1.0 - fresh), ready * (1.0 - fresh) * span_s)
                settle(service, plant)
        service["steps"] += 1
        conclude(
            service,
            plant,
            random,
            i,
            sums,
            interval_s,
            gpu_s,
            changed,
            kept[i, service["steps"] % KEPT],
            outcome[i],
        )
        show(service, kept[i], interval_s, rows[i])


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
        at_s = service["start_s"] + service["elapsed_s"]
        seen = integral_until(requests, edge, bins, bin_s[trace], at_s)
        for k in range(out.shape[1]):
            at_s += interval_s
            until = integral_until(requests, edge, bins, bin_s[trace], at_s)
            out[i, k] = (until - seen) * service["rate_scale"] / interval_s
            seen = until
