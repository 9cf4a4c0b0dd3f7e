"""Capacity, measurement summaries and carbon: found by simulation, checked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.carbon import WORLD_MEAN, CarbonIntensity, grams, load_carbon
from gpupilot_envs.errors import InputInvalid, SloInfeasible
from gpupilot_envs.limits import Targets
from gpupilot_envs.profile import Batching, Gpu, Power, ServiceProfile
from gpupilot_envs.serving.capacity import capacity
from gpupilot_envs.serving.measure import measure, summary
from gpupilot_envs.serving.world import SimulatedWorld
from gpupilot_envs.workload.arrivals import SteadyArrivals

PROFILE = ServiceProfile(
    name="capacity",
    batch_latency_ms=((1, 4.0), (8, 12.0)),
    noise_cv=0.1,
    batching=Batching(max_batch=8),
    overhead_ms=1.0,
    gpu=Gpu(power_w=Power(idle=50.0, busy=250.0)),
)
TARGETS = Targets(latency_s=0.04, attainment_ratio=0.99)


def test_capacity_is_where_the_objective_is_just_met() -> None:
    """A little below the rate the targets hold, a little above they do not."""
    found = capacity(PROFILE, TARGETS)
    assert found.saturation_rps == pytest.approx(8 / 0.012, rel=0.01)
    assert found.idle_latency_s == pytest.approx(0.005, rel=0.01)
    assert 0.5 * found.saturation_rps < found.slo_rps < found.saturation_rps

    def attainment(share: float) -> float:
        rate_rps = share * found.slo_rps
        ledger = measure(
            PROFILE,
            replicas=1,
            arrivals=SteadyArrivals(rate_rps, seed=99),
            duration_s=400_000 / rate_rps,
            targets=TARGETS,
            seed=99,
        )
        assert ledger.attainment_ratio is not None
        return ledger.attainment_ratio

    assert attainment(0.97) > 0.99 > attainment(1.03)


def test_a_delay_is_paid_by_lone_requests() -> None:
    """Idle latency is overhead, delay and a batch of one."""
    allocation = Allocation(replicas=1, batch_max=8, queue_delay_us=3000)
    assert capacity(PROFILE, TARGETS, allocation).idle_latency_s == pytest.approx(0.008, rel=0.01)


def test_capacity_is_remembered() -> None:
    """The same arguments give the same object."""
    assert capacity(PROFILE, TARGETS) is capacity(PROFILE, TARGETS)


def test_an_objective_that_no_batch_meets_is_refused() -> None:
    """The error says how long a lone request takes."""
    with pytest.raises(SloInfeasible, match=r"a lone request takes 0\.00"):
        capacity(PROFILE, Targets(latency_s=0.004))


def test_a_summary_adds_up() -> None:
    """Latency is overhead, queue and compute; the rest follows from the counts."""
    ledger = measure(
        PROFILE,
        replicas=2,
        arrivals=SteadyArrivals(600.0, seed=1),
        duration_s=100.0,
        warm_up_s=10.0,
        targets=TARGETS,
        seed=1,
    )
    table = summary(ledger, replicas=2)
    latency = table["latency_ms"]
    assert isinstance(latency, dict)
    parts = 1.0 + ledger.queue_s_sum / ledger.answered * 1e3
    parts += ledger.compute_s_sum / ledger.answered * 1e3
    assert latency["mean"] == pytest.approx(parts)
    assert latency["p50"] < latency["p95"] < latency["p99"]
    assert table["throughput_rps"] == pytest.approx(600.0, rel=0.02)
    busy = ledger.busy_s / 200.0
    assert table["gpu_busy_ratio"] == pytest.approx(busy)
    assert table["energy_j"] == pytest.approx(200.0 * (50.0 + 200.0 * busy), rel=0.001)


def test_quantiles_of_the_ledger_are_accurate() -> None:
    """64 buckets an octave: the quantiles of a known sample within 0.5 %."""
    profile = PROFILE.model_copy(update={"noise_cv": 0.5, "overhead_ms": 0.0})
    ledger = measure(
        profile,
        replicas=1,
        arrivals=SteadyArrivals(1.0, cv=0.0, seed=1),
        duration_s=50_000.0,
        targets=TARGETS,
        seed=1,
    )
    sigma = np.sqrt(np.log(1.25))
    for q, z in ((0.5, 0.0), (0.95, 1.6448536), (0.99, 2.3263479)):
        expected = 0.004 * np.exp(sigma * z - 0.5 * sigma**2)
        assert ledger.latency_quantile_s(q) == pytest.approx(expected, rel=0.02)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_carbon_follows_the_hour(tmp_path: Path) -> None:
    """An idle GPU of 50 W for three hours at 100, 300 and again 100 g/kWh."""
    file = write(
        tmp_path / "grid.csv",
        "timestamp_utc,gco2_per_kwh\n2023-01-01T00:00:00Z,100\n2023-01-01T01:00:00Z,300\n",
    )
    world = SimulatedWorld(
        PROFILE,
        SteadyArrivals(0.0, seed=1),
        targets=TARGETS,
        allocation=Allocation(replicas=1),
        seed=1,
        carbon=load_carbon(file),
    )
    for hours, expected in ((0.5, 2.5), (1.0, 5.0), (2.0, 20.0), (3.0, 25.0)):
        world.advance(3600.0 * hours)
        assert world.ledger().co2_g == pytest.approx(expected)


def test_a_constant_grid_needs_no_hours() -> None:
    """One kilowatt-hour at the world's mean."""
    assert WORLD_MEAN.constant
    assert grams(3.6e6, WORLD_MEAN.at(1e9)) == 481.0
    steps = CarbonIntensity(name="two", hourly_g_per_kwh=np.array([1.0, 2.0]))
    assert [steps.at(t) for t in (0.0, 3599.0, 3600.0, 7200.0)] == [1.0, 1.0, 2.0, 1.0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "timestamp_utc,grams\n2023,1\n",
        "timestamp_utc,gco2_per_kwh\n2023,-5\n",
        "timestamp_utc,gco2_per_kwh\n2023,many\n",
        "timestamp_utc,gco2_per_kwh\n2023,nan\n",
    ],
)
def test_a_wrong_carbon_file_is_refused(tmp_path: Path, text: str) -> None:
    """The error names the file."""
    with pytest.raises(InputInvalid, match=r"grid\.csv"):
        load_carbon(write(tmp_path / "grid.csv", text))


def test_a_missing_carbon_file_is_refused(tmp_path: Path) -> None:
    """So does a file that is not there."""
    with pytest.raises(InputInvalid, match=r"nowhere\.csv"):
        load_carbon(tmp_path / "nowhere.csv")
