"""Objects as an API server gives them, for tests of what is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpupilot_operator import kinds, manifests
from gpupilot_operator.drift import stamped
from gpupilot_operator.granted import GRANTED, Granted
from gpupilot_operator.kinds import BY_KIND, Kind
from gpupilot_operator.pod import Platform
from gpupilot_operator.service import Service, parse_service
from gpupilot_operator.store import Store

PLATFORM = Platform()
SPEC: dict[str, Any] = {
    "predictor": {
        "model": {
            "modelFormat": {"name": "onnxruntime"},
            "storageUri": "pvc://models/shop",
            "resources": {"limits": {"cpu": "2", "memory": "2Gi"}},
        },
        "minReplicas": 2,
        "maxReplicas": 8,
    },
    "slo": {"latency": {"target": "60ms"}},
    "autoscaling": {"mode": "Act", "policy": "Queueing"},
}
SLICES: dict[str, Any] = {
    "sharing": "MIG",
    "minShareMilli": 142,
    "shares": [
        {"milli": 142, "resources": {"nvidia.com/mig-1g.10gb": 1}},
        {"milli": 428, "resources": {"nvidia.com/mig-3g.40gb": 1}},
    ],
}


class Watched:
    """A store that is told of objects with versions of their own, as an API server counts them."""

    def __init__(self) -> None:
        self.store = Store()
        self.version = 0

    def see(self, body: Mapping[str, Any], change: str = "MODIFIED") -> dict[str, Any]:
        """Tell of an object and return it as it was told."""
        self.version += 1
        metadata = {"resourceVersion": str(self.version), **body["metadata"]}
        told = {**body, "metadata": metadata}
        self.store.see(kind_of(body), change, told)
        return told


def kind_of(body: Mapping[str, Any]) -> Kind:
    return kinds.LEASE if body["kind"] == "Lease" else BY_KIND[body["kind"]]


def resource(name: str = "shop", *, uid: str = "u-1", **spec: Any) -> dict[str, Any]:
    """Return an InferenceService; parts of its spec may differ."""
    return {
        "apiVersion": "gpupilot.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"namespace": "prod", "name": name, "uid": uid, "generation": 1},
        "spec": {**SPEC, **spec},
    }


def adopting(kind: str = "Deployment", name: str = "search-triton") -> dict[str, Any]:
    """Return a predictor that is scaled without being owned."""
    version = "apps/v1" if kind == "Deployment" else "serving.kserve.io/v1beta1"
    target = {"apiVersion": version, "kind": kind, "name": name}
    return {"targetRef": target, "minReplicas": 1, "maxReplicas": 8}


def live(manifest: Mapping[str, Any], **status: Any) -> dict[str, Any]:
    """Return an object that was made from a manifest."""
    made = stamped(manifest)
    metadata = {**made["metadata"], "uid": f"uid-of-{made['metadata']['name']}"}
    return {**made, "metadata": metadata, "status": status}


def deployment(
    service: Service,
    share_milli: int = 1000,
    *,
    replicas: int = 2,
    ready: int | None = None,
    pods: int | None = None,
    created: str = "2026-01-01T00:00:00Z",
    granted: Granted | None = None,
) -> dict[str, Any]:
    """Return the Deployment of a share as it stands."""
    body = live(
        manifests.deployment(service, PLATFORM, share_milli),
        replicas=replicas if pods is None else pods,
        readyReplicas=replicas if ready is None else ready,
    )
    body["spec"] = {**body["spec"], "replicas": replicas}
    body["metadata"] |= {"creationTimestamp": created}
    if granted is not None:
        notes = {**body["metadata"]["annotations"], GRANTED: granted.text()}
        body["metadata"] |= {"annotations": notes}
    return body


def foreign_deployment(name: str = "search-triton", *, replicas: int = 3) -> dict[str, Any]:
    """Return a Deployment of somebody else."""
    container = {"name": "server", "resources": {"limits": {"cpu": "1500m", "memory": "1Gi"}}}
    return {
        "kind": "Deployment",
        "metadata": {
            "namespace": "prod",
            "name": name,
            "uid": f"uid-of-{name}",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"replicas": replicas, "template": {"spec": {"containers": [container]}}},
        "status": {"replicas": replicas, "readyReplicas": replicas - 1},
    }


def pod(
    service: Service,
    name: str,
    *,
    share_milli: int = 1000,
    ready: bool = True,
    cpu: str = "2",
    instance: str = "run-1",
    annotations: Mapping[str, str] | None = None,
    **metadata: Any,
) -> dict[str, Any]:
    """Return a pod of a service."""
    resources = {"limits": {"cpu": cpu, "memory": "2Gi"}, "requests": {"cpu": cpu, "memory": "2Gi"}}
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {
        "kind": "Pod",
        "metadata": {
            "namespace": service.namespace,
            "name": name,
            "uid": f"uid-of-{name}",
            "labels": service.selector(share_milli),
            "annotations": dict(annotations or {}),
            **metadata,
        },
        "spec": {"containers": [{"name": "triton", "resources": resources}]},
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.7",
            "conditions": conditions,
            "containerStatuses": [{"name": "triton", "containerID": instance}],
        },
    }


def scaler(target: str, *, kind: str = "Deployment", scaled_object: str | None = None) -> Any:
    """Return an HPA, or the one KEDA makes for a ScaledObject."""
    owners = [] if scaled_object is None else [{"kind": "ScaledObject", "name": scaled_object}]
    return {
        "kind": "HorizontalPodAutoscaler",
        "metadata": {
            "namespace": "prod",
            "name": f"hpa-of-{target}",
            "uid": "h",
            "ownerReferences": owners,
        },
        "spec": {"scaleTargetRef": {"kind": kind, "name": target}},
    }


def around(service: Service, serving_milli: int = 1000) -> list[dict[str, Any]]:
    """Return the Service and the budget as they stand."""
    return [live(each) for each in manifests.around(service, PLATFORM, serving_milli)]


def service_of(body: Mapping[str, Any]) -> Service:
    return parse_service(body)
