"""Resources that must be refused: one good one, and what is wrong with each of the others."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from gpupilot_operator import naming

ABSENT = object()
GOOD: dict[str, Any] = {
    "apiVersion": naming.API_VERSION,
    "kind": naming.KIND,
    "metadata": {"name": "shop"},
    "spec": {
        "predictor": {
            "model": {"modelFormat": {"name": "onnxruntime"}, "storageUri": "pvc://models/shop"},
            "maxReplicas": 8,
        },
        "slo": {"latency": {"target": "60ms"}},
    },
}
TARGET = {"name": "triton"}
"""What is scaled without being owned."""
SLICE = {"milli": 142, "resources": {"nvidia.com/mig-1g.10gb": 1}}
DIGEST = f"sha256:{'0' * 64}"


def with_(changes: dict[str, Any]) -> dict[str, Any]:
    """Return the good resource with some fields set, or removed, by their dotted paths."""
    made = deepcopy(GOOD)
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = made
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is ABSENT:
            place.pop(last)
        else:
            place[last] = value
    return made


BAD: list[tuple[str, dict[str, Any], str, str]] = [
    # name, what differs from the good one, the field that must be named, words that must be said
    ("no spec", {"spec": ABSENT}, "spec", "Required value"),
    ("no predictor", {"spec.predictor": ABSENT}, "spec.predictor", "Required value"),
    ("no objective", {"spec.slo": ABSENT}, "spec.slo", "Required value"),
    ("no target", {"spec.slo.latency": {}}, "spec.slo.latency.target", "Required value"),
    ("no upper bound", {"spec.predictor.maxReplicas": ABSENT}, "spec.predictor.maxReplicas", "Req"),
    ("no model", {"spec.predictor.model": ABSENT}, "spec.predictor", "name either model"),
    ("model and target", {"spec.predictor.targetRef": TARGET}, "spec.predictor", "name either"),
    (
        "zero replicas",
        {"spec.predictor.minReplicas": 0},
        "minReplicas",
        "greater than or equal to 1",
    ),
    ("min over max", {"spec.predictor.minReplicas": 9}, "predictor.minReplicas", "maxReplicas"),
    ("text for a number", {"spec.predictor.maxReplicas": "8"}, "maxReplicas", "integer"),
    ("too many replicas", {"spec.predictor.maxReplicas": 5000}, "maxReplicas", "1000"),
    ("replicas past max", {"spec.predictor.replicas": 9}, "predictor.replicas", "lie between"),
    (
        "strange format",
        {"spec.predictor.model.modelFormat.name": "O N"},
        "modelFormat.name",
        "Triton's backends",
    ),
    (
        "local path",
        {"spec.predictor.model.storageUri": "/models"},
        "storageUri",
        "must be a URI: pvc://",
    ),
    ("no instances", {"spec.predictor.model.instances": 0}, "model.instances", "equal to 1"),
    (
        "GPU as a limit",
        {"spec.predictor.model.resources": {"limits": {"nvidia.com/gpu": "1"}}},
        "model.resources.limits",
        "asked for by spec.gpu",
    ),
    (
        "a limit nobody knows",
        {"spec.predictor.model.resources": {"limits": {"foo": "1"}}},
        "model.resources.limits",
        "keep cpu, memory and ephemeral-storage here",
    ),
    (
        "more asked for than allowed",
        {"spec.predictor.model.resources": {"requests": {"cpu": 2}, "limits": {"cpu": "1500m"}}},
        "model.resources.requests",
        "must not exceed limits",
    ),
    (
        "image of none",
        {"spec.predictor.model.image": ""},
        "model.image",
        "must be an image, such as",
    ),
    (
        "image in words",
        {"spec.predictor.gateway": {"image": "the newest Envoy"}},
        "gateway.image",
        "must be an image, such as",
    ),
    (
        "claim of no name",
        {"spec.predictor.model.storageUri": "pvc:///models"},
        "storageUri",
        "pvc://<claim>/<path>",
    ),
    (
        "memory in words",
        {"spec.predictor.model.resources": {"limits": {"memory": "two gigabytes"}}},
        "resources.limits[memory]",
        "500m, 2 or 2Gi",
    ),
    (
        "instances without a batcher",
        {"spec.predictor.model.instances": 2},
        "model.instances",
        "say batcher too",
    ),
    (
        "batch of none",
        {"spec.predictor.batcher": {"maxBatchSize": 0}},
        "maxBatchSize",
        "equal to 1",
    ),
    (
        "preferred past largest",
        {"spec.predictor.batcher": {"maxBatchSize": 4, "preferredBatchSizes": [2, 8]}},
        "batcher.preferredBatchSizes",
        "must not exceed maxBatchSize",
    ),
    (
        "target without unit",
        {"spec.slo.latency.target": "60"},
        "latency.target",
        "a duration such as 60ms",
    ),
    (
        "target of an hour",
        {"spec.slo.latency.target": "1h"},
        "latency.target",
        "between 1ms and 60s",
    ),
    (
        "target the gateway cannot count to",
        {"spec.slo.latency.target": "125ms"},
        "latency.target",
        "at most two significant digits",
    ),
    ("target of zero", {"spec.slo.latency.target": "0ms"}, "latency.target", "between 1ms and 60s"),
    ("P96", {"spec.slo.latency.percentile": "P96"}, "latency.percentile", '"P50", "P95", "P99"'),
    ("all requests", {"spec.slo.attainmentPercent": 100}, "attainmentPercent", "less than 100"),
    (
        "a share, not percent",
        {"spec.slo.attainmentPercent": "0.99"},
        "attainmentPercent",
        "least 50",
    ),
    (
        "attainment in words",
        {"spec.slo.attainmentPercent": "most"},
        "attainmentPercent",
        "such as 99",
    ),
    ("bare fraction", {"spec.slo.attainmentPercent": 99.5}, "attainmentPercent", "integer,string"),
    (
        "a part of nobody's GPU",
        {"spec.gpu": {"minShareMilli": 250}},
        "gpu.minShareMilli",
        "needs sharing",
    ),
    (
        "shares crossed",
        {"spec.gpu": {"sharing": "MIG", "minShareMilli": 500, "maxShareMilli": 250}},
        "gpu.minShareMilli",
        "must not exceed maxShareMilli",
    ),
    ("shares of what", {"spec.gpu": {"sharing": "MIG"}}, "gpu.shares", "sharing needs shares"),
    (
        "share out of bounds",
        {"spec.gpu": {"sharing": "MIG", "minShareMilli": 200, "shares": [SLICE]}},
        "gpu.shares",
        "must lie between minShareMilli and maxShareMilli",
    ),
    (
        "share twice",
        {"spec.gpu": {"sharing": "MIG", "minShareMilli": 142, "shares": [SLICE, SLICE]}},
        "gpu.shares[1]",
        "Duplicate value",
    ),
    (
        "share for nothing",
        {"spec.gpu": {"shares": [SLICE | {"resources": {}}]}},
        "gpu.shares[0].resources",
        "at least 1 properties",
    ),
    ("budget of no pod", {"spec.gpu": {"budgetMilli": 500}}, "gpu.budgetMilli", "at least one pod"),
    (
        "GPU without vendor",
        {"spec.gpu": {"resourceName": "gpu"}},
        "gpu.resourceName",
        "such as nvidia.com/gpu",
    ),
    ("mode Auto", {"spec.autoscaling.mode": "Auto"}, "autoscaling.mode", '"Observe", "Act"'),
    ("policy Magic", {"spec.autoscaling.policy": "Magic"}, "autoscaling.policy", '"Learned"'),
    (
        "bundle for a classical policy",
        {
            "spec.autoscaling": {
                "policy": "KEDA",
                "policyRef": {"configMap": "mine", "digest": DIGEST},
            }
        },
        "autoscaling.policyRef",
        "needs policy: Learned",
    ),
    (
        "bundle without digest",
        {"spec.autoscaling.policyRef": {"configMap": "mine"}},
        "policyRef.digest",
        "Required value",
    ),
    (
        "short digest",
        {"spec.autoscaling.policyRef": {"configMap": "mine", "digest": "sha256:abc"}},
        "policyRef.digest",
        "what `sha256sum` prints",
    ),
    ("static of what", {"spec.autoscaling.policy": "Static"}, "fallback.replicas", "how many"),
    (
        "unsafe fallback",
        {"spec.autoscaling.fallback": {"replicas": 9}},
        "autoscaling.fallback.replicas",
        "must lie between",
    ),
    (
        "steps of none",
        {"spec.autoscaling.behavior": {"scaleUp": {"maxStep": 0}}},
        "behavior.scaleUp.maxStep",
        "equal to 1",
    ),
    (
        "weight in shares",
        {"spec.objective.energyWeightPercent": 0.2},
        "energyWeightPercent",
        "integer",
    ),
    ("zone in words", {"spec.objective.carbonZone": "Germany"}, "carbonZone", "such as DE"),
    ("misspelt field", {"spec.slo.latecy": {}}, "spec.slo.latecy", "unknown field"),
    ("name with a dot", {"metadata.name": "shop.v2"}, "metadata.name", "Service is named after it"),
    ("long name", {"metadata.name": "s" * 53}, "metadata.name", "at most 52 characters"),
    (
        "Deployment of KServe",
        {
            "spec.predictor.model": ABSENT,
            "spec.predictor.targetRef": TARGET | {"apiVersion": "serving.kserve.io/v1beta1"},
        },
        "targetRef.apiVersion",
        "apps/v1 for a Deployment",
    ),
    (
        "share of another's pods",
        {
            "spec.predictor.model": ABSENT,
            "spec.predictor.targetRef": TARGET,
            "spec.gpu": {"sharing": "MIG", "minShareMilli": 142, "shares": [SLICE]},
        },
        "gpu.minShareMilli",
        "does not own",
    ),
]
