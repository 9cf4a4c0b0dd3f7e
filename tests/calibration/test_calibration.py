"""A recording gives back the service it was made from, or says why it cannot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.calibration import batch_seen_by_requests, calibrate, fit_line
from gpupilot_envs.embedded import find_profile
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.signals import Signals
from gpupilot_envs.workload.recording import Recording

BASE = find_profile("mobilenetv4-edge")


def recorded(
    *,
    fixed_s: float = 0.010,
    per_request_s: float = 0.002,
    batches: tuple[float, float] = (1.0, 6.0),
    windows: int = 200,
    noise_cv: float = 0.05,
    allocation: Allocation | None = None,
    watts: tuple[float, float] = (30.0, 120.0),
) -> Recording:
    """Return windows of two pods whose batch takes ``fixed_s + per_request_s * b``."""
    random = np.random.default_rng(3)
    batch = np.linspace(*batches, windows)
    executions = 300.0
    exact = fixed_s + per_request_s * batch
    time_s = exact * (1 + random.normal(0, noise_cv / np.sqrt(executions), windows))
    busy = time_s * executions / (2 * 15.0)
    readings = tuple(
        Signals(
            at_s=15.0 * (i + 1),
            window_s=15.0,
            rate_rps=executions * batch[i] / 15.0,
            batch_mean=batch[i],
            gpu_busy_ratio=busy[i],
            gpu_power_w=2 * (watts[0] + (watts[1] - watts[0]) * busy[i]),
            replicas_ready=2,
            replicas_pending=0,
        )
        for i in range(windows)
    )
    shape = allocation or Allocation(replicas=2, batch_max=8)
    return Recording(service="shop", readings=readings, allocations=(shape,) * windows)


def seen_by_triton_alone(recording: Recording) -> Recording:
    """Return the same windows without busy time, with Triton's compute time per request.

    Batch sizes are bell-shaped, cut at 1 and 8: other than what the calibration assumes.
    """
    readings = []
    for reading in recording.readings:
        assert reading.batch_mean is not None
        sizes = np.arange(1.0, 9.0)
        shares = np.exp(-((sizes - reading.batch_mean) ** 2) / 4)
        seen = float(shares @ sizes**2 / (shares @ sizes))
        mean = float(shares @ sizes / shares.sum())
        readings.append(
            replace(
                reading,
                gpu_busy_ratio=None,
                batch_mean=mean,
                compute_time_s=0.010 + 0.002 * seen,
            )
        )
    return replace(recording, readings=tuple(readings))


def calibrated(recording: Recording) -> ServiceProfile:
    found = calibrate(recording, BASE, when="2026-01-01")
    assert found.refusals == ()
    assert found.profile is not None
    return found.profile


def test_the_line_is_found() -> None:
    profile = calibrated(recorded())
    (one, at_one), (eight, at_eight) = profile.batch_latency_ms
    assert (one, eight) == (1.0, 8.0)
    assert at_one == pytest.approx(12.0, rel=0.02)
    assert at_eight == pytest.approx(26.0, rel=0.02)


def test_without_busy_time_the_compute_counter_is_read_as_what_it_is() -> None:
    profile = calibrated(seen_by_triton_alone(recorded()))
    at_one, at_eight = (ms for _, ms in profile.batch_latency_ms)
    assert at_one == pytest.approx(12.0, rel=0.10)
    assert at_eight == pytest.approx(26.0, rel=0.10)
    assert "compute counter per request, to about 10 %" in profile.measured.how


def test_power_is_found() -> None:
    profile = calibrated(recorded())
    assert profile.gpu.power_w.idle == pytest.approx(30.0, rel=0.01)
    assert profile.gpu.power_w.busy == pytest.approx(120.0, rel=0.01)


def test_the_profile_says_how_it_was_measured_and_what_was_not() -> None:
    profile = calibrated(recorded())
    assert "200 windows" in profile.measured.how
    assert "beyond a mean of 6.0" in profile.measured.how
    assert "noise, overhead and cold start: as in base" in profile.measured.how


def test_a_service_that_never_batches_needs_no_line() -> None:
    alone = Allocation(replicas=2, batch_max=1)
    profile = calibrated(recorded(batches=(1.0, 1.0), allocation=alone))
    ((size, at_one),) = profile.batch_latency_ms
    assert size == 1.0
    assert at_one == pytest.approx(12.0, rel=0.01)
    assert not profile.batching.enabled


@pytest.mark.parametrize(
    ("recording", "reason"),
    [
        (recorded(batches=(2.0, 2.1)), "stayed between 2.0"),
        (recorded(windows=5), "only 5 windows"),
        (recorded(per_request_s=-0.001), "disturbed"),
        (recorded(noise_cv=20.0), "is known to"),
        (
            recorded(allocation=Allocation(replicas=2, instances_per_replica=2)),
            "several instances",
        ),
    ],
    ids=["narrow", "short", "falling", "noisy", "shared"],
)
def test_what_cannot_be_told_is_refused_with_its_reason(recording: Recording, reason: str) -> None:
    found = calibrate(recording, BASE, when="2026-01-01")
    assert found.profile is None
    assert any(reason in refusal for refusal in found.refusals)


def test_a_setting_that_changed_is_refused() -> None:
    recording = recorded()
    changed = (*recording.allocations[:-1], Allocation(replicas=2, batch_max=4))
    found = calibrate(replace(recording, allocations=changed), BASE, when="2026-01-01")
    assert found.refusals == ("batch_max changed during the recording; record with one setting",)


def test_power_is_kept_where_it_cannot_be_told() -> None:
    recording = recorded()
    blind = tuple(replace(reading, gpu_power_w=None) for reading in recording.readings)
    profile = calibrated(replace(recording, readings=blind))
    assert profile.gpu.power_w == BASE.gpu.power_w
    assert "power: as in base" in profile.measured.how


@given(
    intercept=st.floats(0.1, 10.0),
    slope=st.floats(0.0, 5.0),
    weights=st.lists(st.floats(0.5, 50.0), min_size=5, max_size=30),
)
@settings(max_examples=50, deadline=None)
def test_exact_points_give_the_exact_line_whatever_their_weights(
    intercept: float, slope: float, weights: list[float]
) -> None:
    x = np.arange(1.0, len(weights) + 1)
    line = fit_line(x, intercept + slope * x, np.array(weights))
    assert line.intercept == pytest.approx(intercept, rel=1e-6, abs=1e-8)
    assert line.slope == pytest.approx(slope, rel=1e-6, abs=1e-8)
    assert line.band_ratio(1.0) == pytest.approx(0.0, abs=1e-5)


@given(share=st.floats(0.0, 1.0), largest=st.integers(1, 64))
@settings(max_examples=50, deadline=None)
def test_requests_see_larger_batches_than_executions_do(share: float, largest: int) -> None:
    mean = 1.0 + share * (largest - 1)
    seen = batch_seen_by_requests(mean, largest)
    most = mean + (mean - 1) * (largest - mean) / mean
    assert mean - 1e-9 <= seen <= most + 1e-9
