"""Pods find no GPU, nodes go: what runs is told truly, and nobody is punished for it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from gpupilot_testbed.api import MERGE, done
from gpupilot_testbed.running import until

pytestmark = pytest.mark.timeout(3000)

NODE = "/api/v1/nodes/fake-1"


def test_pods_without_a_gpu_are_waited_for_and_told(world: Any, namespace: str) -> None:
    """Sixteen GPUs are there: a service that wants twenty has sixteen and says so."""
    served = world.service(namespace, predictor={"maxReplicas": 20})
    served.asked(19.0)
    until(lambda: served.status().get("readyReplicas") == 16, within_s=90.0)
    began_s = time.monotonic()
    pending = [
        each for each in served.objects("v1", "pods") if each["status"]["phase"] == "Pending"
    ]
    assert pending
    assert served.status()["replicas"] > 16
    assert served.replicas() <= 20
    time.sleep(3.0)
    assert min(served.seen(began_s)) > 16


def test_a_node_that_goes_takes_pods_and_no_replicas(world: Any, shop: Any) -> None:
    shop.asked(3.5)
    count = shop.settles(lambda count: count >= 4)
    began_s = time.monotonic()
    taint = [{"key": "gone", "effect": "NoExecute"}, {"key": "gone", "effect": "NoSchedule"}]
    done(world.cluster.api.ask("PATCH", NODE, {"spec": {"taints": taint}}, kind=MERGE))
    try:
        until(lambda: on_node(shop, "fake-1") == 0)
        shop.settles(lambda now: now >= count)
    finally:
        done(world.cluster.api.ask("PATCH", NODE, {"spec": {"taints": None}}, kind=MERGE))
    assert min(shop.seen(began_s)) >= count


def on_node(served: Any, node: str) -> int:
    return sum(each["spec"].get("nodeName") == node for each in served.objects("v1", "pods"))
