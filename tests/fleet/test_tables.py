"""What assembling, stacking and reading tables must keep."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.fleet.rates import RateLibrary, bin_position, integral_at
from gpupilot_envs.fleet.table import LOAD_STEP, FleetTables, Level, Steady
from gpupilot_envs.workload.trace import RateTrace


def test_load_and_burstiness_never_help(tables: FleetTables) -> None:
    in_time = tables.steady[0, :, :, Steady.IN_TIME]
    backlog = tables.steady[0, :, :, Steady.BACKLOG_S]
    assert np.all(np.diff(in_time, axis=1) <= 1e-9)
    assert np.all(np.diff(in_time, axis=0) <= 1e-9)
    assert np.all(np.diff(backlog, axis=1) >= -1e-9)


def test_the_closed_form_is_found_between_the_measured_nodes(tables: FleetTables) -> None:
    for load in (0.4, 0.75, 0.875):
        got = tables.steady[0, 0, round(load / LOAD_STEP), Steady.IN_TIME]
        assert got == pytest.approx(1.0 - np.exp(-10.0 * (1.0 - load)), abs=0.003)


def test_a_growing_backlog_answers_ever_fewer_in_time(tables: FleetTables) -> None:
    integral = tables.levels[0, :, :, Level.IN_TIME_INTEGRAL]
    assert np.all(np.diff(integral, axis=1) >= 0.0)
    assert np.all(integral[:, -1] < tables.plants["level_max_s"][0])
    assert np.all(np.diff(tables.levels[0, :, :, Level.LOG_P95], axis=1) >= 0.0)


def test_less_slack_means_fewer_in_time(tables: FleetTables) -> None:
    slack = tables.slack[0]
    share = np.diff(slack, axis=-1)
    assert np.all(share >= 0.0)
    assert np.all(np.diff(share, axis=-1) <= 1e-9)


def test_no_table_and_no_trace_are_refused() -> None:
    with pytest.raises(InputInvalid, match="tables"):
        FleetTables.of([])
    with pytest.raises(InputInvalid, match="traces"):
        RateLibrary.of([])


@settings(max_examples=60, deadline=None)
@given(
    rps=st.lists(st.floats(0.0, 100.0), min_size=1, max_size=20),
    bin_s=st.sampled_from([0.5, 1.0, 7.0, 60.0]),
    start=st.floats(0.0, 3.0),
    length=st.floats(0.0, 1.5),
)
def test_the_integral_of_a_trace_is_exact_and_repeats(
    rps: list[float], bin_s: float, start: float, length: float
) -> None:
    """Against a fine Riemann sum over the repeated trace."""
    traces = [
        RateTrace(name=n, family=n, bin_s=bin_s, rps=np.array(r))
        for n, r in (("first", [5.0, 6.0]), ("second", rps))
    ]
    library = RateLibrary.of(traces)
    bins = len(rps)
    turn_s = bins * bin_s
    position = bin_position(start * turn_s, bin_s, bins)
    assert 0.0 <= position <= bins
    first = int(library.first[1])
    got = integral_at(library.requests, first, bins, position + length * bins)
    got -= integral_at(library.requests, first, bins, position)
    middles = start * turn_s + (np.arange(20_000) + 0.5) / 20_000 * length * turn_s
    rates = np.array(rps)[np.minimum((middles % turn_s / bin_s).astype(int), bins - 1)]
    assert got == pytest.approx(rates.mean() * length * turn_s, rel=2e-3, abs=2e-3 * turn_s)
    np.testing.assert_allclose(library.duration_s, [2 * bin_s, turn_s])
