"""How fast the fleet is, and how far it is from the event level.

Usage: ``python benchmarks/bench_fleet.py [--profile NAME] [--target-ms T] [--quick]``.

Speed is in services times intervals per CPU second of this process (``time.process_time``), the
median of five runs of 480 steps at 1,024 services. The error table compares both worlds at fixed
replicas and steady rates, at loads, replicas and burstiness that were not fitted: a minute of
warm-up from idle, then eight intervals of 15 s, the event level pooled over seeds. The schedules
give both worlds the same traffic and the same scripted replicas: ramps, overload, recovery. The
real traces are looked for in the folder named by ``GPUPILOT_DATA``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.embedded import DEFAULT, find_profile
from gpupilot_envs.fleet.episodes import Episodes
from gpupilot_envs.fleet.fit import fit
from gpupilot_envs.fleet.rates import RateLibrary
from gpupilot_envs.fleet.table import FleetTable, FleetTables
from gpupilot_envs.fleet.world import FleetWorld
from gpupilot_envs.limits import Targets
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.serving.ledger import Ledger
from gpupilot_envs.serving.measure import NO_SCRAPES, allocation_of
from gpupilot_envs.serving.world import SimulatedWorld
from gpupilot_envs.signals import SIGNAL_INDEX
from gpupilot_envs.workload.arrivals import ArrivalStream, RateArrivals, SteadyArrivals
from gpupilot_envs.workload.randomisation import random_traffic
from gpupilot_envs.workload.trace import RateTrace, read_trace, scale_to_replicas

Floats = NDArray[np.float64]

INTERVAL_S = 15.0
SERVICES = 1024
STEPS = 480
WARM_UP = 4
SCORED = 8

LOADS = (0.1, 0.22, 0.36, 0.47, 0.56, 0.64, 0.71, 0.77, 0.82, 0.86, 0.91, 0.96, 1.02, 1.1, 1.3)
REPLICAS = (1, 2, 5, 9, 16)
BURSTS = (1.0, 1.4, 2.3, 3.3, 4.0)
REQUESTS = 600_000
"""Requests of the event level at every point, at least; four times as many near saturation."""


@dataclass(frozen=True, slots=True)
class Point:
    """One comparison of the two worlds at a steady rate."""

    load: float
    replicas: int
    cv: float
    attainment: float
    fleet_attainment: float
    p95_s: float
    fleet_p95_s: float


def speed(tables: FleetTables) -> None:
    """Print steps per CPU second for traffic of several bin lengths, replicas fixed and moved."""
    random = np.random.default_rng(0)
    for bin_s in (60.0, 15.0, 5.0, 1.0):
        traces = [
            random_traffic(k, duration_s=86_400.0, bin_s=bin_s, families=("diurnal",))
            for k in range(4)
        ]
        rates = RateLibrary.of(traces)
        for label, moves in (("fixed replicas", 0), ("replicas moved every minute", 2)):
            grants = 9 + np.repeat(random.integers(-moves, moves + 1, (4, SERVICES)), 4, axis=0)
            world = FleetWorld(SERVICES, tables, rates)
            rate = statistics.median(_steps_per_s(world, grants) for _ in range(5))
            print(f"  bins of {bin_s:g} s, {label}: {rate / 1e6:.1f} M service-steps/s")


def _steps_per_s(world: FleetWorld, grants: NDArray[np.int64]) -> float:
    random = np.random.default_rng(1)
    trace = random.integers(len(world.rates.names), size=SERVICES)
    demand_rps = random.uniform(2.0, 7.0, SERVICES) * float(world.tables.plants["slo_rps"][0])
    world.reset(
        np.arange(SERVICES),
        Episodes.of(
            np.arange(SERVICES),
            trace=trace,
            start_s=INTERVAL_S * random.integers(5000, size=SERVICES).astype(np.float64),
            rate_scale=demand_rps / world.rates.mean_rps[trace],
            replicas=9,
            cv=random.uniform(1.0, 2.0, SERVICES),
        ),
    )
    world.step(grants[0])
    start = time.process_time()
    for k in range(STEPS):
        world.step(grants[k % len(grants)])
    return SERVICES * STEPS / (time.process_time() - start)


def points(profile: ServiceProfile, targets: Targets, table: FleetTable) -> Iterator[Point]:
    """Compare the worlds over the grid."""
    for cv in BURSTS:
        for replicas in REPLICAS:
            for load in LOADS:
                yield _point(profile, targets, table, load, replicas, cv)


def _point(
    profile: ServiceProfile,
    targets: Targets,
    table: FleetTable,
    load: float,
    replicas: int,
    cv: float,
) -> Point:
    rate_rps = load * replicas * float(table.plant["saturation_rps"])
    wanted = REQUESTS * (4 if load > 0.85 else 1)
    seeds = range(1000, 1000 + max(int(wanted / (rate_rps * INTERVAL_S * SCORED)), 4))
    runs = [
        _intervals(
            profile,
            targets,
            SteadyArrivals(rate_rps, cv=cv, seed=seed),
            np.full(WARM_UP + SCORED, replicas),
            seed,
        )[WARM_UP:]
        for seed in seeds
    ]
    in_time = sum(ledger.in_time for run in runs for ledger in run)
    requests = sum(ledger.requests for run in runs for ledger in run)
    p95_s = [_pooled_p95_s([run[k] for run in runs]) for k in range(SCORED)]
    ours = _fleet_run(
        table,
        RateTrace(name="steady", family="steady", bin_s=60.0, rps=np.full(60, rate_rps)),
        np.full(WARM_UP + SCORED, replicas),
        cv,
    )[WARM_UP:]
    return Point(
        load=load,
        replicas=replicas,
        cv=cv,
        attainment=in_time / requests,
        fleet_attainment=float(ours[:, 1].sum() / ours[:, 0].sum()),
        p95_s=float(np.exp(np.mean(np.log(p95_s)))),
        fleet_p95_s=float(np.exp(ours[:, 4].mean())),
    )


def _intervals(
    profile: ServiceProfile,
    targets: Targets,
    arrivals: ArrivalStream,
    schedule: NDArray[np.int64],
    seed: int,
) -> list[Ledger]:
    """Run the event level on a schedule of replicas; return every interval's ledger."""
    world = SimulatedWorld(
        profile,
        arrivals,
        targets=targets,
        allocation=allocation_of(profile, replicas=int(schedule[0])),
        seed=seed,
        scrape=NO_SCRAPES,
    )
    ledgers = [world.ledger()]
    for k, replicas in enumerate(schedule):
        world.apply(replace(world.allocation, replicas=int(replicas)))
        world.advance((k + 1) * INTERVAL_S)
        ledgers.append(world.ledger())
    return [later - earlier for earlier, later in pairwise(ledgers)]


