"""Readings, services and bundles made in the test."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from gpupilot_agent.bundle import Bundle
from gpupilot_envs.actions import SIZES
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.controller import Controller
from gpupilot_envs.decision import Service
from gpupilot_envs.fleet.assemble import SteadyStates, assemble
from gpupilot_envs.fleet.menus import FleetMenus
from gpupilot_envs.fleet.rates import RateLibrary
from gpupilot_envs.fleet.table import PLANT, SLACKS, FleetTables, Steady
from gpupilot_envs.following import PERIOD_S
from gpupilot_envs.gears import Gear, Menu
from gpupilot_envs.limits import Limits, Targets
from gpupilot_envs.observation import FIELDS
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.scenarios import Ranges, Scenarios
from gpupilot_envs.serving.capacity import Capacity
from gpupilot_envs.signals import Signals
from gpupilot_envs.workload.randomisation import random_traffic
from gpupilot_envs.workload.trace import RateTrace

Readings = Callable[..., list[Signals]]


@pytest.fixture
def service() -> Service:
    return Service(
        profile=ServiceProfile(name="made-up", batch_latency_ms=((1, 10.0), (8, 25.0))),
        capacity=Capacity(slo_rps=100.0, saturation_rps=130.0, idle_latency_s=0.012),
        targets=Targets(latency_s=0.06, attainment_ratio=0.99),
        limits=Limits(replicas_min=1, replicas_max=32, warm_up_s=0.0),
        controller=Controller(z=1.5, conformal=False),
    )


@pytest.fixture
def readings() -> Readings:
    return _readings


def _readings(
    count: int, *, rate_rps: float = 250.0, seed: int = 0, missing: float = 0.0
) -> list[Signals]:
    """Return noisy readings of a service under load, each field missing with a probability."""
    rng = np.random.default_rng(seed)

    def maybe(value: float) -> float | None:
        return None if rng.random() < missing else float(value)

    return [
        Signals(
            at_s=PERIOD_S * (i + 1),
            window_s=PERIOD_S,
            age_s=maybe(rng.uniform(0, 5)),
            rate_rps=maybe(rng.gamma(20.0, rate_rps / 20.0)),
            latency_p95_s=maybe(rng.uniform(0.01, 0.1)),
            attainment_ratio=maybe(rng.uniform(0.9, 1.0)),
            queue_time_s=maybe(rng.uniform(0, 0.02)),
            batch_mean=maybe(rng.uniform(1, 8)),
            pending_requests=maybe(rng.uniform(0, 50)),
            gpu_busy_ratio=maybe(rng.uniform(0, 1)),
            replicas_ready=int(rng.integers(1, 6)),
            replicas_pending=int(rng.integers(0, 3)),
        )
        for i in range(count)
    ]


def _random_bundle(seed: int = 0, width: int = 12) -> Bundle:
    """Return a bundle of random weights, large enough for its choices to vary."""
    rng = np.random.default_rng(seed)
    sizes = (len(FIELDS), width, width, sum(SIZES))
    layers = tuple(
        (
            rng.normal(0.0, 1.0, (a, b)).astype(np.float32),
            rng.normal(0.0, 0.5, b).astype(np.float32),
        )
        for a, b in pairwise(sizes)
    )
    return Bundle(
        networks=(layers,),
        controller=Controller(z=1.0, z_per_log_price=0.4, hold_s=150.0),
        prices=((0.9, 3.0), (0.99, 30.0), (0.999, 200.0)),
        config={"frames": 1},
        seeds={"training": seed},
        trace_hashes={"made-up": "0" * 64},
        commit="unknown",
        card={"validation": {"attainment_ratio": 0.99}},
    )


@pytest.fixture
def bundle() -> Bundle:
    return _random_bundle()


@pytest.fixture
def make_bundle() -> Callable[[int], Bundle]:
    """Return how to make another bundle of random weights from a seed."""
    return _random_bundle


@pytest.fixture(scope="session")
def tables() -> FleetTables:
    """Return a made-up service for the fleet: textbook waits, nothing measured, no time lost."""
    plant = np.zeros((), dtype=PLANT)
    constants = {
        "saturation_rps": 250.0,
        "slo_rps": 175.0,
        "idle_latency_s": 0.013,
        "target_s": 0.06,
        "attainment_ratio": 0.99,
        "cold_start_mean_s": 30.0,
        "cold_start_cv": 0.2,
        "scheduling_s": 1.0,
        "drain_s": 30.0,
        "gpu_share": 1.0,
        "idle_w": 30.0,
        "busy_w": 120.0,
        "steady_load_max": 0.95,
    }
    for name, value in constants.items():
        plant[name] = value
    loads = np.array([0.05, 0.2, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95])
    bursts = np.array([1.0, 2.0, 4.0, 6.0])
    states = np.zeros((len(bursts), len(loads), len(Steady)))
    slack = np.zeros((len(bursts), len(loads), SLACKS))
    for b, burst in enumerate(bursts):
        for j, load in enumerate(loads):
            wait_s = 0.012 * (1.0 + burst * burst) / 4.0 * load / (1.0 - load)
            left_s = 0.047 - np.linspace(0.0, 0.06, SLACKS)
            slack[b, j] = np.where(left_s > 0.0, 1.0 - np.exp(-left_s / wait_s), 0.0)
            state = states[b, j]
            state[Steady.BACKLOG_S] = state[Steady.QUEUE_S] = wait_s
            state[Steady.IN_TIME] = 1.0 - np.exp(-0.047 / wait_s)
            for column, times in ((Steady.LOG_P50, 0.7), (Steady.LOG_P95, 3.0)):
                state[column] = np.log(0.013 + times * wait_s)
            state[Steady.LOG_P99] = np.log(0.013 + 4.6 * wait_s)
            state[Steady.COMPUTE_S] = 0.013
            state[Steady.BATCH], state[Steady.BUSY] = 1.0 + 7.0 * load, load
    measured = SteadyStates(bursts=bursts, loads=loads, states=states, slack=slack)
    return FleetTables.of([assemble("made-up", plant, measured)])


MakeScenarios = Callable[..., Scenarios]


def _halves(tables: FleetTables) -> FleetTables:
    """Return the made-up service as half a GPU, which carries three fifths, and as a whole one."""
    half = tables.plants[0].copy()
    for name in ("saturation_rps", "slo_rps"):
        half[name] *= 0.6
    for name in ("gpu_share", "pod_share"):
        half[name] = 0.5
    whole = tables.plants[0].copy()
    whole["pod_share"] = 1.0
    states = {name: np.repeat(getattr(tables, name), 2, axis=0) for name in _STATES}
    return FleetTables(names=("half", "whole"), plants=np.stack([half, whole]), **states)


_STATES = ("steady", "slack", "levels")


def _menu_of(tables: FleetTables) -> Menu:
    """Return the gears that the tables are, the last one as the stated one."""
    gears = []
    for plant in tables.plants:
        share_milli = round(1000.0 * plant["pod_share"])
        able = Capacity(
            slo_rps=float(plant["slo_rps"]),
            saturation_rps=float(plant["saturation_rps"]),
            idle_latency_s=float(plant["idle_latency_s"]),
        )
        allocation = Allocation(replicas=1, gpu_share_milli=share_milli)
        gears.append(Gear(allocation=allocation, capacity=able, cost_milli=share_milli))
    return Menu(gears=tuple(gears), base=len(gears) - 1)


@pytest.fixture(scope="session")
def make_scenarios(tables: FleetTables) -> MakeScenarios:
    """Return how to make scenarios of random traffic over the made-up service."""
    random = [
        random_traffic(k, duration_s=7200.0, bin_s=15.0, families=("regimes",), day_s=7200.0)
        for k in range(8)
    ]

    def made(
        *,
        traces: list[RateTrace] | None = None,
        controller: Controller | None = None,
        ranges: Ranges | None = None,
        episode_s: float = 1800.0,
        geared: bool = False,
    ) -> Scenarios:
        fitted = _halves(tables) if geared else tables
        return Scenarios(
            fitted,
            RateLibrary.of(random if traces is None else traces),
            batch_max=[8] * len(fitted),
            menus=FleetMenus.of([_menu_of(fitted)]) if geared else None,
            controller=controller or Controller(),
            limits=Limits(replicas_max=64, warm_up_s=0.0),
            episode_s=episode_s,
            ranges=ranges or Ranges(demand_replicas=(2.0, 6.0)),
        )

    return made
