"""A recording gives back the service it was made from, or says why it cannot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.calibration.batches import batch_seen_by_requests
from gpupilot_envs.calibration.findings import Finding
from gpupilot_envs.calibration.fitting import Calibration, calibrate
from gpupilot_envs.calibration.lines import fit_line, straight, unseen_error
from gpupilot_envs.embedded import find_profile
from gpupilot_envs.errors import InputInvalid
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
    watts: tuple[float, float] = (20.0, 95.0),
) -> Recording:
    """Return windows of two pods whose batch takes ``fixed_s + per_request_s * b``."""
    random = np.random.default_rng(3)
    batch = np.linspace(*batches, windows)
    executions = 900.0
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
    found = calibrate([recording], BASE, when="2026-01-01")
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
    assert profile.gpu.power_w.idle == pytest.approx(20.0, rel=0.01)
    assert profile.gpu.power_w.busy == pytest.approx(95.0, rel=0.01)


def test_the_profile_says_how_it_was_measured_and_what_was_not() -> None:
    profile = calibrated(recorded())
    assert "200 windows" in profile.measured.how
    assert "beyond a mean of 6.0 none were seen" in profile.measured.how
    for parameter in ("noise_cv", "overhead_ms", "cold_start_s", "gpu.sharing"):
        assert f"{parameter}: as in base" in profile.measured.how.replace(
            ".contention_by_tenants", ""
        )


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
    found = calibrate([recording], BASE, when="2026-01-01")
    assert found.profile is None
    assert any(reason in refusal for refusal in found.refusals)


def test_a_setting_that_changed_is_refused() -> None:
    recording = recorded()
    changed = (*recording.allocations[:-1], Allocation(replicas=2, batch_max=4))
    found = calibrate([replace(recording, allocations=changed)], BASE, when="2026-01-01")
    assert found.refusals == ("batch_max changed during the recording; record with one setting",)


def test_power_is_kept_where_it_cannot_be_told() -> None:
    recording = recorded()
    blind = tuple(replace(reading, gpu_power_w=None) for reading in recording.readings)
    profile = calibrated(replace(recording, readings=blind))
    assert profile.gpu.power_w == BASE.gpu.power_w
    assert "gpu.power_w: as in base; only 0 windows" in profile.measured.how


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


def found_in(
    recordings: list[Recording], parameter: str, base: ServiceProfile = BASE
) -> tuple[Calibration, Finding]:
    done = calibrate(recordings, base, when="2026-01-01")
    return done, next(f for f in done.findings if f.parameter == parameter)


def counted(recording: Recording, **times_ms: tuple[int, float]) -> Recording:
    """Return the recording with the server's statistics: ``b4=(executions, mean ms)``."""
    batch_times = {
        int(name[1:]): (count, count * mean_ms / 1000.0)
        for name, (count, mean_ms) in times_ms.items()
    }
    return replace(recording, batch_times=batch_times)


def test_the_servers_statistics_are_the_curve_itself() -> None:
    recording = counted(recorded(), b1=(500, 11.0), b2=(90, 12.5), b4=(40, 15.0), b8=(31, 31.0))
    profile = calibrated(recording)
    assert profile.batch_latency_ms == ((1, 11.0), (2, 12.5), (4, 15.0), (8, 31.0))
    assert "661 executions by batch size" in profile.measured.how


def test_sizes_hardly_seen_are_left_out_and_the_line_goes_on() -> None:
    profile = calibrated(counted(recorded(), b2=(900, 14.0), b4=(800, 18.0), b8=(3, 900.0)))
    assert dict(profile.batch_latency_ms) == pytest.approx({1: 12.0, 2: 14.0, 4: 18.0, 8: 26.0})
    assert "1 and 8 were hardly seen" in profile.measured.how


@pytest.mark.parametrize(
    ("times_ms", "reason"),
    [
        ({"b1": (900, 12.0)}, "only batches of 1 were executed"),
        ({"b1": (9, 12.0), "b8": (9, 20.0)}, "no batch size was executed 30 times"),
        ({"b1": (300, 30.0), "b8": (300, 12.0)}, "other work disturbed"),
    ],
    ids=["one size", "few", "falling"],
)
def test_statistics_that_cannot_tell_are_refused(
    times_ms: dict[str, tuple[int, float]], reason: str
) -> None:
    done = calibrate([counted(recorded(), **times_ms)], BASE, when="2026-01-01")
    assert done.profile is None
    assert any(reason in refusal for refusal in done.refusals)


