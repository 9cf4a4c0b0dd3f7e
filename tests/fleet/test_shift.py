"""Changes of gear in the fleet: against the event level, and on their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.fleet.episodes import Episodes
from gpupilot_envs.fleet.fit import fit
from gpupilot_envs.fleet.rates import RateLibrary
from gpupilot_envs.fleet.table import FleetTables
from gpupilot_envs.fleet.world import FleetWorld
from gpupilot_envs.limits import Targets
from gpupilot_envs.profile import ServiceProfile, parse_profile
from gpupilot_envs.serving.measure import allocation_of
from gpupilot_envs.serving.world import SimulatedWorld
from gpupilot_envs.workload.arrivals import RateArrivals
from gpupilot_envs.workload.trace import RateTrace

TARGETS = Targets(latency_s=0.06)
INTERVAL_S = 15.0

SMALL, WHOLE, SINGLE = range(3)
"""A third of a GPU, a whole one, a whole one without batching."""


@pytest.fixture(scope="module")
def profile() -> ServiceProfile:
    curve = [[333, 0.45], [1000, 1.0]]
    return parse_profile(
        {
            "name": "sliced",
            "batch_latency_ms": [[1, 8.0], [2, 9.0], [4, 11.0], [8, 15.0]],
            "overhead_ms": 2.0,
            "cold_start_s": {"mean": 20.0, "cv": 0.0},
            "gpu": {
                "sharing": {"mode": "mig", "speed_by_share": curve},
                "power_w": {"idle": 40, "busy": 160, "dynamic_by_share": curve},
            },
        }
    )


@pytest.fixture(scope="module")
def gears(profile: ServiceProfile) -> tuple[Allocation, ...]:
    own = allocation_of(profile)
    return (replace(own, gpu_share_milli=333), own, replace(own, batch_max=1))


@pytest.fixture(scope="module")
def tables(profile: ServiceProfile, gears: tuple[Allocation, ...]) -> FleetTables:
    return FleetTables.of([fit(profile, TARGETS, allocation=g, effort=0.25) for g in gears])


SCHEDULES: dict[str, list[tuple[int, int]]] = {
    "small to whole and back": [(WHOLE, 2)] * 4 + [(SMALL, 4)] * 10 + [(WHOLE, 2)] * 10,
    "more while it changes": [(SMALL, 3)] * 4 + [(WHOLE, 1)] + [(WHOLE, 3)] * 11,
    "taken back": [(WHOLE, 2)] * 4 + [(SMALL, 4)] + [(WHOLE, 2)] * 7,
    "in the running server": [(SINGLE, 4)] * 6 + [(WHOLE, 2)] * 6 + [(SINGLE, 4)] * 6,
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_of_gears_costs_and_attains_the_same(
    profile: ServiceProfile, gears: tuple[Allocation, ...], tables: FleetTables, name: str
) -> None:
    """GPU-seconds within 2 %, energy within 3 %, attainment within 2 points."""
    schedule = SCHEDULES[name]
    rate_rps = 0.55 * 2 * float(tables.plants["saturation_rps"][WHOLE])
    if name == "in the running server":
        rate_rps = 0.7 * 2 * float(tables.plants["saturation_rps"][SINGLE])
    trace = RateTrace(name="flat", family="flat", bin_s=60.0, rps=np.full(30, rate_rps))
    totals = np.zeros(5)
    for seed in range(4):
        first, replicas = schedule[0]
        world = SimulatedWorld(
            profile,
            RateArrivals(trace, seed=seed),
            targets=TARGETS,
            allocation=replace(gears[first], replicas=replicas),
            seed=seed,
        )
        for k, (gear, replicas) in enumerate(schedule):
            world.apply(replace(gears[gear], replicas=replicas))
            world.advance((k + 1) * INTERVAL_S)
        got = world.ledger()
        totals += (got.requests, got.in_time, got.gpu_seconds, got.energy_j, got.pod_restarts)
    ours = np.zeros(5)
    fleet = _fleet(tables, trace, services=4, gear=schedule[0][0], replicas=schedule[0][1])
    for gear, replicas in schedule:
        fleet.step(np.full(4, replicas), np.full(4, gear))
        columns = (fleet.arrivals, fleet.in_time, fleet.gpu_seconds, fleet.energy_j, fleet.restarts)
        ours += [column.sum() for column in columns]
    assert ours[1] / ours[0] == pytest.approx(totals[1] / totals[0], abs=0.02)
    assert ours[2] == pytest.approx(totals[2], rel=0.02)
    assert ours[3] == pytest.approx(totals[3], rel=0.03)
    assert ours[4] == totals[4]


def test_a_gear_that_is_kept_changes_nothing(tables: FleetTables) -> None:
    """Naming the gear that runs, or none, is the same to the last bit."""
    trace = RateTrace(name="flat", family="flat", bin_s=60.0, rps=np.full(30, 300.0))
    named = _fleet(tables, trace, services=3, gear=WHOLE, replicas=2)
    unnamed = _fleet(tables, trace, services=3, gear=WHOLE, replicas=2)
    for replicas in (2, 3, 4, 1, 1, 2):
        named.step(np.full(3, replicas), np.full(3, WHOLE))
        unnamed.step(np.full(3, replicas))
        np.testing.assert_array_equal(named.rows, unnamed.rows)
        np.testing.assert_array_equal(named.gpu_seconds, unnamed.gpu_seconds)


def test_old_pods_serve_until_new_ones_carry_as_much(tables: FleetTables) -> None:
    """Nobody fails; both generations are billed for the cold start."""
    trace = RateTrace(name="flat", family="flat", bin_s=60.0, rps=np.full(30, 50.0))
    fleet = _fleet(tables, trace, services=1, gear=WHOLE, replicas=2)
    fleet.step(np.array([3]), np.array([SMALL]))
    assert (fleet.ready[0], fleet.starting[0], fleet.errors[0]) == (2, 3, 0)
    assert fleet.gpu_seconds[0] == pytest.approx(2 * 15.0 + 3 * 0.333 * 14.0)
    fleet.step(np.array([3]), np.array([SMALL]))
    assert (fleet.ready[0], fleet.starting[0], fleet.restarts[0]) == (3, 0, 2)
    assert fleet.gpu_seconds[0] == pytest.approx(2 * 6.0 + 3 * 0.333 * 15.0, rel=0.01)
    fleet.step(np.array([3]), np.array([SMALL]))
    assert fleet.gpu_seconds[0] == pytest.approx(3 * 0.333 * 15.0)


def test_an_unknown_gear_is_refused(tables: FleetTables) -> None:
    trace = RateTrace(name="flat", family="flat", bin_s=60.0, rps=np.full(30, 50.0))
    fleet = _fleet(tables, trace, services=1, gear=WHOLE, replicas=1)
    with pytest.raises(InputInvalid, match="profiles: 3"):
        fleet.step(np.array([1]), np.array([3]))


def _fleet(
    tables: FleetTables, trace: RateTrace, *, services: int, gear: int, replicas: int
) -> FleetWorld:
    fleet = FleetWorld(services, tables, RateLibrary.of([trace]))
    episodes = Episodes.of(
        np.arange(services, dtype=np.uint64), rate_scale=1.0, replicas=replicas, profile=gear
    )
    fleet.reset(np.arange(services), episodes)
    return fleet
