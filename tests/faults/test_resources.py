"""Resources are edited, deleted, upgraded and made by the dozen while something goes on."""

from __future__ import annotations

import copy
import hashlib
from base64 import b64encode
from typing import Any

import pytest

from gpupilot_operator import crd, naming
from gpupilot_testbed.api import MERGE, done
from gpupilot_testbed.faults import Fault
from gpupilot_testbed.running import until

pytestmark = pytest.mark.timeout(3000)

SCALE = "^PATCH .*/deployments/.*/scale"
MADE = (("apps/v1", "deployments"), ("v1", "services"), ("policy/v1", "poddisruptionbudgets"))
MANY = 50


def test_bounds_that_are_edited_in_the_middle_of_a_change_hold(world: Any, shop: Any) -> None:
    with world.kube.failing(Fault(match=SCALE, delay_s=1.5)):
        shop.asked(5.0)
        until(lambda: shop.status().get("desiredReplicas", 0) > 3)
        fewer = {"predictor": {"maxReplicas": 3}, "autoscaling": {"fallback": {"replicas": 3}}}
        shop.change(fewer)
    shop.settles(lambda count: count == 3)
    assert shop.status()["observedGeneration"] == shop.resource()["metadata"]["generation"]


def test_one_that_is_deleted_in_the_middle_of_a_change_leaves_nothing(
    world: Any, shop: Any
) -> None:
    with world.kube.failing(Fault(match=SCALE, delay_s=1.5)):
        shop.asked(5.0)
        until(lambda: shop.status().get("desiredReplicas", 0) > 3)
        done(world.cluster.api.ask("DELETE", shop.path))
        until(lambda: not left(shop))


def test_fifty_come_at_once_and_go_at_once(world: Any, namespace: str, body: Any) -> None:
    served = world.service(namespace)
    names = [f"shop-{number}" for number in range(1, MANY)]
    for name in names:
        done(world.cluster.api.ask("POST", served.folder, body(name)))
    until(lambda: len(served.objects("apps/v1", "deployments")) == MANY)
    until(lambda: all(told(each) for each in listed(world, served)))
    done(world.cluster.api.ask("DELETE", served.folder))
    until(lambda: not left(served))


def test_a_definition_that_is_upgraded_under_resources_keeps_them(world: Any, shop: Any) -> None:
    """Yesterday's definition knew no gateway: a resource of then is kept, and served as of now."""
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{naming.CRD_NAME}"
    yesterday = copy.deepcopy(crd.crd())
    schema = yesterday["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    spec = schema["properties"]["spec"]
    del spec["properties"]["predictor"]["properties"]["gateway"]
    rules = spec["x-kubernetes-validations"]
    spec["x-kubernetes-validations"] = [each for each in rules if "gateway" not in each["rule"]]
    done(world.cluster.api.ask("PATCH", path, {"spec": yesterday["spec"]}, kind=MERGE))
    uid = shop.resource()["metadata"]["uid"]
    shop.asked(2.5)
    shop.settles(lambda count: count >= 3)
    done(world.cluster.api.ask("PATCH", path, {"spec": crd.crd()["spec"]}, kind=MERGE))
    shop.asked(4.5)
    shop.settles(lambda count: count >= 5)
    assert shop.resource()["metadata"]["uid"] == uid
    assert len(shop.objects("apps/v1", "deployments")) == 1
    assert max(shop.seen()) <= 6


def test_a_bundle_of_another_schema_is_refused_and_the_controller_decides(
    world: Any, namespace: str
) -> None:
    bundle = b"not a bundle of any schema"
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "policy", "labels": {"gpupilot.dev/service": "shop"}},
        "binaryData": {"policy.bundle": b64encode(bundle).decode()},
    }
    done(world.cluster.api.ask("POST", f"/api/v1/namespaces/{namespace}/configmaps", config))
    digest = f"sha256:{hashlib.sha256(bundle).hexdigest()}"
    reference = {"configMap": "policy", "digest": digest}
    served = world.service(namespace, autoscaling={"policy": "Learned", "policyRef": reference})
    served.asked(2.5)
    served.settles(lambda count: count >= 3)
    assert served.condition("PolicyReady") == ("False", "BundleRefused")
    assert served.condition("Fallback") == ("True", "BundleRefused")


def left(served: Any) -> list[Any]:
    """Return everything of a namespace's services that is still there."""
    return [each for version, plural in MADE for each in served.objects(version, plural)]


def listed(world: Any, served: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = world.cluster.api.get(served.folder)["items"]
    return found


def told(resource: dict[str, Any]) -> bool:
    """Say whether a resource's status is of its newest spec and has conditions."""
    status = resource.get("status", {})
    current = status.get("observedGeneration") == resource["metadata"]["generation"]
    return current and bool(status.get("conditions"))