def _pooled_p95_s(ledgers: list[Ledger]) -> float:
    counts = np.sum([ledger.latency_counts for ledger in ledgers], axis=0)
    return replace(ledgers[0], latency_counts=counts).latency_quantile_s(0.95) or float("nan")


def _fleet_run(
    table: FleetTable, trace: RateTrace, schedule: NDArray[np.int64], cv: float, services: int = 64
) -> Floats:
    """Return by interval: arrivals, in time, GPU-seconds, joules, mean log p95."""
    # what Prometheus can show ends at its last bucket; the truth is compared here
    plant = table.plant.copy()
    plant["latency_shown_max_s"] = np.inf
    tables = FleetTables.of([replace(table, plant=plant)])
    world = FleetWorld(services, tables, RateLibrary.of([trace]))
    everyone = np.arange(services)
    world.reset(everyone, Episodes.of(everyone, rate_scale=1.0, replicas=int(schedule[0]), cv=cv))
    out = np.empty((len(schedule), 5))
    for k, replicas in enumerate(schedule):
        world.step(np.full(services, replicas))
        out[k, :4] = [
            x.mean() for x in (world.arrivals, world.in_time, world.gpu_seconds, world.energy_j)
        ]
        shown_s = world.rows[:, SIGNAL_INDEX["latency_p95_s"]]
        out[k, 4] = np.log(shown_s).mean() if np.isfinite(shown_s).all() else np.nan
    return out


def report(found: list[Point]) -> None:
    """Print the error table and the points outside the tolerance."""
    good = [p for p in found if p.attainment > 0.9]
    points_off = np.array([100.0 * abs(p.fleet_attainment - p.attainment) for p in good])
    _print_errors("attainment where above 90 %, points", points_off, 1.0)
    everywhere = np.array([100.0 * abs(p.fleet_attainment - p.attainment) for p in found])
    _print_errors("attainment everywhere, points", everywhere, 1.0)
    for label, chosen in (
        ("p95 where attainment is above 90 %, %", good),
        ("p95 everywhere, %", found),
    ):
        off = np.array([100.0 * abs(p.fleet_p95_s / p.p95_s - 1.0) for p in chosen])
        _print_errors(label, off, 10.0)
    for p in found:
        missed = p.attainment > 0.9 and abs(p.fleet_attainment - p.attainment) > 0.01
        if missed or abs(p.fleet_p95_s / p.p95_s - 1.0) > 0.1:
            print(
                f"  outside: load {p.load:g}, {p.replicas} replicas, cv {p.cv:g}: attainment "
                f"{p.attainment:.4f} / {p.fleet_attainment:.4f}, "
                f"p95 {p.p95_s:.4f} / {p.fleet_p95_s:.4f} s (event level / fleet)"
            )


