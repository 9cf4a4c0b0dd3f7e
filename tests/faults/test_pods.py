"""Pods find no GPU: what runs is told truly, and nobody is punished for it."""

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
