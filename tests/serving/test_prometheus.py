"""Prometheus' functions against the cases its own test suite publishes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpupilot_envs.serving.prometheus import histogram_quantile, increase, rate

MINUTE_S = 60.0


def at(minutes: float, window: float, step: float, values: list[float]) -> tuple[object, ...]:
    """Return what a range of ``window`` minutes at ``minutes`` selects, and its ends."""
    times = MINUTE_S * step * np.arange(len(values))
    end, start = MINUTE_S * minutes, MINUTE_S * (minutes - window)
    inside = (times > start) & (times <= end)
    return times[inside], np.array(values, dtype=float)[inside], start, end


def ramp(first: float, step: float, count: int) -> list[float]:
    return [first + step * k for k in range(count + 1)]


# promql/promqltest/testdata/functions.test: "Tests for increase()" and "Tests for rate()".
INCREASES = [
    (50, 50, 5, ramp(0, 10, 10), 100.0),
    (50, 50, 5, ramp(0, 18, 5) + ramp(0, 18, 5)[:5], 160.0),
    (50, 100, 5, ramp(0, 10, 10), 100.0),
    (50, 100, 5, ramp(10, 10, 10), 105.0),
    (50, 100, 5, ramp(1, 10, 10), 101.0),
    (30, 30, 5, [0, 1, 2, 3, 2, 3, 4], 7.0),
]
RATES = [
    (50, 50, 5, ramp(0, 27, 4) + ramp(0, 27, 5), 0.08),
    (50, 6, 5, [*ramp(0, 10, 9), 0, 10], 0.0),
    (50, 50, 5, ramp(0, 80, 10), 0.26666666666666666),
    (10, 20, 4, ramp(0, 240, 10), 0.5),
    (10, 20, 4, ramp(60, 240, 10), 0.55),
    (10, 20, 4, ramp(120, 240, 10), 0.6),
    (10, 20, 4, ramp(300, 240, 10), 0.6),
    (50, 20, 4, ramp(60, 240, 10), 0.6),
]


@pytest.mark.parametrize(("minutes", "window", "step", "values", "expected"), INCREASES)
def test_increase(
    minutes: float, window: float, step: float, values: list[float], expected: float
) -> None:
    """Extrapolation to the range, to half a spacing, and never below a counter's zero."""
    got = increase(*at(minutes, window, step, values))  # type: ignore[arg-type]
    assert got == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("minutes", "window", "step", "values", "expected"), RATES)
def test_rate(
    minutes: float, window: float, step: float, values: list[float], expected: float
) -> None:
    """Counter resets in the middle and at the end of the range, and the zero cut-off."""
    got = rate(*at(minutes, window, step, values))  # type: ignore[arg-type]
    assert got == pytest.approx(expected, rel=1e-9)


def test_a_single_sample_is_no_rate() -> None:
    """``rate(testcounter_reset_end_total[5m])`` answers nothing."""
    got = rate(*at(50, 5, 5, [*ramp(0, 10, 9), 0, 10]))  # type: ignore[arg-type]
    assert math.isnan(got)


# promql/promqltest/testdata/histograms.test: testhistogram at 50m, and promql/quantile_test.go.
POSITIVE = ([0.1, 0.2, 1.0], [50.0, 70.0, 110.0, 120.0])
NEGATIVE = ([-0.2, -0.1, 0.3], [10.0, 20.0, 20.0, 30.0])
STEPS = ([10.0, 15.0, 20.0, 30.0], [10.0, 15.0, 15.0, 15.0, 15.0])
ROUNDED = ([10.0, 15.0, 20.0, 30.0], [10.0, 15.0, 15.00000000001, 15.0, 15.0])
QUANTILES = [
    (POSITIVE, 0.2, 0.048),
    (POSITIVE, 0.5, 0.15),
    (POSITIVE, 0.8, 0.72),
    (NEGATIVE, 0.2, -0.2),
    (NEGATIVE, 0.5, -0.15),
    (NEGATIVE, 0.8, 0.3),
    (STEPS, 1.0, 15.0),
    (STEPS, 0.99, 14.85),
    (STEPS, 0.5, 7.5),
    (ROUNDED, 1.0, 15.0),
    (ROUNDED, 0.9, 13.5),
]


@pytest.mark.parametrize(("histogram", "q", "expected"), QUANTILES)
def test_histogram_quantile(
    histogram: tuple[list[float], list[float]], q: float, expected: float
) -> None:
    """Linear within a bucket; above the last bound that bound; rounding does not count."""
    bounds, counts = np.array(histogram[0]), np.array(histogram[1])
    assert histogram_quantile(q, bounds, counts) == pytest.approx(expected, rel=1e-9)


def test_quantiles_that_are_none() -> None:
    """No observations, NaN, and quantiles outside 0 to 1."""
    bounds, counts = np.array(POSITIVE[0]), np.array(POSITIVE[1])
    assert math.isnan(histogram_quantile(0.5, bounds, np.zeros(4)))
    assert math.isnan(histogram_quantile(0.5, bounds, np.full(4, np.nan)))
    assert math.isnan(histogram_quantile(math.nan, bounds, counts))
    assert histogram_quantile(-0.1, bounds, counts) == -math.inf
    assert histogram_quantile(1.01, bounds, counts) == math.inf


@given(
    steps=st.lists(st.floats(0.0, 1e6), min_size=2, max_size=30),
    interval_s=st.floats(0.5, 60.0),
    q=st.floats(0.0, 1.0),
)
def test_rates_are_never_negative_nor_beyond_the_steepest_step(
    steps: list[float], interval_s: float, q: float
) -> None:
    """Whatever a counter does, its rate lies between 0 and its steepest slope."""
    values = np.cumsum(steps)
    times = interval_s * np.arange(1.0, len(steps) + 1.0)
    end_s = times[-1] + q * interval_s
    got = rate(times, values, 0.0, end_s)
    assert -1e-9 <= got <= 1.12 * max(steps) / interval_s + 1e-9
