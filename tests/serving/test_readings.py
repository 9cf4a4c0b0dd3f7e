"""Readings: the truth as Prometheus would show it, and nothing where it has no answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.limits import Targets
from gpupilot_envs.profile import Batching, ColdStart, ServiceProfile
from gpupilot_envs.serving.faults import Faults, MetricFault
from gpupilot_envs.serving.scrape import Scrape
from gpupilot_envs.serving.world import SimulatedWorld
from gpupilot_envs.signals import Signals
from gpupilot_envs.workload.arrivals import ExactArrivals, SteadyArrivals

TARGETS = Targets(latency_s=0.05)
TWO = Allocation(replicas=2, batch_max=8)
PROFILE = ServiceProfile(
    name="readings",
    batch_latency_ms=((1, 5.0), (8, 12.0)),
    noise_cv=0.2,
    batching=Batching(max_batch=8),
    overhead_ms=1.0,
    cold_start_s=ColdStart(mean=5.0, cv=0.0),
)


def world(
    *,
    rate_rps: float = 600.0,
    scrape: Scrape | None = None,
    faults: Faults | None = None,
    allocation: Allocation = TWO,
) -> SimulatedWorld:
    return SimulatedWorld(
        PROFILE,
        SteadyArrivals(rate_rps, seed=7),
        targets=TARGETS,
        allocation=allocation,
        seed=7,
        scrape=scrape,
        faults=faults,
    )


def test_a_reading_shows_the_truth_of_its_window() -> None:
    """In a steady state every field agrees with the ledger."""
    it = world()
    it.advance(60.0)
    before = it.ledger()
    it.advance(120.0)
    truth, reading = it.ledger() - before, it.read(60.0)
    assert reading.rate_rps == pytest.approx(truth.requests / 60.0, rel=0.01)
    assert reading.error_ratio == 0.0
    assert reading.queue_time_s == pytest.approx(truth.queue_s_sum / truth.answered, rel=0.02)
    assert reading.compute_time_s == pytest.approx(truth.compute_s_sum / truth.answered, rel=0.01)
    assert reading.batch_mean == pytest.approx(truth.executed_requests / truth.executions, rel=0.01)
    assert reading.gpu_busy_ratio == pytest.approx(truth.busy_s / 120.0, rel=0.01)
    assert reading.gpu_power_w == pytest.approx(truth.energy_j / 60.0, rel=0.01)
    assert reading.attainment_ratio == pytest.approx(truth.attainment_ratio, abs=0.001)
    assert reading.latency_p95_s == pytest.approx(truth.latency_quantile_s(0.95), rel=0.15)
    mean_s = truth.latency_mean_s
    assert mean_s is not None
    assert reading.inflight_requests == pytest.approx(600.0 * mean_s, rel=0.25)
    assert (reading.replicas_ready, reading.replicas_pending, reading.age_s) == (2, 0, 0.0)


def test_quantiles_are_as_coarse_as_the_buckets() -> None:
    """Two buckets: the quantile is interpolated in one of them, whatever the truth is."""
    it = world(scrape=Scrape(buckets_s=(0.05, 1.0)))
    it.advance(30.0)
    p95_s = it.read(15.0).latency_p95_s
    truth_s = it.ledger().latency_quantile_s(0.95)
    assert truth_s is not None
    assert truth_s < 0.03
    assert p95_s == pytest.approx(0.95 * 0.05, rel=0.01)


def test_zero_traffic_is_zero_and_not_missing() -> None:
    """A rate of zero, no latency; pods are there and idle."""
    it = world(rate_rps=0.0)
    it.advance(30.0)
    reading = it.read(15.0)
    assert reading.rate_rps == 0.0
    assert reading.gpu_busy_ratio == 0.0
    assert reading.pending_requests == 0.0
    assert reading.gpu_power_w == pytest.approx(60.0)
    absent = ("latency_p50_s", "latency_p95_s", "attainment_ratio", "error_ratio", "batch_mean")
    assert [getattr(reading, name) for name in absent] == [None] * 5


def test_a_rate_needs_two_scrapes() -> None:
    """At the first scrape gauges answer and rates do not."""
    it = world()
    it.advance(0.5)
    reading = it.read(15.0)
    assert reading.rate_rps is None
    assert reading.replicas_ready == 2


def test_scrapes_are_seen_late() -> None:
    """With a delay of 4 s the newest sample is 4 s old, and so are the gauges."""
    it = world(scrape=Scrape(interval_s=2.0, delay_s=4.0))
    it.advance(20.0)
    it.apply(replace(TWO, replicas=1))
    it.advance(24.0)
    assert it.read(15.0).age_s == 4.0
    assert (it.replicas_ready, it.read(15.0).replicas_ready) == (1, 2)
    it.advance(28.0)
    assert it.read(15.0).replicas_ready == 1


def readings_during(kind: str, *times_s: float) -> list[Signals]:
    fault = MetricFault(kind=kind, from_s=60.0, until_s=460.0)  # type: ignore[arg-type]
    it = world(rate_rps=50.0, faults=Faults(metrics=(fault,)))
    out = []
    for t_s in times_s:
        it.advance(t_s)
        out.append(it.read(15.0))
    return out


def test_an_outage_leaves_no_gauge_and_soon_no_rate() -> None:
    """A failed scrape ends the series at once; the window dries up after it."""
    early, late, back = readings_during("outage", 65.0, 90.0, 480.0)
    assert early.replicas_ready is None
    assert early.rate_rps is not None
    assert early.age_s == pytest.approx(5.0)
    assert late.rate_rps is None
    assert late.latency_p95_s is None
    assert back.rate_rps == pytest.approx(50.0, rel=0.3)
    assert back.replicas_ready == 2


def test_a_silent_source_keeps_its_last_gauges_for_five_minutes() -> None:
    """No staleness marker: the lookback answers with old values, the age tells."""
    early, late = readings_during("silent", 200.0, 400.0)
    assert early.replicas_ready == 2
    assert early.age_s == pytest.approx(140.0)
    assert early.rate_rps is None
    assert late.replicas_ready is None


def test_nan_is_missing() -> None:
    """NaN samples poison what they touch; a reading shows them as missing."""
    (reading,) = readings_during("nan", 65.0)
    numbers = [reading.rate_rps, reading.latency_p95_s, reading.replicas_ready]
    assert numbers == [None, None, None]


def test_a_restarted_pod_counts_from_zero_and_rates_survive_it() -> None:
    """A crash resets the pod's counters; no rate turns negative or jumps."""
    it = world(faults=Faults(pod_crashes_s=(20.0,)))
    for until_s in np.arange(16.0, 60.0, 1.0):
        it.advance(float(until_s))
        reading = it.read(15.0)
        assert reading.batch_mean is not None
        assert 1.0 <= reading.batch_mean <= 8.0
        assert reading.gpu_busy_ratio is not None
        assert 0.0 <= reading.gpu_busy_ratio <= 1.0


