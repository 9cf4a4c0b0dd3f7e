"""The pod: Triton with its model, ready when it answers, ended when it has answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpupilot_agent.stack.server import SUMMARY_QUANTILES
from gpupilot_operator import gateway
from gpupilot_operator.service import Service
from gpupilot_operator.spec_predictor import Model

PORTS = {"http": 8000, "grpc": 8001, "metrics": 8002}
"""Of Triton; the same everywhere."""
MODELS = "/models"
LEAVE_S = 10
"""Between leaving the Service and the signal to end: time for every proxy to hear of it."""
DRAIN_S = 30
"""Triton's own time to answer what it has taken."""
MARGIN_S = 5
START_MINUTES = 15
"""Time for the image, the model and the first answer, before a pod is started again."""
PVC, OCI = "pvc://", "oci://"
"""Mounted as they are; every other URI is copied."""
IN_IMAGE = "models"
"""Folder of an image that holds the repository, as in KServe's modelcars."""
BUCKETS = ("s3://", "gs://")
ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What a cluster has and allows.

    Attributes:
        user: Who containers run as; ``None`` where the cluster chooses (OpenShift).
        has_service_monitors: Whether the Prometheus operator's types are there.
        storage_image: Copies a model from its URI into a folder.
        pull_policy: When images are pulled; ``None`` leaves it to the cluster.
    """

    user: int | None = 1000
    has_service_monitors: bool = False
    storage_image: str = "kserve/storage-initializer:v0.20.0"
    pull_policy: str | None = None


def pod_spec(service: Service, platform: Platform, share_milli: int) -> Manifest:
    """Return the spec of a pod that holds a share of a GPU.

    Raises:
        ValueError: The service has no model of its own, or there is no such share.
    """
    model = service.spec.predictor.model
    if model is None:
        raise ValueError(f"{service.namespace}/{service.name} names a target, not a model")
    made: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": _pod_security(platform),
        "terminationGracePeriodSeconds": LEAVE_S + DRAIN_S + MARGIN_S,
        "topologySpreadConstraints": [_spread(service, share_milli)],
        "tolerations": [
            {"key": name, "operator": "Exists", "effect": "NoSchedule"}
            for name in service.spec.gpu.asked(share_milli)
        ],
        "containers": [_triton(service, model, platform, share_milli)],
        "volumes": _volumes(model, platform),
    }
    if model.service_account_name is not None:
        made["serviceAccountName"] = model.service_account_name
    before = [] if model.storage_uri.startswith((PVC, OCI)) else [_storage(model, platform)]
    if service.has_gateway:
        before.append(_gateway(service, platform))
    return {**made, "initContainers": before} if before else made


def _triton(service: Service, model: Model, platform: Platform, share_milli: int) -> Manifest:
    name = model.name or service.name
    return _pulled(platform) | {
        "name": "triton",
        "image": model.image,
        "args": [
            "tritonserver",
            f"--model-repository={MODELS}",
            # instances and batching are changed while it runs
            "--model-control-mode=explicit",
            f"--load-model={name}",
            f"--exit-timeout-secs={DRAIN_S}",
            # what is left to measure latency by where there is no gateway
            "--metrics-config=summary_latencies=true",
            f"--metrics-config=summary_quantiles={SUMMARY_QUANTILES}",
        ],
        "ports": [
            {"name": port, "containerPort": number, "protocol": "TCP"}
            for port, number in PORTS.items()
        ],
        "resources": _resources(service, model, share_milli),
        "startupProbe": _probe(
            f"/v2/models/{name}/ready", every_s=2, failures=START_MINUTES * 60 // 2
        ),
        "readinessProbe": _probe(f"/v2/models/{name}/ready", every_s=2, failures=2),
        "livenessProbe": _probe("/v2/health/live", every_s=10, failures=3),
        "lifecycle": {"preStop": {"sleep": {"seconds": LEAVE_S}}},
        "securityContext": _SECURITY,
        "volumeMounts": [
            {"name": "models", "mountPath": MODELS, "readOnly": True, **_sub_path(model)},
            {"name": "memory", "mountPath": "/dev/shm"},
            {"name": "scratch", "mountPath": "/tmp"},
        ],
    }


def _gateway(service: Service, platform: Platform) -> Manifest:
    spec = service.spec
    made = gateway.sidecar(spec.predictor.gateway, spec.targets.latency_s, PORTS)
    return _pulled(platform) | made | {"securityContext": _SECURITY}


def _storage(model: Model, platform: Platform) -> Manifest:
    """Return what copies a model, with KServe's image: it takes a URI and a folder."""
    secret = model.storage_secret_name
    return _pulled(platform) | {
        "name": "storage",
        "image": platform.storage_image,
        "args": [_copied(model.storage_uri), MODELS],
        # so that `kubectl describe pod` says what it could not copy
        "terminationMessagePolicy": "FallbackToLogsOnError",
        # libraries of clouds keep caches at home, and nothing else may be written to
        "env": [{"name": "HOME", "value": "/tmp"}],
        **({} if secret is None else {"envFrom": [{"secretRef": {"name": secret}}]}),
        "resources": {
            "requests": {"cpu": "100m", "memory": "256Mi"},
            "limits": {"cpu": "1", "memory": "1Gi"},
        },
        "securityContext": _SECURITY,
        "volumeMounts": [
            {"name": "models", "mountPath": MODELS},
            {"name": "scratch", "mountPath": "/tmp"},
        ],
    }


