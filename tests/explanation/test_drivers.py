"""The credits add up, go to what mattered, and the choices are the network's probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpupilot_agent.explanation.drivers import choices, drivers, usual
from gpupilot_agent.policies import Evidence

Floats = NDArray[np.float32]
NAMES = ("load", "trend", "age")
AXES: list[dict[str, Any]] = [
    {"name": "margin", "values": [-1.0, 0.0, 1.0]},
    {"name": "hold", "values": [1.0, 2.0]},
]
NUMBERS = st.lists(st.floats(-3.0, 3.0, width=32), min_size=3, max_size=3)


def twisted(observations: Floats) -> Floats:
    """A network with an interaction: load times trend speaks for margin +1; age is not read."""
    load, trend = observations[:, 0], observations[:, 1]
    columns = [-load, np.zeros_like(load), load * trend + load, np.tanh(trend), np.zeros_like(load)]
    return np.stack(columns, axis=1).astype(np.float32)


def evidence(seen: list[float], action: tuple[int, int] = (2, 0)) -> Evidence:
    logits = twisted(np.array([seen], dtype=np.float32))[0]
    return Evidence(observation=tuple(seen), logits=tuple(logits.tolist()), action=action)


def log_probability(seen: list[float], action: tuple[int, int]) -> float:
    logits = twisted(np.array([seen], dtype=np.float32))[0].astype(np.float64)
    margin, hold = logits[:3], logits[3:]
    return float(
        margin[action[0]]
        - np.log(np.exp(margin).sum())
        + hold[action[1]]
        - np.log(np.exp(hold).sum())
    )


@given(seen=NUMBERS, ordinary=NUMBERS, margin=st.integers(0, 2), hold=st.integers(0, 1))
@settings(max_examples=25, deadline=None)
def test_the_credits_add_up_to_the_whole_difference(
    seen: list[float], ordinary: list[float], margin: int, hold: int
) -> None:
    action = (margin, hold)
    found = drivers(
        evidence(seen, action),
        twisted,
        np.array(ordinary, dtype=np.float32),
        field_names=NAMES,
        axes=AXES,
    )
    total = log_probability(seen, action) - log_probability(ordinary, action)
    assert sum(driver.credit for driver in found) == pytest.approx(total, abs=1e-3)


def test_a_number_nobody_reads_gets_nothing_and_the_strongest_comes_first() -> None:
    found = drivers(
        evidence([2.0, 0.5, 9.0]),
        twisted,
        np.zeros(3, dtype=np.float32),
        field_names=NAMES,
        axes=AXES,
    )
    assert found[0].name == "load"
    credit = {driver.name: driver.credit for driver in found}
    assert credit["age"] == 0.0
    assert credit["load"] > 0.9
    strengths = [abs(driver.credit) for driver in found]
    assert strengths == sorted(strengths, reverse=True)


def test_two_numbers_that_tell_the_same_story_share_the_credit() -> None:
    """Leaving out one of two alternatives changes nothing; that is why it is not what we do."""

    def either(observations: Floats) -> Floats:
        told = np.maximum(observations[:, 0], observations[:, 1])
        return np.stack([np.zeros_like(told), told, told * 0, told * 0, told * 0], axis=1)

    found = drivers(
        Evidence(observation=(2.0, 2.0, 0.0), logits=(0.0,) * 5, action=(1, 0)),
        either,
        np.zeros(3, dtype=np.float32),
        field_names=NAMES,
        axes=AXES,
    )
    credit = {driver.name: driver.credit for driver in found}
    assert credit["load"] == pytest.approx(credit["trend"], rel=0.2)
    assert credit["load"] > 0.1


def test_the_same_question_gets_the_same_answer() -> None:
    def ask() -> object:
        return drivers(
            evidence([1.0, -1.0, 0.0]),
            twisted,
            np.zeros(3, dtype=np.float32),
            field_names=NAMES,
            axes=AXES,
        )

    assert ask() == ask()


def test_the_choices_are_probabilities_axis_by_axis() -> None:
    found = choices(evidence([1.0, 1.0, 0.0]), AXES)
    assert [choice.axis for choice in found] == ["margin"] * 3 + ["hold"] * 2
    for axis in ("margin", "hold"):
        shares = [choice.probability for choice in found if choice.axis == axis]
        assert sum(shares) == pytest.approx(1.0)
        assert shares == sorted(shares, reverse=True)
    assert [(c.axis, c.value) for c in found if c.taken] == [("margin", 1.0), ("hold", 1.0)]


def test_the_usual_reading_is_the_median() -> None:
    assert usual([(0.0, 1.0), (2.0, 1.0), (50.0, 1.0)]).tolist() == [2.0, 1.0]
