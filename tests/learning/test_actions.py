"""The neutral action is the classical controller, and every other moves it as its name says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpupilot_envs.actions import (
    AXES,
    KNOB_FIELDS,
    NEUTRAL,
    SIZES,
    Controller,
    action_table,
    advise,
    axes_table,
    decode,
    knobs_row,
    remember,
)
from gpupilot_envs.queueing import Knobs, needs, settle
from gpupilot_envs.signals import History, Signals

Readings = Callable[..., list[Signals]]
KNOBS = Knobs(z=1.5, hold_s=120.0, horizon_s=45.0)


def _matrix(readings: list[Signals]) -> np.ndarray:
    history = History()
    for reading in readings:
        history = history.push(reading)
    return history.matrix()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("conformal", [False, True])
def test_neutral_is_exactly_the_classical_controller(
    readings: Readings, seed: int, conformal: bool
) -> None:
    knobs = Knobs(z=1.5, hold_s=150.0, horizon_s=45.0, beta=0.2, conformal=conformal)
    rows = _matrix(readings(40, seed=seed, missing=0.1))
    need, held, _, _ = needs(
        rows, 0, len(rows), 100.0, 1.5, 150.0, 45.0, knobs.alpha, 0.2, knobs.drain_s, conformal
    )
    for running in (1, 3, 9):
        classical = settle(running, need, held)
        asked = decode(np.array(NEUTRAL), rows, 0, len(rows), 100.0, knobs_row(knobs), running)
        advice = np.empty(3)
        advise(rows, 0, len(rows), 100.0, knobs_row(knobs), running, advice)
        assert asked == classical == advice[2]


@settings(deadline=None, max_examples=40)
@given(
    action=st.tuples(*(st.integers(0, size - 1) for size in SIZES)),
    axis=st.integers(0, len(AXES) - 1),
    seed=st.integers(0, 20),
)
def test_more_margin_hold_or_lift_never_asks_for_less(
    action: tuple[int, ...], axis: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    readings = [
        Signals(at_s=15.0 * k, window_s=15.0, rate_rps=float(rng.gamma(9.0, 30.0)))
        for k in range(1, 30)
    ]
    rows, row = _matrix(readings), knobs_row(KNOBS)
    asks = []
    for index in range(SIZES[axis]):
        moved = np.array(action)
        moved[axis] = index
        asks.append(decode(moved, rows, 0, len(rows), 100.0, row, 5))
    assert asks == sorted(asks)


def test_without_any_rate_the_action_keeps_what_runs() -> None:
    rows = _matrix([Signals(at_s=15.0, window_s=15.0)])
    for action in ((0, 0, 0), NEUTRAL, tuple(size - 1 for size in SIZES)):
        assert decode(np.array(action), rows, 0, 1, 100.0, knobs_row(KNOBS), 7) == 7


def test_axes_ascend_and_their_neutral_changes_nothing() -> None:
    neutral_values = {"margin": 0.0, "hold": 1.0, "lift": 0.0}
    for axis in AXES:
        assert list(axis.values) == sorted(axis.values)
        assert axis.values[axis.neutral] == neutral_values[axis.name]
    before = np.ones(len(AXES))
    remember(np.array(NEUTRAL), before)
    assert before.tolist() == [0.0] * len(AXES)


def test_tables_name_every_axis_and_knob() -> None:
    assert [axis["name"] for axis in action_table()] == [axis.name for axis in AXES]
    assert all(axis.name in axes_table() for axis in AXES)
    row = knobs_row(KNOBS)
    assert dict(zip(KNOB_FIELDS, row.tolist(), strict=True))["hold_s"] == 120.0


def test_the_horizon_follows_the_cold_start() -> None:
    assert Controller(lead_ratio=0.5).knobs(90.0).horizon_s == 52.5