def _print_errors(label: str, errors: Floats, tolerance: float) -> None:
    p50, p95 = np.quantile(errors, [0.5, 0.95])
    within = float(np.mean(errors <= tolerance))
    print(
        f"  {label}: {len(errors)} points, error p50 {p50:.2f}, p95 {p95:.2f}, "
        f"max {errors.max():.2f}, within {tolerance:g}: {within:.1%}"
    )


def schedules(profile: ServiceProfile, targets: Targets, table: FleetTable, seeds: int) -> None:
    """Print how both worlds do on the same traffic and the same scripted replicas."""
    fixed = profile.cold_start_s.model_copy(update={"cv": 0.0})
    profile = profile.model_copy(update={"cold_start_s": fixed})
    plant = table.plant.copy()
    plant["cold_start_cv"] = 0.0
    table = replace(table, plant=plant)
    for trace in _traces(float(table.plant["slo_rps"])):
        schedule = _schedule(trace, float(table.plant["slo_rps"]))
        for cv in (1.0, 2.0):
            runs = [
                _intervals(profile, targets, RateArrivals(trace, cv=cv, seed=seed), schedule, seed)
                for seed in range(seeds)
            ]
            truth = np.array(
                [[(x.requests, x.in_time, x.gpu_seconds, x.energy_j) for x in run] for run in runs]
            ).mean(axis=0)
            ours = _fleet_run(table, trace, schedule, cv)[:, :4]
            total, our_total = truth.sum(axis=0), ours.sum(axis=0)
            off = np.abs(truth[:, 1] / truth[:, 0] - ours[:, 1] / ours[:, 0])
            print(
                f"  {trace.name}, cv {cv:g}: attainment {total[1] / total[0]:.4f} / "
                f"{our_total[1] / our_total[0]:.4f}, "
                f"GPU-seconds {our_total[2] / total[2] - 1:+.2%}, "
                f"energy {our_total[3] / total[3] - 1:+.2%}, attainment of an interval off by "
                f"{100 * off.mean():.2f} points on average"
            )


def _schedule(trace: RateTrace, slo_rps: float) -> NDArray[np.int64]:
    """Follow the rate of two minutes ago at 90 % of the SLO capacity, on steps of a minute."""
    minutes = trace.rebinned(60.0).rps
    late = np.concatenate([minutes[:1], minutes[:1], minutes[:-2]])
    wanted = np.maximum(np.ceil(late / (0.9 * slo_rps)), 1.0).astype(np.int64)
    return np.repeat(wanted, int(60.0 / INTERVAL_S))


def _traces(slo_rps: float) -> Iterator[RateTrace]:
    hour_s = 3600.0
    for k, family in enumerate(("diurnal", "flash", "regimes", "ramps")):
        trace = random_traffic(7 + k, duration_s=2 * hour_s, bin_s=15.0, families=(family,))
        yield scale_to_replicas(trace, replicas=4.0, capacity_rps=slo_rps).renamed(family)
    folder = Path(os.environ.get("GPUPILOT_DATA", "../shared/data")) / "traces"
    for name in ("twitter_stream_202108_wk1_2", "worldcup98_0519_0620", "mscloud_mongo_app_01"):
        path = folder / f"{name}.parquet"
        if path.exists():
            day = read_trace(path).sliced(17 * hour_s, 20 * hour_s)
            yield scale_to_replicas(day, replicas=4.0, capacity_rps=slo_rps)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--profile", default=DEFAULT, help="embedded name or file")
    parser.add_argument("--target-ms", type=float, default=60.0)
    parser.add_argument("--quick", action="store_true", help="every seventh point, fewer seeds")
    chosen = parser.parse_args()
    profile = find_profile(chosen.profile)
    targets = Targets(latency_s=chosen.target_ms / 1000.0)
    fit(profile, targets, effort=0.001)
    start = time.process_time()
    table = fit(profile, targets)
    print(f"{profile.name}, target {chosen.target_ms:g} ms")
    print(f"  fit, capacity known, compiled: {time.process_time() - start:.1f} CPU s")
    print("speed at 1,024 services, one core")
    speed(FleetTables.of([table]))
    print("steady rates: error against the event level")
    grid = points(profile, targets, table)
    report([p for k, p in enumerate(grid) if not chosen.quick or k % 7 == 0])
    print("schedules (event level / fleet)")
    schedules(profile, targets, table, seeds=3 if chosen.quick else 10)


if __name__ == "__main__":
    main()