def with_details(recording: Recording, **columns: object) -> Recording:
    count = len(recording.readings)
    details = {name: (value,) * count for name, value in columns.items()}
    return replace(recording, details=details)  # type: ignore[arg-type]


def test_noise_is_found_where_batches_hold_one_request() -> None:
    alone = recorded(batches=(1.0, 1.0), allocation=Allocation(replicas=2, batch_max=1))
    sigma = float(np.sqrt(np.log1p(0.12**2)))
    quantiles = {"compute_p50_s": 0.012, "compute_p95_s": 0.012 * float(np.exp(1.6449 * sigma))}
    _, noise = found_in([with_details(alone, **quantiles)], "noise_cv")
    assert noise.values == {"": pytest.approx(0.12, rel=0.01)}
    _, mixed = found_in([with_details(recorded(batches=(2.0, 6.0)), **quantiles)], "noise_cv")
    assert mixed.refusal is not None
    assert "0 windows" in mixed.refusal


def test_summaries_that_remember_larger_batches_are_not_taken_for_noise() -> None:
    """They slide over a minute: six windows of 15 s after the last larger batch do not count."""
    alone = recorded(batches=(1.0, 1.0), windows=26)
    first = (replace(alone.readings[0], batch_mean=3.0), *alone.readings[1:])
    quantiles = {"compute_p50_s": 0.012, "compute_p95_s": 0.030}
    remembering = with_details(replace(alone, readings=first), **quantiles)
    _, noise = found_in([remembering], "noise_cv")
    assert noise.refusal is not None
    assert noise.refusal.startswith("19 windows")


def test_overhead_is_what_the_gateway_saw_beyond_the_server() -> None:
    recording = recorded()
    readings = tuple(
        replace(r, queue_time_s=0.004, compute_time_s=0.012) for r in recording.readings
    )
    measured = with_details(replace(recording, readings=readings), latency_mean_s=0.0185)
    done, overhead = found_in([measured], "overhead_ms")
    assert overhead.values == {"": pytest.approx(2.5)}
    assert done.profile is not None
    assert done.profile.overhead_ms == pytest.approx(2.5)
    impossible = with_details(replace(recording, readings=readings), latency_mean_s=0.010)
    _, refused = found_in([impossible], "overhead_ms")
    assert refused.refusal is not None
    assert "saw less than the server" in refused.refusal


def test_overhead_is_what_users_waited_where_they_tell() -> None:
    recording = recorded()
    readings = tuple(
        replace(r, queue_time_s=0.004, compute_time_s=0.012) for r in recording.readings
    )
    served = with_details(replace(recording, readings=readings), latency_mean_s=0.0185)
    done = calibrate([served] * 3, BASE, when="2026-01-01", users_s=[0.020, None, 0.021])
    (overhead,) = (f for f in done.findings if f.parameter == "overhead_ms")
    assert overhead.values == {"": pytest.approx(4.5)}
    assert overhead.source.startswith("median over 2 runs of users' mean latency")


def test_a_long_queue_says_nothing_of_the_overhead() -> None:
    recording = recorded()
    readings = tuple(replace(r, queue_time_s=0.4, compute_time_s=0.012) for r in recording.readings)
    overloaded = with_details(replace(recording, readings=readings), latency_mean_s=0.414)
    done = calibrate([overloaded], BASE, when="2026-01-01", users_s=[0.6])
    (overhead,) = (f for f in done.findings if f.parameter == "overhead_ms")
    assert overhead.values == {"": pytest.approx(2.0)}


