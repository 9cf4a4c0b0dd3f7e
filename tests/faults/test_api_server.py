"""The API server refuses, is slow, goes away, forgets: what was decided comes about yet."""

from __future__ import annotations

import time
from typing import Any

import pytest

from gpupilot_testbed.faults import Fault
from gpupilot_testbed.running import until

pytestmark = pytest.mark.timeout(3000)

SCALE = "^PATCH .*/deployments/.*/scale"
WATCH = "^GET .*watch="
EXPIRED = {
    "type": "ERROR",
    "object": {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": "too old resource version",
        "reason": "Expired",
        "code": 410,
    },
}


@pytest.mark.parametrize("status", [409, 429, 500])
def test_what_is_refused_is_asked_again(world: Any, shop: Any, status: int) -> None:
    with world.kube.failing(Fault(match=SCALE, status=status, most=2)):
        shop.asked(2.5)
        shop.settles(lambda count: count >= 3)
    assert max(shop.seen()) <= 6


def test_a_slow_server_slows_and_breaks_nothing(world: Any, shop: Any) -> None:
    with world.kube.failing(Fault(match="^PATCH", delay_s=1.5)):
        shop.asked(2.5)
        shop.settles(lambda count: count >= 3)
    assert max(shop.seen()) <= 6


def test_a_change_whose_answer_was_lost_is_made_once(world: Any, shop: Any) -> None:
    with world.kube.failing(Fault(match=SCALE, lost=True, most=1)):
        shop.asked(2.5)
        count = shop.settles(lambda count: count >= 3)
    assert sorted(set(shop.seen())) == sorted({1, *shop.seen()[1:]})
    assert max(shop.seen()) == count


@pytest.mark.parametrize(
    "fault",
    [Fault(match=WATCH, cut=True, most=12), Fault(match=WATCH, status=200, body=EXPIRED, most=12)],
    ids=["dropped", "expired"],
)
def test_watches_begin_anew(world: Any, shop: Any, fault: Fault) -> None:
    with world.kube.failing(fault):
        world.kube.cut()
        shop.change({"predictor": {"minReplicas": 2}})
        shop.settles(lambda count: count == 2)


def test_the_server_is_restarted(world: Any, shop: Any) -> None:
    with world.cluster.without("kube-apiserver"):
        shop.asked(2.5)
    until(lambda: answers(world))
    shop.settles(lambda count: count >= 3)
    assert set(shop.seen()) <= set(range(1, 7))


def test_a_quiet_service_costs_no_write(world: Any, shop: Any) -> None:
    until(lambda: quiet_for(world, shop.namespace) > 5.0)


def answers(world: Any) -> bool:
    try:
        return not world.cluster.api.ask("GET", "/readyz").refused
    except OSError:
        return False


def quiet_for(world: Any, namespace: str) -> float:
    """Return how long nothing of a namespace was written, after waiting for as long."""
    before = len(world.kube.written())
    began_s = time.monotonic()
    while time.monotonic() - began_s < 6.0:
        time.sleep(0.2)
        if any(namespace in each.path for each in world.kube.written()[before:]):
            break
    return time.monotonic() - began_s
