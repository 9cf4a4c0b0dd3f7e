"""What is told of readings that come and go: what lasts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpupilot_operator.facts import MetricsState
from gpupilot_operator.settling import TICKS, Steady, steadied

FOUND, MISSING, STALE = MetricsState.FOUND, MetricsState.MISSING, MetricsState.STALE


def told(*found: MetricsState) -> list[MetricsState]:
    steady: Steady | None = None
    said = []
    for each in found:
        steady = steadied(steady, each)
        said.append(steady.told)
    return said


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([MISSING, FOUND], [MISSING, FOUND]),
        ([FOUND, MISSING, FOUND, STALE, FOUND], [FOUND] * 5),
        ([FOUND, MISSING, MISSING, MISSING], [FOUND, FOUND, FOUND, MISSING]),
        ([FOUND, STALE, MISSING, STALE], [FOUND, FOUND, FOUND, STALE]),
        ([MISSING, STALE, MISSING], [MISSING] * 3),
    ],
    ids=["at-the-first-look", "for-once", "in-a-row", "of-two-kinds", "from-one-to-the-other"],
)
def test_what_is_told_of_readings(found: list[MetricsState], said: list[MetricsState]) -> None:
    assert told(*found) == said


@given(found=st.lists(st.sampled_from(MetricsState), min_size=TICKS))
def test_what_is_found_for_long_enough_is_told(found: list[MetricsState]) -> None:
    assert told(*found, *[MISSING] * TICKS)[-1] is MISSING
    assert told(*found, FOUND)[-1] is FOUND
