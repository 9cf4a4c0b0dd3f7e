"""Python looks for garbage when it is told to, and by itself again afterwards."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from gpupilot_operator.resting import OFTEN_S, SELDOM_S, Resting


class Node:
    """An object that refers to itself: only a look for garbage lets go of it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def resting() -> Iterator[Resting]:
    before = gc.get_threshold()
    made = Resting()
    yield made
    made.end()
    assert gc.get_threshold() == before


def dropped() -> weakref.ref[Node]:
    return weakref.ref(Node())


def test_nothing_is_looked_for_in_between(resting: Resting) -> None:
    resting.rest(0.0)
    young = dropped()
    for _ in range(5_000):
        dropped()
    resting.rest(0.9 * OFTEN_S)
    assert young() is not None
    resting.rest(OFTEN_S)
    assert young() is None


def test_what_grew_old_is_found_in_the_end(resting: Resting) -> None:
    resting.rest(0.0)
    old = Node()
    known = weakref.ref(old)
    gc.collect()
    del old
    resting.rest(OFTEN_S)
    assert known() is not None
    resting.rest(SELDOM_S)
    assert known() is None
