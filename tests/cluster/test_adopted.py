"""What runs already and is scaled without being owned: a Deployment, and KServe's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from looking import DEPLOYMENTS, condition, replicas, there

from definitions import definition
from gpupilot_operator.kinds import Kind
from gpupilot_testbed import running
from gpupilot_testbed.api import MERGE, done
from gpupilot_testbed.running import Cluster, until
from gpupilot_testbed.traffic import Load, Traffic

pytestmark = pytest.mark.timeout(3000)

SERVER = {"name": "server", "image": "none"}
KSERVE = Kind(
    api_version="serving.kserve.io/v1beta1", kind="InferenceService", plural="inferenceservices"
)
EXTERNAL = {"serving.kserve.io/autoscalerClass": "external"}
REFERENCE = {"apiVersion": KSERVE.api_version, "kind": KSERVE.kind, "name": "flowers"}
BOUNDS = {"minReplicas": 1, "maxReplicas": 4}
DEPLOYED = "flowers-predictor"
Put = Callable[..., str]


def test_a_deployment_is_scaled_and_not_owned(
    defined: Cluster, namespace: str, put: Put, traffic: tuple[Traffic, int]
) -> None:
    traffic[0].put(namespace, "shop", Load(rate_rps=20_000.0))
    path = put(predictor={"targetRef": {"name": "theirs"}, **BOUNDS})
    until(lambda: condition(defined, path) == ("False", "TargetNotFound"))
    labels = {"app": "theirs"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [SERVER]}}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "theirs"}}
    made = done(defined.api.ask("POST", DEPLOYMENTS.format(namespace), {**body, "spec": spec}))
    until(lambda: replicas(defined, namespace, "theirs") == 4)
    until(lambda: condition(defined, path) == ("True", "PodsReady"))
    scaled = defined.api.get(f"{DEPLOYMENTS.format(namespace)}/theirs")
    assert scaled["metadata"].get("ownerReferences") is None
    assert scaled["spec"]["template"] == made["spec"]["template"]
    done(defined.api.ask("DELETE", path))
    until(lambda: not there(defined.api, path))
    time.sleep(1.0)
    assert replicas(defined, namespace, "theirs") == 4


@pytest.fixture
def kserve(defined: Cluster) -> Iterator[None]:
    """Define KServe's resource, of any fields, for as long as a test lasts that asks for it."""
    running.define(defined.api, definition(KSERVE))
    yield
    defined.kubectl("delete", "crd", f"{KSERVE.plural}.{KSERVE.group}")


class Flowers:
    """A service of KServe's in Standard mode, looked after as KServe's controller does.

    Names, labels and annotations are those of kserve's ``predictor.go``,
    ``deployment_reconciler.go`` and ``constants.go``.
    """

    def __init__(self, cluster: Cluster, namespace: str, notes: Mapping[str, str]) -> None:
        self.api, self._namespace = cluster.api, namespace
        self.path = KSERVE.path(namespace, "flowers")
        mode = {"serving.kserve.io/deploymentMode": "Standard"}
        model = {"modelFormat": {"name": "onnx"}, "storageUri": "s3://models/flowers"}
        body = {
            "apiVersion": KSERVE.api_version,
            "kind": KSERVE.kind,
            "metadata": {"name": "flowers", "annotations": {**mode, **notes}},
            "spec": {"predictor": {"minReplicas": 1, "model": model}},
        }
        self.uid = done(self.api.ask("POST", KSERVE.path(namespace), body))["metadata"]["uid"]

    @property
    def deployment(self) -> Any:
        return self.api.get(f"{DEPLOYMENTS.format(self._namespace)}/{DEPLOYED}")

    def deploy(self) -> None:
        """Make its Deployment, with the annotations that the service has now."""
        notes = self.api.get(self.path)["metadata"]["annotations"]
        app = {"app": f"isvc.{DEPLOYED}"}
        labels = {**app, "serving.kserve.io/inferenceservice": "flowers", "component": "predictor"}
        metadata = {"labels": labels, "annotations": notes}
        owner = {
            "apiVersion": KSERVE.api_version,
            "kind": KSERVE.kind,
            "name": "flowers",
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
        body = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": DEPLOYED, "ownerReferences": [owner], **metadata},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": app},
                "template": {
                    "metadata": metadata,
                    "spec": {"containers": [{"name": "kserve-container", "image": "none"}]},
                },
            },
        }
        done(self.api.ask("POST", DEPLOYMENTS.format(self._namespace), body))

    def annotate(self, notes: Mapping[str, str]) -> None:
        """Annotate the service; its controller then has the Deployment say the same."""
        metadata = {"metadata": {"annotations": dict(notes)}}
        done(self.api.ask("PATCH", self.path, metadata, kind=MERGE))
        both = {**metadata, "spec": {"template": metadata}}
        path = f"{DEPLOYMENTS.format(self._namespace)}/{DEPLOYED}"
        done(self.api.ask("PATCH", path, both, kind=MERGE))


