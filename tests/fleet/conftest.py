"""A service whose steady state is known in closed form: M/M/1, a burst only stretches time."""

from __future__ import annotations

import numpy as np
import pytest

from gpupilot_envs.fleet.assemble import SteadyStates, assemble
from gpupilot_envs.fleet.rates import RateLibrary
from gpupilot_envs.fleet.table import PLANT, SLACKS, FleetTable, FleetTables, Steady
from gpupilot_envs.workload.trace import RateTrace

SERVICE_RPS = 100.0
TARGET_S = 0.1


def closed_form(name: str = "mm1", cold_start_mean_s: float = 30.0) -> FleetTable:
    plant = np.zeros((), dtype=PLANT)
    plant["saturation_rps"] = SERVICE_RPS
    plant["slo_rps"] = SERVICE_RPS + np.log(0.01) / TARGET_S
    plant["idle_latency_s"] = 1.0 / SERVICE_RPS
    plant["target_s"] = TARGET_S
    plant["attainment_ratio"] = 0.99
    plant["cold_start_mean_s"] = cold_start_mean_s
    plant["cold_start_cv"] = 0.2
    plant["scheduling_s"] = 1.0
    plant["drain_s"] = 30.0
    plant["gpu_share"] = 1.0
    plant["pod_share"] = 1.0
    plant["idle_w"] = 30.0
    plant["busy_w"] = 150.0
    plant["latency_shown_max_s"] = 60.0 * TARGET_S
    plant["steady_load_max"] = 0.975
    bursts = np.array([1.0, 2.0, 4.0, 6.0])
    loads = np.array([0.02, 0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975])
    states = np.zeros((len(bursts), len(loads), len(Steady)))
    slack = np.zeros((len(bursts), len(loads), SLACKS))
    for b, burst in enumerate(bursts):
        stretch = (1.0 + burst**2) / 2.0
        for j, load in enumerate(loads):
            pace = SERVICE_RPS * (1.0 - load) / stretch
            states[b, j, Steady.BACKLOG_S] = load**2 / pace
            states[b, j, Steady.IN_TIME] = 1.0 - np.exp(-pace * TARGET_S)
            for column, q in (
                (Steady.LOG_P50, 0.5),
                (Steady.LOG_P95, 0.95),
                (Steady.LOG_P99, 0.99),
            ):
                states[b, j, column] = np.log(-np.log(1.0 - q) / pace)
            states[b, j, Steady.QUEUE_S] = load / pace
            states[b, j, Steady.COMPUTE_S] = 1.0 / SERVICE_RPS
            states[b, j, Steady.BATCH] = 1.0
            states[b, j, Steady.BUSY] = load
            left_s = TARGET_S - np.linspace(0.0, TARGET_S, SLACKS)
            slack[b, j] = 1.0 - np.exp(-pace * left_s)
    return assemble(
        name, plant, SteadyStates(bursts=bursts, loads=loads, states=states, slack=slack)
    )


@pytest.fixture(scope="session")
def tables() -> FleetTables:
    return FleetTables.of([closed_form()])


@pytest.fixture(scope="session")
def steady_rate() -> RateLibrary:
    """One request per second for an hour; scaled by each service."""
    return RateLibrary.of([RateTrace(name="one", family="steady", bin_s=60.0, rps=np.ones(60))])
