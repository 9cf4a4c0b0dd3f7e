"""From `kubectl apply` to a Triton that answers, scaled on what users feel, and no request lost."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import onnxruntime
import pytest

from gpupilot_agent.mobilenet import weights
from gpupilot_agent.stack.tools import model_store
from gpupilot_testbed.running import until

pytestmark = pytest.mark.timeout(3000)

QUIET_RPS, BUSY_RPS = 20.0, 130.0


def test_a_triton_that_was_applied_answers(system: Any, shop: str) -> None:
    picture = np.zeros((1, 3, 8, 8), dtype=np.float32)
    assert system.answered(shop, picture).shape == (1, 1000)
    shown = system.cluster.kubectl("get", "gpisvc", shop).splitlines()
    assert shown[0].split() == [
        *("NAME", "READY", "MODE", "POLICY", "REPLICAS", "DESIRED"),
        *("SHARE", "SLO", "P95", "REASON", "AGE"),
    ]
    assert shown[1].split()[:5] == [shop, "True", "Act", "Queueing", "1"]


def test_it_follows_the_load_and_loses_no_request(system: Any, shop: str, requests: Any) -> None:
    """In shadow it decides and changes nothing; acting, pods come and go and all is answered."""
    system.change(shop, {"autoscaling": {"mode": "Observe"}})
    until(lambda: system.condition(shop, "AbleToScale") == ("False", "Observing"))
    began_s = time.monotonic()
    with system.load(shop, QUIET_RPS) as quiet:
        with system.load(shop, BUSY_RPS) as busy:
            until(lambda: system.status(shop)["desiredReplicas"] > 1)
            assert system.witness.since(("default", shop), began_s) == [1]
            system.change(shop, {"autoscaling": {"mode": "Act"}})
            until(lambda: system.status(shop)["readyReplicas"] >= 3)
            assert system.condition(shop, "MetricsAvailable") == ("True", "MetricsFound")
            assert system.status(shop)["latency"]["source"] == "gpupilot-gateway"
        until(lambda: system.replicas(shop) <= 2)
        until(lambda: len(system.objects("v1", "pods", shop)) <= 2)
    seen = system.witness.since(("default", shop), began_s)
    assert seen[0] == 1
    assert set(seen) <= {1, 2, 3, 4}
    answered = [*requests(quiet), *requests(busy)]
    assert len(answered) > 1000
    assert [each for each in answered if each["ok"] != "true"] == []
    granted = [each["grantedReplicas"] for each in system.autoscaling(shop)["history"]]
    assert granted[0] <= 2 < max(granted)
    assert set(granted) <= set(seen)


def test_a_count_set_by_hand_is_kept_for_a_while(system: Any, shop: str) -> None:
    system.change(shop, {"autoscaling": {"manualHoldSeconds": 8}})
    system.cluster.kubectl("scale", "gpisvc", shop, "--replicas=2")
    until(lambda: system.replicas(shop) == 2)
    until(lambda: system.autoscaling(shop).get("manual", {}).get("replicas") == 2)
    until(lambda: system.replicas(shop) == 1)
    until(lambda: "manual" not in system.autoscaling(shop))
    assert "replicas" not in system.resource(shop)["spec"]["predictor"]


def test_pods_that_crash_are_told_and_take_nobody_along(system: Any, shop: str) -> None:
    system.beside(shop, "broken", predictor={"model": {"name": "nobody-has-it"}})
    until(lambda: restarts(system, "broken") >= 1)
    assert system.condition("broken", "Ready") == ("False", "PodsNotReady")
    assert system.condition("broken", "MetricsAvailable")[0] == "False"
    assert system.witness.since(("default", "broken"), 0.0) == [1]
    system.cluster.kubectl("delete", "gpisvc", "broken")
    until(lambda: not system.objects("v1", "pods", "broken"))
    assert system.condition(shop, "Ready")[0] == "True"


def test_the_real_model_answers_as_its_file_does(system: Any, shop: str) -> None:
    system.beside(shop, "pictures", predictor={"model": {"storageUri": "pvc://models/cpu"}})
    until(lambda: system.condition("pictures", "Ready")[0] == "True")
    image = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    logits = system.answered("pictures", image)
    session = onnxruntime.InferenceSession(weights.ensure("seeded", model_store())[0])
    (expected,) = session.run(None, {session.get_inputs()[0].name: image})
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)
    system.cluster.kubectl("delete", "gpisvc", "pictures")


def restarts(system: Any, name: str) -> int:
    """Return how often Triton was started again in a service's pods."""
    statuses = [
        each["status"].get("containerStatuses", ()) for each in system.objects("v1", "pods", name)
    ]
    return sum(container["restartCount"] for each in statuses for container in each)
