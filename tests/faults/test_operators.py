"""The operator is killed in the middle, cut off from the API server, doubled: one decides."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from gpupilot_testbed import operators
from gpupilot_testbed.api import access
from gpupilot_testbed.faults import Fault
from gpupilot_testbed.running import until

pytestmark = pytest.mark.timeout(3000)

SCALE = "^PATCH .*/deployments/.*/scale"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{operators.NAMESPACE}/leases/gpupilot-operator"
TAKE_OVER_S = 15.0


def leader(world: Any) -> str:
    answer = world.cluster.api.ask("GET", LEASE)
    return "" if answer.refused else str(answer.body["spec"]["holderIdentity"])


def scaled(proxy: Any) -> int:
    """Return how many changes of replicas an operator made."""
    return sum("/scale" in each.path and each.status < 300 for each in proxy.written())


def test_one_that_is_killed_in_the_middle_goes_on_where_it_was(world: Any, shop: Any) -> None:
    before = len(world.kube.asked)
    with world.kube.failing(Fault(match=SCALE, lost=True, delay_s=0.5)):
        shop.asked(4.5)
        until(lambda: shop.replicas() > 1)
        world.operator.kill()
    assert len(world.kube.asked) > before
    world.start()
    shop.settles(lambda count: count >= 5)
    assert max(shop.seen()) <= 6
    assert len(shop.objects("apps/v1", "deployments")) == 1


def test_one_that_begins_takes_nothing_away_before_it_knows(world: Any, shop: Any) -> None:
    shop.asked(3.5)
    count = shop.settles(lambda count: count >= 4)
    world.operator.kill()
    shop.asked(0.4)
    began_s = time.monotonic()
    world.start()
    until(lambda: "WarmingUp" in str(shop.status()) or shop.replicas() < count)
    assert shop.seen(began_s)[0] == count
    shop.settles(lambda now: now == 1)
    assert min(shop.seen(began_s)) >= 1


@pytest.fixture(scope="module")
def second(world: Any, proxied: Any) -> Iterator[Any]:
    """Return the proxy of a second operator that stands by, or leads where the first may not."""
    with ExitStack() as stack:
        proxy = stack.enter_context(proxied(*access(world.cluster.kubeconfig)))
        folder = world.folder / "operator-1"
        folder.mkdir(exist_ok=True)
        kubeconfig = operators.by_url(folder, proxy.url)
        other = operators.start(
            folder, kubeconfig, world.prometheus.url, tick_seconds="1", window_seconds="5"
        )
        stack.callback(other.stop)
        until(lambda: any("leases" in each.path for each in proxy.asked))
        yield proxy


def test_a_leader_that_is_cut_off_is_followed_by_one_and_writes_no_more(
    world: Any, shop: Any, second: Any
) -> None:
    assert leader(world) == "operator-0"
    cut_s = time.monotonic()
    with world.kube.failing(Fault(match="", silent=True)):
        world.kube.cut()
        shop.asked(2.5)
        until(lambda: leader(world) == "operator-1", within_s=TAKE_OVER_S)
        took_s = time.monotonic() - cut_s
        first = scaled(world.kube)
        # it has yet to work out what a pod carries
        shop.settles(lambda count: count >= 3)
    assert took_s < TAKE_OVER_S
    until(lambda: scaled(second) >= 1)
    shop.asked(4.5)
    shop.settles(lambda count: count >= 5)
    assert leader(world) == "operator-1"
    assert scaled(world.kube) == first
    assert max(shop.seen()) <= 6
    # what was asked while it was cut off would wait for its answer for a minute more
    world.kube.cut()


def test_one_that_stands_by_writes_nothing(world: Any, shop: Any, second: Any) -> None:
    until(lambda: leader(world) in ("operator-0", "operator-1"))
    standing = second if leader(world) == "operator-0" else world.kube
    before = scaled(standing)
    shop.asked(3.5)
    shop.settles(lambda count: count >= 4)
    assert scaled(standing) == before
