"""The neutral action is the classical controller, and every other moves it as its name says."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpupilot_envs.actions import (
    AXES,
    CHOICES,
    KNOB_FIELDS,
    NEUTRAL,
    SIZES,
    action_table,
    advise,
    allow,
    axes_table,
    decode,
    knobs_row,
    remember,
)
from gpupilot_envs.controller import REFERENCE_PRICE, Controller
from gpupilot_envs.followed import relative_miss
from gpupilot_envs.following import (
    ANCHORS,
    HISTORY_ROWS,
    MEAN_WINDOWS_S,
    PERIOD_S,
    SKILL_WINDOW_S,
    Known,
    follow,
    fresh_rows,
)
from gpupilot_envs.observation import ADVICE_FIELDS
from gpupilot_envs.queueing import Knobs, needs, settle
from gpupilot_envs.signals import History, Signals

Readings = Callable[..., list[Signals]]
KNOBS = Knobs(z=1.5, hold_s=120.0, horizon_s=45.0)


Carried = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def _followed(readings: list[Signals], knobs: Knobs = KNOBS) -> Carried:
    ring, ordered, known = (part[0] for part in fresh_rows(1))
    for reading in readings:
        rates = (knobs.alpha, knobs.beta, knobs.horizon_s, knobs.drain_s)
        follow(reading.row(), *rates, ring, ordered, known)
    return ring, ordered, known


def _advised(carried: Carried, knobs: Knobs, running: int) -> NDArray[np.float64]:
    advice = np.empty(len(ADVICE_FIELDS))
    advise(*carried, 100.0, knobs_row(knobs), running, advice)
    return advice


def _mask(
    carried: Carried, running: int, replicas_max: float = 32.0, *, movable: bool = False
) -> NDArray[np.bool_]:
    mask = np.empty(CHOICES, dtype=np.bool_)
    allow(carried[2], _advised(carried, KNOBS, running), replicas_max, running, movable, mask)
    return mask


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("conformal", [False, True])
def test_neutral_is_exactly_the_classical_controller(
    readings: Readings, seed: int, conformal: bool
) -> None:
    knobs = Knobs(z=1.5, hold_s=150.0, horizon_s=45.0, beta=0.2, conformal=conformal)
    seen = readings(HISTORY_ROWS, seed=seed, missing=0.1)
    rows = History(readings=tuple(seen)).matrix()
    for count in (1, 2, 40, HISTORY_ROWS):
        need, held, _, margin = needs(
            rows, 0, count, 100.0, 1.5, 150.0, 45.0, knobs.alpha, 0.2, knobs.drain_s, conformal
        )
        carried = _followed(seen[:count], knobs)
        for running in (1, 3, 9):
            classical = settle(running, need, held)
            row = knobs_row(knobs)
            assert decode(np.array(NEUTRAL), *carried, 100.0, row, running) == classical
            advice = _advised(carried, knobs, running)
            assert advice[2] == classical
            assert np.array_equal(advice[[1, 3]], [need, margin], equal_nan=True)


def test_beyond_the_ring_the_need_stays_that_of_the_ring(readings: Readings) -> None:
    """Smoothing has no beginning there; what it forgot long ago changes the need by little."""
    seen = readings(3 * HISTORY_ROWS, seed=7, missing=0.05)
    rows = History(readings=tuple(seen[-HISTORY_ROWS:]), capacity=HISTORY_ROWS).matrix()
    need, _, _, _ = needs(rows, 0, HISTORY_ROWS, 100.0, 1.5, 120.0, 45.0, 0.5, 0.0, 15.0, False)
    assert _advised(_followed(seen), KNOBS, 3)[1] == pytest.approx(need, rel=0.01)


@settings(deadline=None, max_examples=40)
@given(
    action=st.tuples(*(st.integers(0, size - 1) for size in SIZES)),
    axis=st.integers(0, 3),
    seed=st.integers(0, 20),
)
def test_more_margin_hold_lift_or_memory_never_asks_for_less(
    action: tuple[int, ...], axis: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    readings = [
        Signals(at_s=15.0 * k, window_s=15.0, rate_rps=float(rng.gamma(9.0, 30.0)))
        for k in range(1, 30)
    ]
    carried, row = _followed(readings), knobs_row(KNOBS)
    asks = []
    for index in range(SIZES[axis]):
        moved = np.array(action)
        moved[axis] = index
        asks.append(decode(moved, *carried, 100.0, row, 5))
    assert asks == sorted(asks)


def test_without_any_rate_the_action_keeps_what_runs() -> None:
    carried = _followed([Signals(at_s=15.0, window_s=15.0)])
    for action in ((0,) * len(SIZES), NEUTRAL, tuple(size - 1 for size in SIZES)):
        assert decode(np.array(action), *carried, 100.0, knobs_row(KNOBS), 7) == 7


def test_axes_ascend_and_their_neutral_changes_nothing() -> None:
    nothing = {"margin": 0.0, "lift": 0.0, "memory": 0.0, "anchor": 0.0}
    for axis in AXES:
        assert list(axis.values) == sorted(axis.values)
        assert axis.values[axis.neutral] == nothing.get(axis.name, 1.0)
    before = np.ones(len(AXES))
    remember(np.array(NEUTRAL), before)
    assert before.tolist() == [0.0] * len(AXES)


def test_tables_name_every_axis_and_knob() -> None:
    assert [axis["name"] for axis in action_table()] == [axis.name for axis in AXES]
    assert all(axis.name in axes_table() for axis in AXES)
    row = knobs_row(KNOBS)
    assert dict(zip(KNOB_FIELDS, row.tolist(), strict=True))["hold_s"] == 120.0


def test_the_horizon_follows_the_cold_start() -> None:
    assert Controller(lead_ratio=0.5).knobs(90.0).horizon_s == 0.5 * (90.0 + PERIOD_S)


def _ones(mask: NDArray[np.bool_]) -> list[list[int]]:
    return [np.flatnonzero(axis).tolist() for axis in np.split(mask, np.cumsum(SIZES)[:-1])]


def test_without_any_rate_only_the_neutral_action_is_left() -> None:
    blind = _followed([Signals(at_s=15.0, window_s=15.0)])
    assert _ones(_mask(blind, 3)) == [[index] for index in NEUTRAL]


def test_at_the_quota_nothing_asks_for_more(readings: Readings) -> None:
    allowed = _ones(_mask(_followed(readings(40)), 2, replicas_max=2.0))
    for axis, indices in zip(AXES, allowed, strict=True):
        assert max(indices) == axis.neutral


def test_memory_is_offered_only_where_the_peak_exceeds_the_need() -> None:
    def traffic(*rates: float) -> list[Signals]:
        return [
            Signals(at_s=15.0 * k, window_s=15.0, rate_rps=rate) for k, rate in enumerate(rates, 1)
        ]

    steady = _ones(_mask(_followed(traffic(*[200.0] * 60)), 3))
    after = _ones(_mask(_followed(traffic(*[800.0] * 20, *[0.0] * 100)), 3))
    assert steady[3] == [0]
    assert after[3] == [0, 1, 2, 3, 4]
    assert steady[:3] == after[:3] == [list(range(size)) for size in SIZES[:3]]


def _ramp(step_rps: float) -> list[Signals]:
    return [
        Signals(at_s=5.0 * k, window_s=5.0, rate_rps=max(400.0 + 5.0 * step_rps * k, 0.0))
        for k in range(1, 40)
    ]


def test_a_rising_rate_is_met_earlier_the_further_one_looks_ahead() -> None:
    knobs = Knobs(z=0.0, hold_s=0.0, horizon_s=45.0, beta=0.2)
    rising, row = _followed(_ramp(6.0), knobs), knobs_row(knobs)
    asks = [
        decode(np.array((*NEUTRAL[:5], index, NEUTRAL[6])), *rising, 100.0, row, 1)
        for index in range(SIZES[5])
    ]
    level, trend = rising[2][Known.LEVEL], rising[2][Known.TREND]
    times = [45.0 * ratio for ratio in AXES[5].values]
    assert asks == [math.ceil((level + trend * ahead_s) / 100.0) for ahead_s in times]
    assert asks[0] < asks[2] < asks[4]


@pytest.mark.parametrize("step_rps", [0.0, -5.0])
def test_where_the_rate_does_not_rise_no_horizon_can_be_chosen_as_none_would_matter(
    step_rps: float,
) -> None:
    knobs = Knobs(z=1.0, hold_s=60.0, horizon_s=45.0, beta=0.2)
    steady, row = _followed(_ramp(step_rps), knobs), knobs_row(knobs)
    assert _ones(_mask(steady, 3))[5] == [NEUTRAL[5]]
    actions = [np.array((*NEUTRAL[:5], index, NEUTRAL[6])) for index in range(SIZES[5])]
    assert len({decode(action, *steady, 100.0, row, 3) for action in actions}) == 1
    rising = _followed(_ramp(10.0), knobs)
    assert _ones(_mask(rising, 3))[5] == list(range(SIZES[5]))


def test_patience_is_offered_only_where_another_gear_may_be_had(readings: Readings) -> None:
    carried = _followed(readings(40))
    assert _ones(_mask(carried, 3))[6] == [NEUTRAL[6]]
    assert _ones(_mask(carried, 3, movable=True))[6] == list(range(SIZES[6]))


@settings(deadline=None, max_examples=40)
@given(rates=st.lists(st.one_of(st.none(), st.floats(0.0, 3000.0)), min_size=1, max_size=60))
def test_the_neutral_action_can_always_be_chosen(rates: list[float | None]) -> None:
    seen = [Signals(at_s=5.0 * k, window_s=5.0, rate_rps=rate) for k, rate in enumerate(rates, 1)]
    mask = _mask(_followed(seen), 4, replicas_max=8.0)
    offsets = np.concatenate([[0], np.cumsum(SIZES)[:-1]])
    assert mask[offsets + np.array(NEUTRAL)].all()


def test_the_margin_follows_the_price_and_is_never_negative() -> None:
    controller = Controller(z=1.0, z_per_log_price=0.5)
    assert controller.margin(REFERENCE_PRICE) == 1.0
    prices = (1.0, 5.0, 25.0, 100.0, 1000.0)
    margins = [controller.margin(price) for price in prices]
    assert margins == sorted(margins)
    assert margins[0] == 0.0
    assert Controller(z=1.0).margin(1000.0) == 1.0


def test_an_anchored_service_runs_for_its_mean_and_not_for_the_last_reading() -> None:
    noisy = [
        Signals(at_s=5.0 * k, window_s=5.0, rate_rps=400.0 if k % 2 else 200.0)
        for k in range(1, HISTORY_ROWS)
    ]
    last = Signals(at_s=5.0 * HISTORY_ROWS, window_s=5.0, rate_rps=0.0)
    quiet = _followed([*noisy, last], Knobs(alpha=1.0))
    row = knobs_row(Knobs(z=0.0, hold_s=0.0))
    asks = [
        decode(np.array((*NEUTRAL[:4], anchor, *NEUTRAL[5:])), *quiet, 100.0, row, 1)
        for anchor in range(SIZES[4])
    ]
    assert asks == [0, 3, 3, 3]


YIELDING = Knobs(z=1.5, hold_s=120.0, horizon_s=45.0, alpha=0.9, beta=0.0, anchor_miss=0.9)
"""A controller that jumps at every reading, and yields to a mean that knows better."""


def test_where_the_rate_is_noise_the_mean_that_misses_least_stands_in(readings: Readings) -> None:
    """The neutral action is then the anchor one would have chosen, and costs less than jumping."""
    noisy = _followed(readings(150), YIELDING)
    misses = [relative_miss(noisy[2], anchor) for anchor in range(ANCHORS)]
    best = int(np.argmin(misses))
    assert misses[best] < math.log(0.9)
    row, jumping = knobs_row(YIELDING), knobs_row(replace(YIELDING, anchor_miss=0.0))
    anchored = np.array((*NEUTRAL[:4], best + 1, *NEUTRAL[5:]))
    neutral = np.array(NEUTRAL)
    for running in range(8):
        asked = decode(neutral, *noisy, 100.0, row, running)
        assert asked == decode(anchored, *noisy, 100.0, jumping, running)
        assert asked == int(_advised(noisy, YIELDING, running)[2])
    margin = ADVICE_FIELDS.index("margin_rps")
    bold = _advised(noisy, replace(YIELDING, anchor_miss=0.0), 1)[margin]
    assert 0.0 < _advised(noisy, YIELDING, 1)[margin] < bold


def test_where_the_rate_rises_the_forecast_stays() -> None:
    rising = _followed(_ramp(4.0), YIELDING)
    assert all(relative_miss(rising[2], anchor) > 0.0 for anchor in range(ANCHORS))
    with_it, without = knobs_row(YIELDING), knobs_row(replace(YIELDING, anchor_miss=0.0))
    asks = [decode(np.array(NEUTRAL), *rising, 100.0, row, 1) for row in (with_it, without)]
    assert asks[0] == asks[1]


def test_misses_are_those_of_plain_arithmetic(readings: Readings) -> None:
    """Forecast and means of a horizon ago against the rate, decaying over a quarter of an hour."""
    met = readings(120, missing=0.2)
    known = _followed(met, YIELDING)[2]
    carried = [_followed(met[: k + 1], YIELDING) for k in range(len(met))]
    behind = math.ceil(YIELDING.horizon_s / PERIOD_S)
    squares, error = np.zeros(1 + ANCHORS), np.full(1 + ANCHORS, np.nan)
    for k, reading in enumerate(met):
        then = carried[max(k - behind, 0)][2]
        if k == 0 or reading.rate_rps is None or math.isnan(then[Known.LEVEL]):
            continue
        error[0] = reading.rate_rps - then[Known.LEVEL]
        for anchor in range(ANCHORS):
            at = Known.MEANS + 3 * anchor
            error[1 + anchor] = reading.rate_rps - then[at + 1] / then[at]
        squares = squares * math.exp(-PERIOD_S / SKILL_WINDOW_S) + error**2
    # a missing first rate leaves the oldest forecast made at the first that came
    assert known[Known.MISSES :] == pytest.approx(squares, rel=0.02)
    assert len(MEAN_WINDOWS_S) > ANCHORS


@pytest.mark.parametrize("readings_so_far", [1, 30, 59])
def test_a_mean_is_not_judged_by_a_handful_of_readings(
    readings: Readings, readings_so_far: int
) -> None:
    few = _followed(readings(readings_so_far), YIELDING)
    rows = [knobs_row(replace(YIELDING, anchor_miss=miss)) for miss in (0.0, 1.0)]
    asks = [decode(np.array(NEUTRAL), *few, 100.0, row, 0) for row in rows]
    assert asks[0] == asks[1]
