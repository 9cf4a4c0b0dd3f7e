"""Prometheus is away, slow, wrong: on what nobody knows nothing is taken away, and it is told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from gpupilot_testbed.faults import Fault
from gpupilot_testbed.running import until

pytestmark = pytest.mark.timeout(3000)

EMPTY = {"status": "success", "data": {"resultType": "vector", "result": []}}
ERROR = {"status": "error", "errorType": "internal", "error": "out of memory"}
WRONG = {
    "away": Fault(match="", cut=True),
    "slow": Fault(match="", delay_s=30.0),
    "failing": Fault(match="", status=500, body=ERROR),
    "empty": Fault(match="", status=200, body=EMPTY),
    "something else": Fault(match="", status=200, body={"hello": "world"}),
}
FOR_S = 3.0
PODS = 3


def fixed(count: int) -> dict[str, Any]:
    """Return what asks for a number of pods at once: no controller's own patience is in the way."""
    return {"autoscaling": {"policy": "Static", "fallback": {"replicas": count}}}


def blind(served: Any) -> bool:
    return bool(served.condition("MetricsAvailable")[0] == "False")


@pytest.fixture
def three(world: Any, namespace: str) -> Any:
    """Return a service with three pods, of which two are to be taken away at the next chance."""
    spec = fixed(PODS)
    spec["autoscaling"]["fallback"]["afterSeconds"] = 600
    served = world.service(namespace, **spec)
    served.settles(lambda count: count == PODS)
    until(lambda: not blind(served))
    return served


@pytest.fixture(scope="module", autouse=True)
def silenced(world: Any, emptied: Any) -> Iterator[tuple[Any, float]]:
    """Return a service whose series went as the module began, and when: it is waited for last."""
    with emptied() as namespace:
        served = world.service(namespace).begun()
        world.traffic.change(namespace, served.name, silent=True)
        yield served, time.monotonic()


def test_nothing_is_taken_away_while_prometheus_cannot_be_asked(world: Any, three: Any) -> None:
    began_s = time.monotonic()
    for number, (name, fault) in enumerate(WRONG.items()):
        with world.prometheus.failing(fault):
            if name == "away":
                world.prometheus.cut()
            until(lambda: blind(three))
            if number == 0:
                three.change(fixed(1))
            time.sleep(FOR_S)
            assert three.seen(began_s) == [PODS], name
    three.settles(lambda count: count == 1)
    assert three.condition("MetricsAvailable") == ("True", "MetricsFound")


def test_what_is_not_known_takes_nothing_away(world: Any, namespace: str) -> None:
    """Series that are NaN, or told by a clock that is behind or ahead."""
    faults: dict[str, dict[str, Any]] = {
        "broken": {"broken": True},
        "late": {"late_s": 120.0},
        "early": {"late_s": -120.0},
    }
    made = {name: world.service(namespace, name, **fixed(PODS)) for name in faults}
    for served in made.values():
        served.settles(lambda count: count == PODS)
    began_s = time.monotonic()
    for name, wrong in faults.items():
        world.traffic.change(namespace, name, **wrong)
    until(lambda: all(blind(served) for served in made.values()))
    for served in made.values():
        served.change(fixed(1))
    time.sleep(FOR_S)
    for name, served in made.items():
        assert served.seen(began_s) == [PODS], name
    world.traffic.change(namespace, "broken", broken=False)
    made["broken"].settles(lambda count: count == 1)


def test_series_that_are_there_twice_stay_within_bounds(world: Any, shop: Any) -> None:
    world.traffic.change(shop.namespace, shop.name, twice=True)
    shop.asked(5.0)
    shop.settles(lambda count: count == 6)
    assert max(shop.seen()) <= 6
    assert shop.condition("MetricsAvailable")[0] == "True"


def test_no_traffic_is_not_a_missing_series(world: Any, three: Any) -> None:
    world.traffic.change(three.namespace, three.name, rate_rps=0.0)
    three.change(fixed(1))
    three.settles(lambda count: count == 1)
    assert three.condition("MetricsAvailable") == ("True", "MetricsFound")


def test_series_that_stay_away_end_at_the_declared_replicas(world: Any, silenced: Any) -> None:
    served, since_s = silenced
    served.settles(lambda count: count == 5)
    assert served.condition("Fallback") == ("True", "SignalsMissing")
    assert served.seen(since_s) == [1, 5]
    world.traffic.change(served.namespace, served.name, silent=False)
    until(lambda: not blind(served))
