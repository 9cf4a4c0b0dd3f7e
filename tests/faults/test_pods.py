"""Pods find no GPU, a node dies: what runs is told truly, and nobody is punished for it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from gpupilot_testbed.running import until

pytestmark = pytest.mark.timeout(3000)


def test_pods_without_a_gpu_are_waited_for_and_told(world: Any, namespace: str) -> None:
    """Sixteen GPUs are there: a service that wants twenty has sixteen and says so."""
    served = world.service(namespace, predictor={"maxReplicas": 20})
    served.asked(19.0)
    until(lambda: served.status().get("readyReplicas") == 16)
    began_s = time.monotonic()
    pending = [
        each for each in served.objects("v1", "pods") if each["status"]["phase"] == "Pending"
    ]
    assert pending
    assert served.status()["replicas"] > 16
    assert served.replicas() <= 20
    time.sleep(3.0)
    assert min(served.seen(began_s)) > 16


def test_a_node_that_dies_takes_pods_and_no_replicas(world: Any, namespace: str) -> None:
    """Half of the GPUs go with it: what finds room comes elsewhere, the rest waits for it."""
    served = world.service(namespace, predictor={"maxReplicas": 12})
    served.asked(11.5)
    count = served.settles(lambda count: count > 10)
    assert alive_on(served, "fake-1") >= 2
    began_s = time.monotonic()
    with world.cluster.without("kubelet-1"):
        until(lambda: alive_on(served, "fake-1") == 0)
        until(lambda: alive_on(served, "fake-0") == 8)
        until(lambda: served.status()["readyReplicas"] == 8)
        until(lambda: served.status()["replicas"] == served.replicas())
    served.settles(lambda now: now >= count)
    until(lambda: alive_on(served, "fake-1") == served.replicas() - 8)
    assert count <= min(served.seen(began_s)) <= max(served.seen(began_s)) <= 12


def alive_on(served: Any, node: str) -> int:
    """Return how many pods of a service a node has that are not told to end."""
    pods = [each for each in served.objects("v1", "pods") if each["spec"].get("nodeName") == node]
    return sum("deletionTimestamp" not in each["metadata"] for each in pods)
