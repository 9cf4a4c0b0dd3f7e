"""What must hold for every fleet, checked on a service with a closed-form steady state."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.fleet.episodes import Episodes
from gpupilot_envs.fleet.rates import RateLibrary
from gpupilot_envs.fleet.state import Silence
from gpupilot_envs.fleet.table import FleetTables
from gpupilot_envs.fleet.world import FleetWorld
from gpupilot_envs.signals import SIGNAL_INDEX
from gpupilot_envs.workload.trace import RateTrace

SERVICE_RPS = 100.0
TARGET_S = 0.1
INTERVAL_S = 15.0

NewWorld = Callable[..., FleetWorld]
Ints = NDArray[np.int64]


@pytest.fixture
def new_world(tables: FleetTables, steady_rate: RateLibrary) -> NewWorld:
    """Return how to build a fleet on one request per second times ``rate_scale``."""

    def build(seeds: int | Ints, **episode: object) -> FleetWorld:
        seed = np.arange(seeds) if isinstance(seeds, int) else seeds
        world = FleetWorld(len(seed), tables, steady_rate)
        world.reset(np.arange(len(seed)), Episodes.of(seed, **episode))  # type: ignore[arg-type]
        return world

    return build


def granted(world: FleetWorld, replicas: int) -> Ints:
    return np.full(world.n_services, replicas, dtype=np.int64)


def column(world: FleetWorld, name: str) -> NDArray[np.float64]:
    return world.rows[:, SIGNAL_INDEX[name]]


def test_equal_seeds_replay_bit_for_bit(new_world: NewWorld) -> None:
    worlds = [new_world(32, rate_scale=500.0, replicas=6, cv=2.0) for _ in range(2)]
    for replicas in (6, 9, 9, 4, 7):
        for world in worlds:
            world.step(granted(world, replicas))
        np.testing.assert_array_equal(worlds[0].rows, worlds[1].rows)
        np.testing.assert_array_equal(worlds[0].in_time, worlds[1].in_time)


def test_a_service_does_not_depend_on_its_place_in_the_fleet(new_world: NewWorld) -> None:
    order = np.random.default_rng(0).permutation(40)
    here = new_world(40, rate_scale=450.0, replicas=6, crashes_per_hour=30.0)
    there = new_world(order, rate_scale=450.0, replicas=6, crashes_per_hour=30.0)
    for replicas in (6, 8, 3, 3, 9):
        here.step(granted(here, replicas))
        there.step(granted(there, replicas))
    np.testing.assert_array_equal(here.rows[order], there.rows)
    np.testing.assert_array_equal(here.gpu_seconds[order], there.gpu_seconds)


def test_resetting_some_services_leaves_the_others_alone(new_world: NewWorld) -> None:
    touched, untouched = (new_world(4, rate_scale=300.0, replicas=4) for _ in range(2))
    for world in (touched, untouched):
        world.step(granted(world, 4))
    touched.reset(np.array([1]), Episodes.of(np.array([9]), rate_scale=1.0, replicas=2))
    assert touched.rows[1, SIGNAL_INDEX["at_s"]] == 0.0
    assert np.isnan(touched.rows[1, SIGNAL_INDEX["rate_rps"]])
    for world in (touched, untouched):
        world.step(granted(world, 4))
    np.testing.assert_array_equal(touched.rows[[0, 2, 3]], untouched.rows[[0, 2, 3]])


@settings(max_examples=40, deadline=None)
@given(
    grants=st.lists(st.integers(0, 20), min_size=1, max_size=12),
    rate_rps=st.floats(0.0, 3000.0),
    cv=st.floats(1.0, 4.0),
    seed=st.integers(0, 1000),
)
def test_nothing_is_made_of_nothing(
    tables: FleetTables,
    steady_rate: RateLibrary,
    grants: list[int],
    rate_rps: float,
    cv: float,
    seed: int,
) -> None:
    world = FleetWorld(3, tables, steady_rate)
    seeds = np.arange(seed, seed + 3)
    world.reset(np.arange(3), Episodes.of(seeds, rate_scale=rate_rps, replicas=4, cv=cv))
    for replicas in grants:
        world.step(granted(world, replicas))
        assert np.all(world.arrivals == np.floor(world.arrivals))
        assert np.all(world.in_time >= 0.0)
        assert np.all(world.in_time + world.errors <= world.arrivals)
        assert np.all(world.ready + world.starting == replicas)
        assert np.all(world.gpu_seconds >= 0.0)
        assert np.all(world.backlog >= 0.0)
        assert np.all(np.isfinite(world.backlog))
        for name in ("attainment_ratio", "error_ratio", "gpu_busy_ratio"):
            shown = column(world, name)
            assert np.all(np.isnan(shown) | ((shown >= 0.0) & (shown <= 1.0)))
        p50, p95, p99 = (column(world, f"latency_p{q}_s") for q in (50, 95, 99))
        assert np.all(np.isnan(p50) | ((p50 <= p95 * 1.0001) & (p95 <= p99 * 1.0001)))


@pytest.mark.parametrize(("rate_rps", "cv"), [(300.0, 1.0), (300.0, 3.0), (0.5, 1.0)])
def test_arrivals_have_the_stated_mean_and_dispersion(
    new_world: NewWorld, rate_rps: float, cv: float
) -> None:
    world = new_world(4000, rate_scale=rate_rps, replicas=8, cv=cv)
    world.step(granted(world, 8))
    mean = rate_rps * INTERVAL_S
    spread = np.sqrt(cv**2 * mean)
    assert world.arrivals.mean() == pytest.approx(mean, abs=5.0 * spread / np.sqrt(4000))
    assert world.arrivals.std() == pytest.approx(spread, rel=0.08)


@pytest.mark.parametrize("load", [0.3, 0.61, 0.77, 0.9])
def test_the_steady_state_is_the_fitted_one(new_world: NewWorld, load: float) -> None:
    """M/M/1 behind random balancing: attainment and p95 as in closed form, whatever n."""
    for replicas in (1, 8):
        world = new_world(800, rate_scale=load * SERVICE_RPS * replicas, replicas=replicas)
        in_time = arrivals = 0.0
        for _ in range(40):
            world.step(granted(world, replicas))
            in_time += world.in_time.sum()
            arrivals += world.arrivals.sum()
        pace = SERVICE_RPS * (1.0 - load)
        attainment = in_time / arrivals
        assert attainment == pytest.approx(1.0 - np.exp(-pace * TARGET_S), abs=0.004)
        p95 = np.exp(np.log(column(world, "latency_p95_s")).mean())
        assert p95 == pytest.approx(3.0 / pace, rel=0.03)
        assert column(world, "gpu_busy_ratio").mean() == pytest.approx(load, rel=0.02)


def test_more_replicas_never_answer_fewer_in_time(new_world: NewWorld) -> None:
    answered = []
    for replicas in range(1, 16):
        world = new_world(200, rate_scale=800.0, replicas=replicas, cv=2.0)
        in_time = 0.0
        for _ in range(8):
            world.step(granted(world, replicas))
            in_time += world.in_time.sum()
        answered.append(in_time)
    assert np.all(np.diff(answered) >= -0.001 * np.array(answered[:-1]))
    assert answered[-1] > 10.0 * answered[0]


def test_a_backlog_grows_and_drains_as_a_fluid(new_world: NewWorld) -> None:
    world = new_world(1, rate_scale=600.0, replicas=4)
    for _ in range(4):
        world.step(granted(world, 4))
    grown = world.backlog[0]
    assert grown == pytest.approx((600.0 - 400.0) * 60.0, rel=0.03)
    assert world.in_time[0] == 0.0
    world.reset(np.array([0]), Episodes.of(np.array([0]), rate_scale=200.0, replicas=4))
    world._services["backlog_s"] = grown / 400.0
    for _ in range(3):
        world.step(granted(world, 4))
    assert world.backlog[0] == pytest.approx(grown - (400.0 - 200.0) * 45.0, rel=0.03)
    for _ in range(4):
        world.step(granted(world, 4))
    assert world.backlog[0] < 20.0
    assert world.in_time[0] > 0.98 * world.arrivals[0]


def test_new_pods_do_not_inherit_the_backlog_of_old_ones(new_world: NewWorld) -> None:
    world = new_world(50, rate_scale=600.0, replicas=4)
    for _ in range(8):
        world.step(granted(world, 4))
    for _ in range(4):
        world.step(granted(world, 8))
    assert np.all(world.ready == 8)
    share = world.in_time.sum() / world.arrivals.sum()
    assert share == pytest.approx(0.5, abs=0.05)


def test_a_new_pod_answers_after_scheduling_and_its_cold_start(new_world: NewWorld) -> None:
    world = new_world(4000, rate_scale=100.0, replicas=2)
    world.step(granted(world, 3))
    assert np.all(world.starting == 1)
    assert np.all(world.scale_events == 1)
    times = np.zeros(4000)
    for _ in range(9):
        waiting = world.starting > 0
        times[waiting] += INTERVAL_S
        world.step(granted(world, 3))
        assert np.all(world.scale_events == 0)
    # ready within an interval is seen at its end: half an interval later on average
    assert times.mean() == pytest.approx(1.0 + 30.0 - 0.5 * INTERVAL_S, abs=1.5)
    assert np.all(world.ready == 3)


def test_a_cancelled_start_costs_what_it_held(new_world: NewWorld) -> None:
    world = new_world(1, rate_scale=10.0, replicas=2)
    world.step(granted(world, 5))
    assert world.gpu_seconds[0] == pytest.approx(5 * INTERVAL_S - 3 * 1.0)
    world.step(granted(world, 2))
    assert world.gpu_seconds[0] == pytest.approx(2 * INTERVAL_S)
    assert world.starting[0] == 0


def test_gpu_seconds_and_energy_follow_from_pods_and_busy_time(new_world: NewWorld) -> None:
    world = new_world(1, rate_scale=200.0, replicas=4)
    world.step(granted(world, 4))
    assert world.gpu_seconds[0] == pytest.approx(4 * INTERVAL_S)
    busy = column(world, "gpu_busy_ratio")[0]
    expected_j = 4 * INTERVAL_S * (30.0 + busy * 120.0)
    assert world.energy_j[0] == pytest.approx(expected_j, rel=1e-6)
    world.step(granted(world, 1))
    assert INTERVAL_S < world.gpu_seconds[0] < INTERVAL_S + 3 * 1.0


def test_without_pods_every_request_is_an_error(new_world: NewWorld) -> None:
    world = new_world(1, rate_scale=50.0, replicas=0)
    world.step(granted(world, 0))
    assert world.arrivals[0] > 0
    assert world.in_time[0] == 0.0
    assert world.errors[0] == world.arrivals[0]
    assert column(world, "error_ratio")[0] == 1.0
    assert np.isnan(column(world, "latency_p95_s")[0])


def test_no_traffic_is_a_rate_of_zero_and_no_latency(new_world: NewWorld) -> None:
    world = new_world(1, rate_scale=0.0, replicas=1)
    world.step(granted(world, 1))
    assert column(world, "rate_rps")[0] == 0.0
    assert np.isnan(column(world, "latency_p95_s")[0])
    assert np.isnan(column(world, "attainment_ratio")[0])


def test_a_crashed_pod_keeps_its_gpu_and_starts_again(new_world: NewWorld) -> None:
    world = new_world(8, rate_scale=100.0, replicas=4)
    world.step(granted(world, 4))
    world.crash(np.array([2, 5]), pods=2)
    world.step(granted(world, 4))
    np.testing.assert_array_equal(world.ready, [4, 4, 2, 4, 4, 2, 4, 4])
    assert np.all(world.gpu_seconds == pytest.approx(4 * INTERVAL_S))
    for _ in range(6):
        world.step(granted(world, 4))
    assert np.all(world.ready == 4)


def test_pods_crash_by_chance_at_the_stated_rate(new_world: NewWorld) -> None:
    world = new_world(2000, rate_scale=10.0, replicas=4, crashes_per_hour=6.0)
    world.step(granted(world, 4))
    expected = 2000 * 4 * 6.0 * INTERVAL_S / 3600.0
    assert world.starting.sum() == pytest.approx(expected, rel=0.25)


def test_missing_metrics_are_nan_and_stale_ones_stand_still(new_world: NewWorld) -> None:
    world = new_world(3, rate_scale=100.0, replicas=2)
    world.step(granted(world, 2))
    before = world.rows.copy()
    world.silence(np.array([0]), 40.0, Silence.MISSING)
    world.silence(np.array([1]), 40.0, Silence.STALE)
    metrics = slice(SIGNAL_INDEX["rate_rps"], SIGNAL_INDEX["gpu_power_w"])
    for age_s in (15.0, 30.0):
        world.step(granted(world, 2))
        assert np.all(np.isnan(world.rows[0, metrics]))
        np.testing.assert_array_equal(world.rows[1, metrics], before[1, metrics])
        np.testing.assert_array_equal(column(world, "age_s"), [age_s, age_s, 0.0])
        np.testing.assert_array_equal(column(world, "at_s"), 15.0 + age_s)
    assert world.arrivals[0] > 0
    world.step(granted(world, 2))
    assert np.all(column(world, "rate_rps") > 0.0)
    np.testing.assert_array_equal(column(world, "age_s"), 0.0)


@pytest.mark.parametrize(("lag_s", "weights"), [(15.0, (0, 1, 0)), (20.0, (0, 2 / 3, 1 / 3))])
def test_late_metrics_show_the_window_of_then(
    new_world: NewWorld, lag_s: float, weights: tuple[float, float, float]
) -> None:
    late, now = (new_world(5, rate_scale=100.0, replicas=2, lag_s=lag) for lag in (lag_s, 0.0))
    rates: list[NDArray[np.float64]] = []
    for _ in range(6):
        for world in (late, now):
            world.step(granted(world, 2))
        rates.insert(0, column(now, "rate_rps").copy())
    expected = sum(w * r for w, r in zip(weights, rates[:3], strict=True))
    np.testing.assert_allclose(column(late, "rate_rps"), expected)
    np.testing.assert_allclose(column(late, "age_s"), lag_s)


def test_demand_ahead_is_what_comes(tables: FleetTables) -> None:
    rps = 100.0 + 50.0 * np.sin(np.arange(400) / 9.0)
    rates = RateLibrary.of([RateTrace(name="wave", family="wave", bin_s=5.0, rps=rps)])
    world = FleetWorld(500, tables, rates)
    world.reset(np.arange(500), Episodes.of(np.arange(500), rate_scale=4.0, replicas=9))
    ahead = world.demand_ahead(8)
    for k in range(8):
        assert ahead[0, k] == pytest.approx(4.0 * rps[3 * k : 3 * k + 3].mean())
        world.step(granted(world, 9))
        assert world.arrivals.mean() / INTERVAL_S == pytest.approx(ahead[0, k], rel=0.01)


def test_a_trace_repeats_after_its_end(new_world: NewWorld) -> None:
    world = new_world(1, rate_scale=100.0, replicas=2, start_s=3590.0)
    for _ in range(3):
        world.step(granted(world, 2))
        assert world.arrivals[0] == pytest.approx(1500.0, abs=250.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [("rate_scale", -1.0), ("cv", 0.5), ("replicas", 65), ("lag_s", 61.0), ("trace", 1)],
)
def test_bad_episodes_are_refused_by_name(new_world: NewWorld, field: str, value: float) -> None:
    with pytest.raises(InputInvalid, match=field):
        new_world(2, **{"rate_scale": 1.0, "replicas": 1, field: value})


def test_a_grant_out_of_range_is_refused(new_world: NewWorld) -> None:
    world = new_world(2, rate_scale=1.0, replicas=1)
    with pytest.raises(InputInvalid, match="replicas_granted"):
        world.step(granted(world, 65))
