"""How watches that fail are waited for, and what the probes say meanwhile."""

from __future__ import annotations

import pytest

from gpupilot_operator.health import Health
from gpupilot_operator.watching import AWAY_MOST_S, MOST_S, SETTLED_S, Watching


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health(clock)


@pytest.fixture
def watching(clock: Clock, health: Health) -> Watching:
    return Watching(health, clock)


def test_each_failure_is_waited_for_longer_up_to_a_bound(watching: Watching) -> None:
    pauses = [watching.failed() for _ in range(8)]
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, MOST_S, MOST_S, MOST_S]


def test_watches_that_last_are_forgiven(clock: Clock, watching: Watching) -> None:
    for _ in range(4):
        watching.failed()
    watching.begins()
    clock.now_s += SETTLED_S
    watching.lasts()
    assert watching.failed() == 1.0


def test_the_process_is_unwell_when_they_do_not_come_back(
    clock: Clock, health: Health, watching: Watching
) -> None:
    watching.failed()
    assert health.alive().well
    while clock.now_s <= AWAY_MOST_S:
        clock.now_s += SETTLED_S - 1.0
        watching.begins()
        watching.lasts()
        watching.failed()
    assert not health.alive().well
    assert "watch" in health.alive().text


def test_a_failure_is_forgotten_once_they_are_back(
    clock: Clock, health: Health, watching: Watching
) -> None:
    health.synced()
    watching.failed()
    assert not health.ready().well
    watching.begins()
    clock.now_s += SETTLED_S
    watching.lasts()
    clock.now_s += 2 * AWAY_MOST_S
    assert health.alive().well
    assert health.ready().well
