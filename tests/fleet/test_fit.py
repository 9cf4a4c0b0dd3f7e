"""The fleet against the event level: the same service, traffic and replicas in both worlds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gpupilot_envs.fleet import cache
from gpupilot_envs.fleet.cache import fleet_table
from gpupilot_envs.fleet.episodes import Episodes
from gpupilot_envs.fleet.fit import fit
from gpupilot_envs.fleet.rates import RateLibrary
from gpupilot_envs.fleet.table import FleetTable, FleetTables, Steady
from gpupilot_envs.fleet.world import FleetWorld
from gpupilot_envs.limits import Targets
from gpupilot_envs.profile import ServiceProfile, parse_profile
from gpupilot_envs.serving.measure import allocation_of, measure
from gpupilot_envs.serving.world import SimulatedWorld
from gpupilot_envs.signals import SIGNAL_INDEX
from gpupilot_envs.workload.arrivals import RateArrivals, SteadyArrivals
from gpupilot_envs.workload.trace import RateTrace

TARGETS = Targets(latency_s=0.06)
INTERVAL_S = 15.0


@pytest.fixture(scope="module")
def profile() -> ServiceProfile:
    """A batching service with a cold start that is not random, so that both worlds agree on it."""
    return parse_profile(
        {
            "name": "batching",
            "batch_latency_ms": [[1, 11.0], [2, 13.0], [4, 17.0], [8, 25.0]],
            "overhead_ms": 2.0,
            "cold_start_s": {"mean": 20.0, "cv": 0.0},
        }
    )


@pytest.fixture(scope="module")
def table(profile: ServiceProfile) -> FleetTable:
    return fit(profile, TARGETS, effort=0.25)


@pytest.mark.parametrize(
    ("load", "replicas", "cv"),
    [(0.33, 1, 1.0), (0.72, 3, 1.0), (0.83, 6, 1.0), (0.58, 3, 2.5), (0.66, 6, 2.2), (0.5, 2, 1.7)],
)
def test_steady_attainment_and_p95_agree(
    profile: ServiceProfile, table: FleetTable, load: float, replicas: int, cv: float
) -> None:
    """Within 1 percentage point and 10 %, at loads, replicas and bursts that were not fitted."""
    rate_rps = load * replicas * float(table.plant["saturation_rps"])
    truth = measure(
        profile,
        replicas=replicas,
        arrivals=SteadyArrivals(rate_rps, cv=cv, seed=101),
        duration_s=500_000 / rate_rps,
        targets=TARGETS,
        seed=101,
    )
    fleet = _fleet(table, _trace([rate_rps]), services=100, replicas=replicas, cv=cv)
    in_time = arrivals = log_p95 = 0.0
    for _ in range(8):
        fleet.step(np.full(100, replicas))
        in_time += fleet.in_time.sum()
        arrivals += fleet.arrivals.sum()
        log_p95 += np.log(fleet.rows[:, SIGNAL_INDEX["latency_p95_s"]]).mean() / 8
    assert truth.attainment_ratio is not None
    assert truth.attainment_ratio > 0.9
    assert in_time / arrivals == pytest.approx(truth.attainment_ratio, abs=0.01)
    assert np.exp(log_p95) == pytest.approx(truth.latency_quantile_s(0.95), rel=0.10)


def test_a_schedule_through_overload_costs_and_attains_the_same(
    profile: ServiceProfile, table: FleetTable
) -> None:
    """GPU-seconds and energy within 1 %, attainment within 1.5 points, over ramps and recovery."""
    loads = np.array([2.0, 2.4, 3.0, 4.6, 4.6, 3.5, 2.6, 2.0, 1.0])
    schedule = np.repeat([3, 3, 4, 4, 6, 6, 4, 3, 2], 4)
    trace = _trace(loads * float(table.plant["saturation_rps"]))
    totals = np.zeros(4)
    for seed in range(4):
        world = SimulatedWorld(
            profile,
            RateArrivals(trace, seed=seed),
            targets=TARGETS,
            allocation=allocation_of(profile, replicas=3),
            seed=seed,
        )
        for k, replicas in enumerate(schedule):
            world.apply(replace(world.allocation, replicas=int(replicas)))
            world.advance((k + 1) * INTERVAL_S)
        ledger = world.ledger()
        totals += (ledger.requests, ledger.in_time, ledger.gpu_seconds, ledger.energy_j)
    fleet = _fleet(table, trace, services=4, replicas=3)
    ours = np.zeros(4)
    for replicas in schedule:
        fleet.step(np.full(4, replicas))
        ours += [
            x.sum() for x in (fleet.arrivals, fleet.in_time, fleet.gpu_seconds, fleet.energy_j)
        ]
    assert 0.3 < totals[1] / totals[0] < 0.9
    assert ours[1] / ours[0] == pytest.approx(totals[1] / totals[0], abs=0.015)
    assert ours[2] == pytest.approx(totals[2], rel=0.01)
    assert ours[3] == pytest.approx(totals[3], rel=0.01)


def test_lost_requests_are_counted_where_a_queue_is_bounded(profile: ServiceProfile) -> None:
    bounded = profile.model_copy(update={"max_queue": 24, "timeout_ms": 100.0})
    able = fit(bounded, TARGETS, effort=0.05)
    rate_rps = 1.3 * 2 * float(able.plant["saturation_rps"])
    truth = measure(
        bounded,
        replicas=2,
        arrivals=SteadyArrivals(rate_rps, seed=5),
        duration_s=120.0,
        targets=TARGETS,
        seed=5,
    )
    fleet = _fleet(able, _trace([rate_rps]), services=20, replicas=2)
    errors = arrivals = 0.0
    for _ in range(8):
        fleet.step(np.full(20, 2))
        errors += fleet.errors.sum()
        arrivals += fleet.arrivals.sum()
    lost = (truth.rejected + truth.timed_out) / truth.requests
    assert lost > 0.2
    assert errors / arrivals == pytest.approx(lost, abs=0.02)


def test_a_fit_is_kept_on_disk_and_a_broken_file_is_fitted_again(
    profile: ServiceProfile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls = []

    def counted(*args: object, **named: object) -> FleetTable:
        calls.append(args)
        return fit(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(cache, "fit", counted)

    def ask() -> FleetTable:
        fleet_table.cache_clear()
        return fleet_table(profile, TARGETS, effort=0.01)

    first, second = ask(), ask()
    assert len(calls) == 1
    np.testing.assert_array_equal(first.steady, second.steady)
    np.testing.assert_array_equal(first.plant, second.plant)
    (kept,) = (tmp_path / "gpupilot").iterdir()
    kept.write_bytes(kept.read_bytes()[:1000])
    third = ask()
    assert len(calls) == 2
    np.testing.assert_array_equal(first.levels, third.levels)
    fleet_table.cache_clear()
    fleet_table(profile, Targets(latency_s=0.07), effort=0.01)
    assert len(calls) == 3
    fleet_table.cache_clear()


def test_the_fit_is_deterministic_and_monotone(profile: ServiceProfile) -> None:
    one, two = (fit(profile, TARGETS, effort=0.02, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.steady, two.steady)
    assert np.all(np.diff(one.steady[:, :, Steady.IN_TIME], axis=1) <= 1e-9)


def _trace(rates_rps: list[float] | np.ndarray) -> RateTrace:
    return RateTrace(name="given", family="given", bin_s=60.0, rps=np.asarray(rates_rps))


def _fleet(
    table: FleetTable, trace: RateTrace, *, services: int, replicas: int, cv: float = 1.0
) -> FleetWorld:
    world = FleetWorld(services, FleetTables.of([table]), RateLibrary.of([trace]))
    world.reset(
        np.arange(services),
        Episodes.of(np.arange(services), rate_scale=1.0, replicas=replicas, cv=cv),
    )
    return world
