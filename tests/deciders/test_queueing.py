"""The queueing kernels: forecasts of known series, margins, holds, and gaps in the readings."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpupilot_envs.queueing import (
    AT,
    PENDING,
    RATE,
    WINDOW,
    Knobs,
    forecast_errors,
    margin_rps,
    needs,
    settle,
    smooth,
)
from gpupilot_envs.signals import SIGNAL_INDEX, History, Signals

Rows = NDArray[np.float64]


def rows_of(rates: Sequence[float | None], *, step_s: float = 15.0, pending: float = 0.0) -> Rows:
    history = History(capacity=128)
    for i, rate in enumerate(rates):
        history = history.push(
            Signals(at_s=i * step_s, window_s=step_s, rate_rps=rate, pending_requests=pending)
        )
    return history.matrix()


def plan(rows: Rows, slo_rps: float = 100.0, **changed: float) -> tuple[float, ...]:
    knobs = {**{name: getattr(Knobs(), name) for name in Knobs.__slots__}, **changed}
    return needs(
        rows,
        0,
        len(rows),
        slo_rps,
        float(knobs["z"]),
        float(knobs["hold_s"]),
        float(knobs["horizon_s"]),
        float(knobs["alpha"]),
        float(knobs["beta"]),
        float(knobs["drain_s"]),
        bool(knobs["conformal"]),
    )


def test_the_columns_are_those_of_the_readings() -> None:
    named = {"at_s": AT, "window_s": WINDOW, "rate_rps": RATE, "pending_requests": PENDING}
    assert named == {name: SIGNAL_INDEX[name] for name in named}


def test_a_steady_rate_needs_its_share_of_replicas_and_no_margin() -> None:
    need, held, forecast, margin = plan(rows_of([250.0] * 20), z=3.0)
    assert (need, held, forecast, margin) == pytest.approx((2.5, 2.5, 250.0, 0.0))


def test_a_ramp_is_projected_over_the_horizon_only_with_a_trend() -> None:
    ramp = rows_of([100.0 + 2.0 * 15.0 * i for i in range(40)])
    now = 100.0 + 2.0 * 15.0 * 39
    _, _, with_trend, _ = plan(ramp, alpha=1.0, beta=1.0, horizon_s=45.0)
    _, _, without, _ = plan(ramp, alpha=1.0, beta=0.0, horizon_s=45.0)
    assert with_trend == pytest.approx(now + 2.0 * 45.0)
    assert without == pytest.approx(now)


def test_a_falling_rate_is_never_projected_below_the_present() -> None:
    falling = rows_of([1000.0 - 20.0 * i for i in range(30)])
    _, _, forecast, _ = plan(falling, alpha=1.0, beta=1.0)
    assert forecast == pytest.approx(1000.0 - 20.0 * 29)


def test_the_first_readings_weigh_equally_whatever_alpha_is() -> None:
    rows = rows_of([10.0, 20.0, 60.0])
    level, trend = np.empty(3), np.empty(3)
    smooth(rows, 0, 3, 0.01, 0.0, level, trend)
    assert level.tolist() == pytest.approx([10.0, 15.0, 30.0])


def test_errors_are_those_of_forecasts_made_one_horizon_before() -> None:
    rows = rows_of([100.0, 100.0, 100.0, 130.0, 130.0])
    level, trend, errors = np.empty(5), np.empty(5), np.empty(5)
    smooth(rows, 0, 5, 1.0, 0.0, level, trend)
    found = forecast_errors(rows, 0, 5, 30.0, level, trend, errors)
    assert errors[:found].tolist() == pytest.approx([0.0, 0.0, 30.0, 30.0])


def test_gaussian_and_conformal_margins() -> None:
    errors = np.array([-30.0, 10.0, 20.0, 5.0, 0.0, 15.0, -5.0, 25.0, 30.0])
    sigma = float(np.sqrt(np.mean(errors**2)))
    assert margin_rps(errors, 9, 2.0, False) == pytest.approx(2.0 * sigma)
    assert margin_rps(errors, 9, 0.0, True) == pytest.approx(10.0)  # the median of nine
    assert margin_rps(errors, 9, 0.84, True) == pytest.approx(25.0)  # rank ceil(10 * 0.7995)
    beyond = margin_rps(errors, 9, 3.0, True)  # nine errors cannot show a quantile of 99.9 %
    assert beyond == pytest.approx(max(30.0, 3.0 * sigma))


def test_the_conformal_margin_covers_the_next_error_as_promised() -> None:
    rng = np.random.default_rng(7)
    covered = [
        rng.gamma(2.0) - 2.0 <= margin_rps(np.ascontiguousarray(sample), 63, 1.2816, True)
        for sample in rng.gamma(2.0, size=(4000, 63)) - 2.0
    ]
    assert np.mean(covered) == pytest.approx(0.90, abs=0.02)


def test_before_any_error_the_margin_is_that_of_a_poisson_count() -> None:
    _, _, _, margin = plan(rows_of([60.0]), z=2.0)
    assert margin == pytest.approx(2.0 * np.sqrt(60.0 / 15.0))


def test_a_backlog_must_be_gone_within_its_time() -> None:
    need, *_ = plan(rows_of([100.0] * 8, pending=300.0), z=0.0, drain_s=10.0)
    assert need == pytest.approx((100.0 + 30.0) / 100.0)


def test_the_largest_need_is_held_for_its_time_and_no_longer() -> None:
    spike = [100.0] * 10 + [900.0] + [100.0] * 8
    rows = rows_of(spike)
    need, held, _, _ = plan(rows, z=0.0, alpha=1.0, hold_s=120.0)
    assert (need, held) == pytest.approx((1.0, 9.0))
    need, held, _, _ = plan(rows, z=0.0, alpha=1.0, hold_s=119.0)
    assert (need, held) == pytest.approx((1.0, 1.0))


def test_up_at_once_down_as_held() -> None:
    assert settle(2, 4.2, 6.0) == 5
    assert settle(9, 4.2, 6.0) == 6
    assert settle(5, 4.2, 6.0) == 5
    assert settle(3, 3.0 + 1e-12, 3.0 + 1e-12) == 3
    assert settle(7, np.nan, np.nan) == 7


def test_readings_without_a_rate_change_nothing_and_never_poison() -> None:
    full = plan(rows_of([100.0, 120.0, 110.0]), alpha=0.5)
    gaps = rows_of([None, 100.0, 120.0, 110.0, None])
    gaps[1:4, AT] = [0.0, 15.0, 30.0]
    gaps[4, AT] = 31.0
    assert plan(gaps, alpha=0.5)[2] == pytest.approx(full[2])
    assert all(isnan(value) for value in plan(rows_of([None, None])))
    assert all(isnan(value) for value in plan(rows_of([])))


def test_a_missing_backlog_adds_nothing() -> None:
    rows = rows_of([100.0] * 5)
    rows[:, PENDING] = np.nan
    assert plan(rows, z=0.0)[0] == pytest.approx(1.0)


@given(
    rates=st.lists(st.one_of(st.none(), st.floats(0.0, 1e4)), min_size=2, max_size=30),
    scale=st.floats(0.01, 100.0),
    beta=st.floats(0.0, 1.0),
    conformal=st.booleans(),
)
def test_needs_are_dimensionless(
    rates: list[float | None], scale: float, beta: float, conformal: bool
) -> None:
    rows = rows_of(rates, pending=7.0)
    scaled = rows.copy()
    scaled[:, [RATE, PENDING]] *= scale
    if np.isfinite(rows[:, RATE]).sum() >= 2:
        one = plan(rows, beta=beta, conformal=conformal)
        other = plan(scaled, 100.0 * scale, beta=beta, conformal=conformal)
        assert other[:2] == pytest.approx(one[:2], rel=1e-6, abs=1e-9)


@given(
    rates=st.lists(st.one_of(st.none(), st.floats(0.0, 1e4)), min_size=1, max_size=20),
    turn=st.integers(0, 19),
    conformal=st.booleans(),
)
def test_a_ring_buffer_answers_like_the_history(
    rates: list[float | None], turn: int, conformal: bool
) -> None:
    rows = rows_of(rates, pending=3.0)
    turn %= len(rows)
    ring = np.ascontiguousarray(np.roll(rows, turn, axis=0))
    args = (80.0, 2.0, 60.0, 45.0, 0.5, 0.2, 15.0, conformal)
    straight = needs(rows, 0, len(rows), *args)
    around = needs(ring, turn, len(rows), *args)
    assert np.array_equal(straight, around, equal_nan=True)


@given(
    rates=st.lists(st.floats(0.0, 1e4), min_size=2, max_size=30),
    z=st.tuples(st.floats(0.0, 4.0), st.floats(0.0, 4.0)),
    hold=st.tuples(st.floats(0.0, 600.0), st.floats(0.0, 600.0)),
    conformal=st.booleans(),
)
def test_more_margin_or_hold_never_needs_less(
    rates: list[float], z: tuple[float, float], hold: tuple[float, float], conformal: bool
) -> None:
    rows = rows_of(rates)
    low = plan(rows, z=min(z), hold_s=min(hold), conformal=conformal)
    high = plan(rows, z=max(z), hold_s=max(hold), conformal=conformal)
    assert low[0] <= high[0] + 1e-9
    assert low[1] <= high[1] + 1e-9
    assert low[0] <= low[1] + 1e-9
