"""An operator that starts anew over services that run: what it tells of them stays told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from looping import START_S, run

from gpupilot_operator.control import tick
from gpupilot_operator.facts import MetricsState, PolicyState
from gpupilot_operator.memory import State
from gpupilot_operator.ports import Seen
from gpupilot_operator.settling import LASTS_S, TICKS
from gpupilot_operator.sizing import Size, Sizes, Unsized

Maker = Callable[..., Any]
OVERRIDE = {"annotations": {"gpupilot.dev/override-gate": "true"}}
SETTLED_S = 900.0
RESTART_S = START_S + SETTLED_S + 20.0


class Slow(Sizes):
    """Measures for as many looks at a service as are said, whatever the machine."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self._looks, self._seen = looks, dict[str, int]()

    def of(self, seen: Seen) -> Size | Unsized:
        found = super().of(seen)
        key = seen.service.key
        self._seen[key] = self._seen.get(key, 0) + 1
        if self._seen[key] > self._looks:
            return found
        return Unsized(state=PolicyState.MEASURING, said="what a replica carries is being measured")


@pytest.fixture
def anew(state_of: Callable[[], State]) -> Callable[[int], State]:
    """Return a maker of states that must measure again, for so many looks."""

    def make(looks: int) -> State:
        state = state_of()
        known, state.sizes = state.sizes, Slow(looks)
        state.sizes._asked = known._asked
        return state

    return make


@pytest.fixture
def town(shop_of: Maker, town_of: Maker, felt: Maker, state: State) -> Any:
    """Return services of every policy that have long had the load they have."""
    shops = [
        shop_of("queueing"),
        shop_of("unproven", policy="Learned"),
        shop_of("learned", policy="Learned"),
        shop_of("hpa", policy="HPA", profile=None),
        shop_of("keda", policy="KEDA"),
        shop_of("kpa", policy="KPA"),
        shop_of("static", policy="Static", fallback={"replicas": 2}),
        shop_of("shown", policy="Learned", mode="Observe"),
        shop_of("bounded", predictor={"maxReplicas": 2}),
    ]
    for shop in shops:
        loaded = shop.service.name == "bounded"
        shop.reading = felt(5000.0 if loaded else 300.0, gpu_busy_ratio=0.6)
    shops[2].shown.update(OVERRIDE)
    made = town_of(*shops)
    run(made, state, SETTLED_S)
    made.tellings.clear()
    made.changes.clear()
    run(made, state, 20.0, START_S + SETTLED_S)
    assert made.tellings == []
    return made


def patched(town: Any) -> dict[str, int]:
    """Return how often each status was written."""
    found: dict[str, int] = {}
    for telling in town.tellings:
        if telling.patch is not None:
            found[telling.service.key] = found.get(telling.service.key, 0) + 1
    return found


@pytest.mark.parametrize("looks", [0, 1, 3])
def test_a_restart_over_settled_services_writes_nothing_twice_and_sends_no_event(
    town: Any, anew: Callable[[int], State], looks: int
) -> None:
    state = anew(looks)
    for n in range(60):
        tick(town.ports, state, RESTART_S + 5.0 * n)
    assert patched(town) == {}
    assert [event for each in town.tellings for event in each.events] == []
    assert town.changes == []


def test_what_is_measured_for_long_is_told(town: Any, anew: Callable[[int], State]) -> None:
    state = anew(1000)
    told = {}
    for n in range(int(LASTS_S / 5.0) + 3):
        tick(town.ports, state, RESTART_S + 5.0 * n)
        status = town.shops["prod/queueing"].status
        told[5.0 * n] = next(c.reason for c in status.conditions if c.type == "PolicyReady")
    begun_s = min(at_s for at_s, reason in told.items() if reason == "ProfileBeingMeasured")
    assert begun_s == LASTS_S
    assert all(count == 1 for count in patched(town).values())


def test_a_prometheus_that_is_slow_at_the_start_is_no_news(
    town: Any, anew: Callable[[int], State]
) -> None:
    state = anew(0)
    town.down = "Prometheus at http://there did not answer within 3 s"
    for n in range(TICKS - 1):
        report = tick(town.ports, state, RESTART_S + 5.0 * n)
        assert {each.facts.metrics for each in report.services} == {MetricsState.FOUND}
    town.down = None
    for n in range(TICKS - 1, 60):
        tick(town.ports, state, RESTART_S + 5.0 * n)
    assert patched(town) == {}
