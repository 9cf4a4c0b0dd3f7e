"""What carries a service, on a real API server: taken, settled, run, and gone with its owner."""

from __future__ import annotations

from typing import Any

import pytest

from gpupilot_operator import naming
from gpupilot_operator.manifests import manifests
from gpupilot_operator.pod import Platform
from gpupilot_operator.service import Service, parse_service
from gpupilot_testbed.api import APPLY, MERGE, done
from gpupilot_testbed.running import Cluster, until

pytestmark = pytest.mark.timeout(3000)

PATHS = {
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments/{}",
    "Service": "/api/v1/namespaces/{}/services/{}",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets/{}",
}
SPEC: dict[str, Any] = {
    "predictor": {
        "model": {"modelFormat": {"name": "onnxruntime"}, "storageUri": "s3://models/shop"},
        "maxReplicas": 8,
    },
    "slo": {"latency": {"target": "60ms"}},
}
PLATFORM = Platform()


def path_of(manifest: dict[str, Any]) -> str:
    metadata = manifest["metadata"]
    return PATHS[manifest["kind"]].format(metadata["namespace"], metadata["name"])


def apply(cluster: Cluster, manifest: dict[str, Any]) -> dict[str, Any]:
    path = f"{path_of(manifest)}?fieldManager={naming.FIELD_MANAGER}&fieldValidation=Strict"
    applied: dict[str, Any] = done(cluster.api.ask("PATCH", path, manifest, kind=APPLY))
    return applied


STORED = (
    {"storageUri": "oci://registry.example/models/shop:3"},
    {"storageUri": "s3://models/shop", "storageSecretName": "bucket"},
)
"""Where a model may lie, beside a claim, which a fake node does not have."""


@pytest.fixture
def service(defined: Cluster, namespace: str, request: pytest.FixtureRequest) -> Service:
    """Return a service in a namespace that takes restricted pods only."""
    enforced = {"pod-security.kubernetes.io/enforce": "restricted"}
    label = {"metadata": {"labels": enforced}}
    done(defined.api.ask("PATCH", f"/api/v1/namespaces/{namespace}", label, kind=MERGE))
    predictor: dict[str, Any] = SPEC["predictor"]
    model = predictor["model"] | getattr(request, "param", {})
    spec = {**SPEC, "predictor": predictor | {"model": model}}
    body = {
        "apiVersion": naming.API_VERSION,
        "kind": naming.KIND,
        "metadata": {"name": "shop"},
        "spec": spec,
    }
    path = f"/apis/{naming.API_VERSION}/namespaces/{namespace}/{naming.PLURAL}"
    return parse_service(done(defined.api.ask("POST", path, body)))


@pytest.mark.parametrize("service", STORED, indirect=True, ids=["image", "bucket"])
def test_every_field_is_known_and_pods_are_admitted_and_answer(
    defined: Cluster, service: Service
) -> None:
    made = manifests(service, PLATFORM, serving_milli=1000)
    deployment = apply(defined, made[0])
    for manifest in made[1:]:
        apply(defined, manifest)
    until(lambda: defined.api.get(path_of(deployment))["status"].get("availableReplicas") == 1)
    (front,) = [each for each in made if each["kind"] == "Service"]
    chosen = ",".join("=".join(label) for label in front["spec"]["selector"].items())
    pods = f"/api/v1/namespaces/{service.namespace}/pods?labelSelector={chosen}"
    (pod,) = defined.api.get(pods)["items"]
    assert pod["metadata"]["name"].startswith("shop-1000-")


def test_nothing_changes_when_nothing_differs(defined: Cluster, service: Service) -> None:
    def written(manifest: dict[str, Any]) -> object:
        # the controllers' own writing is of status, which a generation does not count
        metadata = apply(defined, manifest)["metadata"]
        return metadata.get("generation", metadata["resourceVersion"])

    for manifest in manifests(service, PLATFORM, serving_milli=1000):
        assert written(manifest) == written(manifest)


def test_applying_again_leaves_the_replicas_alone(defined: Cluster, service: Service) -> None:
    (deployment, *_) = manifests(service, PLATFORM, serving_milli=1000)
    apply(defined, deployment)
    scale = f"{path_of(deployment)}/scale"
    change = {"spec": {"replicas": 3}}
    done(defined.api.ask("PATCH", scale, change, kind=MERGE))
    assert apply(defined, deployment)["spec"]["replicas"] == 3


def test_what_somebody_else_changed_is_repaired(defined: Cluster, service: Service) -> None:
    (_, front, *_) = manifests(service, PLATFORM, serving_milli=1000)
    apply(defined, front)
    drifted = {"spec": {"selector": {"gpupilot.dev/service": "other"}}}
    done(defined.api.ask("PATCH", path_of(front), drifted, kind=MERGE))
    refused = defined.api.ask(
        "PATCH", f"{path_of(front)}?fieldManager={naming.FIELD_MANAGER}", front, kind=APPLY
    )
    assert refused.status == 409
    assert ".spec.selector" in refused.message
    forced = f"{path_of(front)}?fieldManager={naming.FIELD_MANAGER}&force=true"
    repaired = done(defined.api.ask("PATCH", forced, front, kind=APPLY))
    assert repaired["spec"]["selector"] == front["spec"]["selector"]


def test_all_goes_when_the_resource_goes(defined: Cluster, service: Service) -> None:
    made = manifests(service, PLATFORM, serving_milli=1000)
    for manifest in made:
        apply(defined, manifest)
    own = f"/apis/{naming.API_VERSION}/namespaces/{service.namespace}/{naming.PLURAL}/shop"
    done(defined.api.ask("DELETE", own))
    until(lambda: all(defined.api.ask("GET", path_of(each)).status == 404 for each in made))