def test_a_service_of_kserve_is_scaled_and_never_made_anew(
    defined: Cluster,
    namespace: str,
    put: Put,
    traffic: tuple[Traffic, int],
    request: pytest.FixtureRequest,
) -> None:
    """Our resource is there first; KServe, its service and its Deployment come later."""
    traffic[0].put(namespace, "shop", Load(rate_rps=20_000.0))
    path = put(predictor={"targetRef": REFERENCE, **BOUNDS})
    until(lambda: condition(defined, path) == ("False", "TargetNotFound"))
    request.getfixturevalue("kserve")
    flowers = Flowers(defined, namespace, EXTERNAL)
    flowers.deploy()
    made = flowers.deployment
    until(lambda: replicas(defined, namespace, DEPLOYED) == 4)
    until(lambda: condition(defined, path) == ("True", "PodsReady"))
    scaled = flowers.deployment
    assert scaled["metadata"]["uid"] == made["metadata"]["uid"]
    assert scaled["metadata"]["ownerReferences"] == made["metadata"]["ownerReferences"]
    assert scaled["spec"] == {**made["spec"], "replicas": 4}
    managers = {each["manager"] for each in scaled["metadata"]["managedFields"]}
    fields = [each for each in scaled["metadata"]["managedFields"] if "gpupilot" in each["manager"]]
    assert [each.get("subresource") for each in fields] == ["scale"], managers
    assert flowers.api.get(flowers.path)["metadata"]["generation"] == 1
    done(defined.api.ask("DELETE", flowers.path))
    until(lambda: condition(defined, path) == ("False", "TargetNotFound"))


@pytest.mark.usefixtures("kserve")
@pytest.mark.parametrize(
    "notes", [{}, {"serving.kserve.io/autoscalerClass": "hpa"}], ids=["unsaid", "hpa"]
)
def test_a_service_that_kserve_scales_itself_is_left_alone_and_said(
    defined: Cluster,
    namespace: str,
    put: Put,
    traffic: tuple[Traffic, int],
    notes: dict[str, str],
) -> None:
    traffic[0].put(namespace, "shop", Load(rate_rps=20_000.0))
    flowers = Flowers(defined, namespace, notes)
    flowers.deploy()
    path = put(predictor={"targetRef": REFERENCE, **BOUNDS})

    def granted() -> int:
        status = there(defined.api, path).get("status", {})
        return int(status.get("autoscaling", {}).get("lastDecision", {}).get("grantedReplicas", 0))

    until(lambda: condition(defined, path, "ReplicaConflict") == ("True", "OtherWriter"))
    until(lambda: granted() > 1)
    assert condition(defined, path, "AbleToScale") == ("False", "ReplicaConflict")
    told = there(defined.api, path)["status"]["conditions"]
    (said,) = [each["message"] for each in told if each["type"] == "ReplicaConflict"]
    assert "autoscalerClass: external on InferenceService/flowers" in said
    assert replicas(defined, namespace, DEPLOYED) == 1
    flowers.annotate(EXTERNAL)
    until(lambda: replicas(defined, namespace, DEPLOYED) == 4)
    until(lambda: condition(defined, path, "ReplicaConflict") == ("False", "OneWriter"))