def test_errors_are_a_share_of_what_was_completed() -> None:
    """A pod that rejects beyond its queue: the ratio is that of the ledger."""
    profile = PROFILE.model_copy(update={"max_queue": 4})
    it = SimulatedWorld(
        profile, SteadyArrivals(2000.0, seed=1), targets=TARGETS, allocation=TWO, seed=1
    )
    it.advance(60.0)
    truth, reading = it.ledger(), it.read(59.0)
    assert truth.rejected > 1000
    assert reading.error_ratio == pytest.approx(truth.rejected / truth.requests, rel=0.02)


def test_the_clock_of_a_quiet_service_costs_nothing_to_read() -> None:
    """Long silence: exact arrivals hours apart are answered, and rates are zero between."""
    it = SimulatedWorld(
        PROFILE, ExactArrivals(np.array([1.0, 7000.0])), targets=TARGETS, allocation=TWO, seed=1
    )
    it.advance(7200.0)
    assert it.ledger().answered == 2
    assert it.read(60.0).rate_rps == 0.0


@pytest.mark.parametrize("window_s", [0.0, -1.0, 1e6, float("nan")])
def test_an_impossible_window_is_refused(window_s: float) -> None:
    """Scrapes are kept for 511 intervals."""
    it = world()
    with pytest.raises(InputInvalid, match="window_s"):
        it.read(window_s)
