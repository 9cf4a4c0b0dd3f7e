"""What is replayed: stretches without gaps, the same every time, honestly scaled."""

from __future__ import annotations

import numpy as np
import pytest

from gpupilot_agent.comparison.traffic import Piece, pieces, prepared
from gpupilot_envs.errors import TraceInvalid
from gpupilot_envs.workload.trace import RateTrace

HOUR_S = 3600.0


def days(
    count: int, *, bin_s: float = 60.0, gaps: tuple[tuple[float, float], ...] = ()
) -> RateTrace:
    bins = round(count * 24 * HOUR_S / bin_s)
    rates = 50.0 + 40.0 * np.sin(2 * np.pi * np.arange(bins) * bin_s / (24 * HOUR_S))
    return RateTrace(name="days", bin_s=bin_s, rps=rates).with_mask(gaps)


def cut(trace: RateTrace, *, hours: float | None, warm_up_s: float = 600.0) -> tuple[Piece, ...]:
    return pieces(trace, origin_sha256=trace.sha256, hours=hours, warm_up_s=warm_up_s)


def test_windows_avoid_every_gap() -> None:
    """A gap of half an hour a day, as the Twitter stream has, touches no window or warm-up."""
    gaps = tuple((d * 24 * HOUR_S + 23.5 * HOUR_S, (d + 1) * 24 * HOUR_S) for d in range(10))
    trace = days(10, gaps=gaps)
    found = cut(trace, hours=8.0)
    assert len(found) == 8
    for piece in found:
        assert not piece.trace.masked.any()
        start = piece.start_s - piece.warm_up_s
        assert all(piece.end_s <= low or start >= high for low, high in gaps)


def test_windows_spread_over_days_and_hours_and_repeat() -> None:
    first = cut(days(14), hours=6.0)
    assert [p.window() for p in first] == [p.window() for p in cut(days(14), hours=6.0)]
    assert len({int(piece.start_s // (24 * HOUR_S)) for piece in first}) >= 5
    assert len({int(piece.start_s % (24 * HOUR_S) // HOUR_S) for piece in first}) >= 4
    ends = [piece.end_s for piece in first[:-1]]
    starts = [piece.start_s - piece.warm_up_s for piece in first[1:]]
    assert all(end <= start for end, start in zip(ends, starts, strict=True))


def test_short_trace_is_scored_whole_with_a_shorter_warm_up() -> None:
    trace = RateTrace(name="short", bin_s=10.0, rps=np.full(60, 5.0))
    (piece,) = cut(trace, hours=4.0)
    assert (piece.warm_up_s, piece.start_s, piece.end_s) == (150.0, 150.0, 600.0)
    assert piece.trace.duration_s == 600.0


def test_everything_is_scored_without_a_limit() -> None:
    found = cut(days(2, gaps=((HOUR_S, 2 * HOUR_S),)), hours=None)
    assert sum(piece.scored_s for piece in found) == 47 * HOUR_S - 2 * 600.0


def test_trace_of_gaps_only_is_refused() -> None:
    with pytest.raises(TraceInvalid, match="gaps"):
        cut(days(1, gaps=((0.0, 24 * HOUR_S),)), hours=1.0)


def test_scaling_gives_the_mean_demand_asked_for() -> None:
    ready = prepared(days(1), replicas=5.0, capacity_rps=80.0)
    assert ready.mean_rps == pytest.approx(400.0)


def test_long_bins_become_lines_that_keep_their_means() -> None:
    trace = days(4, bin_s=HOUR_S)
    ready = prepared(trace, replicas=None, capacity_rps=1.0)
    assert ready.bin_s == 60.0
    assert np.abs(np.diff(ready.rps)).max() < np.abs(np.diff(trace.rps)).max() / 5
    assert ready.rps.reshape(-1, 60).mean(axis=1) == pytest.approx(trace.rps, rel=1e-6)


def test_counting_noise_is_not_scaled_up() -> None:
    """Three requests in four seconds are noise, not a rate that jumps between 0 and 300."""
    counts = np.random.default_rng(0).poisson(0.8, size=7200).astype(np.float64)
    few = RateTrace(name="few", bin_s=1.0, rps=counts)
    ready = prepared(few, replicas=5.0, capacity_rps=80.0)
    assert 30.0 <= ready.bin_s <= 60.0
    assert ready.rps.std() / ready.mean_rps < 0.25
    exact = RateTrace(name="exact", bin_s=1.0, rps=counts + 0.25)
    assert prepared(exact, replicas=5.0, capacity_rps=80.0).bin_s == 1.0