def _copied(uri: str) -> str:
    """Return a URI as it is copied from: of a bucket's folder its contents, not its namesakes.

    Without the slash ``s3://models/shop`` takes ``models/shop-2`` along (kserve,
    ``kserve_storage.py``).
    """
    is_folder = uri.startswith(BUCKETS) and not uri.endswith(ARCHIVES)
    return f"{uri.rstrip('/')}/" if is_folder else uri


def _resources(service: Service, model: Model, share_milli: int) -> Manifest:
    """Return the limits as stated, with the devices of the share; requests where stated."""
    limits = {**model.resources.limits, **service.spec.gpu.asked(share_milli)}
    requests = dict(model.resources.requests)
    return {"limits": limits, "requests": requests} if requests else {"limits": limits}


def _volumes(model: Model, platform: Platform) -> list[Manifest]:
    models: Manifest = {"name": "models", "emptyDir": {}}
    if model.storage_uri.startswith(OCI):
        pulled = {"pullPolicy": platform.pull_policy} if platform.pull_policy else {}
        image = {"reference": model.storage_uri.removeprefix(OCI), **pulled}
        models = {"name": "models", "image": image}
    if model.storage_uri.startswith(PVC):
        claim = model.storage_uri.removeprefix(PVC).partition("/")[0]
        source = {"claimName": claim, "readOnly": True}
        models = {"name": "models", "persistentVolumeClaim": source}
    # Triton's backends speak through shared memory; a container's default is 64 MiB
    memory = {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}
    return [models, memory, {"name": "scratch", "emptyDir": {}}]


def _sub_path(model: Model) -> dict[str, str]:
    """Return where in its claim or image a model lies, nothing for a whole volume."""
    if model.storage_uri.startswith(OCI):
        return {"subPath": IN_IMAGE}
    if not model.storage_uri.startswith(PVC):
        return {}
    path = model.storage_uri.removeprefix(PVC).partition("/")[2].strip("/")
    return {"subPath": path} if path else {}


def _probe(path: str, *, every_s: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "http", "scheme": "HTTP"},
        "periodSeconds": every_s,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }


def _spread(service: Service, share_milli: int) -> Manifest:
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        # better together than pending
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": service.selector(share_milli)},
    }


def _pod_security(platform: Platform) -> Manifest:
    """Return what the restricted Pod Security Standard and OpenShift's default both take."""
    user = {} if platform.user is None else {"runAsUser": platform.user, "fsGroup": platform.user}
    return {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}, **user}


def _pulled(platform: Platform) -> Manifest:
    return {} if platform.pull_policy is None else {"imagePullPolicy": platform.pull_policy}


_SECURITY: Manifest = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