def test_cold_starts_come_from_kubernetes_or_from_pending_windows() -> None:
    recording = recorded()
    column = tuple(20.0 + k if k < 5 else None for k in range(len(recording.readings)))
    exact = replace(recording, details={"cold_start_s": column})
    _, start = found_in([exact], "cold_start_s")
    assert start.values["mean"] == pytest.approx(22.0)
    assert start.values["cv"] == pytest.approx(np.std([20, 21, 22, 23, 24], ddof=1) / 22, rel=1e-3)
    ready = 1
    readings = []
    for index, reading in enumerate(recording.readings):
        pending = int(index % 20 in (5, 6, 7) and index < 100)
        ready += index % 20 == 8 and index < 100
        readings.append(replace(reading, replicas_pending=pending, replicas_ready=ready))
    _, seen = found_in([replace(recording, readings=tuple(readings))], "cold_start_s")
    assert seen.values == {"mean": 45.0, "cv": 0.0}
    assert seen.error_ratio == pytest.approx(7.5 / 45.0)
    _, none = found_in([recording], "cold_start_s")
    assert none.refusal == "0 starts of pods were recorded, 3 are needed"


def test_two_instances_tell_contention() -> None:
    """Each instance is busy half of the time, so half of an execution overlaps the other's."""
    alone = counted(recorded(), b1=(1000, 12.0), b8=(1000, 26.0))
    shape = Allocation(replicas=1, instances_per_replica=2, batch_max=8)
    pair = recorded(allocation=shape)
    seconds = 15.0 * len(pair.readings) * 2
    slower = 1.0 + 0.5 * (1.6 - 1.0)
    count = round(0.5 * seconds / (slower * (0.012 + 0.026)))
    together = counted(pair, b1=(count, slower * 12.0), b8=(count, slower * 26.0))
    done, contention = found_in([alone, together], "gpu.sharing.contention_by_tenants")
    assert done.profile is not None
    assert done.profile.gpu.sharing.contention_by_tenants[1] == pytest.approx((2.0, 1.6), rel=0.01)
    assert done.profile.instances_per_replica == 1
    assert contention.error_ratio == pytest.approx(0.0, abs=1e-6)
    idle = counted(pair, b1=(50, 12.0), b8=(50, 26.0))
    _, refused = found_in([alone, idle], "gpu.sharing.contention_by_tenants")
    assert refused.refusal is not None
    assert "record at a higher load" in refused.refusal


def test_power_is_judged_on_what_the_fit_has_not_seen() -> None:
    _, power = found_in([recorded()], "gpu.power_w")
    assert power.error_ratio == pytest.approx(0.0, abs=1e-6)
    recording = recorded()
    bent = tuple(
        replace(r, gpu_power_w=2 * (60.0 + 90.0 * ((r.gpu_busy_ratio or 0.0) - 0.4) ** 2))
        for r in recording.readings
    )
    _, curved = found_in([replace(recording, readings=bent)], "gpu.power_w")
    assert curved.known
    assert "it bends: a line is not the whole truth" in curved.remarks


def test_neighbours_do_not_vouch_for_each_other() -> None:
    """Folds are stretches of time: with every fifth window left out a wrong curve looks better."""
    x = np.linspace(0.0, 1.0, 200)
    y = 1.0 + x**2
    mixed = np.argsort(np.arange(200) % 5, kind="stable")[np.arange(200)]
    shuffled = np.random.default_rng(1).permutation(mixed)
    in_order = unseen_error(x, y, np.ones(200), straight)
    assert in_order > 1.5 * unseen_error(x[shuffled], y[shuffled], np.ones(200), straight)


def test_several_services_are_refused() -> None:
    with pytest.raises(InputInvalid, match="the same service"):
        calibrate([recorded(), replace(recorded(), service="other")], BASE, when="2026-01-01")


def test_recordings_with_and_without_batching_make_one_profile() -> None:
    alone = counted(
        recorded(batches=(1.0, 1.0), allocation=Allocation(replicas=2, batch_max=1)),
        b1=(5000, 11.5),
    )
    batched = counted(recorded(), b1=(1000, 11.5), b4=(1000, 15.0), b8=(1000, 25.0))
    done = calibrate([alone, batched], BASE, when="2026-01-01")
    assert done.profile is not None
    assert done.profile.batching.max_batch == 8
    assert dict(done.profile.batch_latency_ms)[1.0] == pytest.approx(11.5)
