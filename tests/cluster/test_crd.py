"""The definition on a real API server: what it refuses and in which words, explain, scale."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.reasons import Reason
from gpupilot_operator import crd, naming
from gpupilot_operator.facts import Facts, Grant, MetricsState, Observed, PolicyState, Rung
from gpupilot_operator.service import parse_service
from gpupilot_operator.spec import parse_spec
from gpupilot_operator.spec_autoscaling import Mode
from gpupilot_operator.status import status_of, status_patch
from gpupilot_operator.status_fields import InferenceServiceStatus
from gpupilot_testbed.api import MERGE, Answer, done
from gpupilot_testbed.running import Cluster

pytestmark = pytest.mark.timeout(3000)

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = sorted((ROOT / "deploy" / "samples").glob("*.yaml"))
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
        "memory in words",
        {"spec.predictor.model.resources": {"limits": {"memory": "two gigabytes"}}},
        "resources.limits[memory]",
        "500m, 2 or 2Gi",
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


def services(namespace: str) -> str:
    return f"/apis/{naming.API_VERSION}/namespaces/{namespace}/{naming.PLURAL}"


def create(cluster: Cluster, namespace: str, body: dict[str, Any]) -> Answer:
    return cluster.api.ask("POST", f"{services(namespace)}?fieldValidation=Strict", body)


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [pytest.param(*rest, id=name) for name, *rest in BAD],
)
def test_nonsense_is_refused_with_a_sentence_that_names_the_field(
    defined: Cluster, changes: dict[str, Any], field: str, words: str
) -> None:
    answer = create(defined, "default", with_(changes))
    assert answer.refused
    assert field in answer.message
    assert words in answer.message


def test_the_good_one_is_taken_and_every_default_is_the_one_we_read(
    defined: Cluster, namespace: str
) -> None:
    stored = done(create(defined, namespace, GOOD))
    assert parse_spec(stored) == parse_spec(GOOD)
    assert stored["spec"]["autoscaling"]["mode"] == "Observe"
    assert stored["spec"]["slo"]["attainmentPercent"] == "99"


@pytest.mark.parametrize("target", ["1ms", "60ms", "120ms", "1.5s", "0.06s", "1m", "60.0ms"])
def test_a_target_of_two_digits_is_taken(defined: Cluster, namespace: str, target: str) -> None:
    done(create(defined, namespace, with_({"spec.slo.latency.target": target})))


def test_without_our_gateway_every_target_is_taken(defined: Cluster, namespace: str) -> None:
    changes = {"spec.slo.latency.target": "125ms", "spec.predictor.gateway": {"enabled": False}}
    done(create(defined, namespace, with_(changes)))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_the_samples_are_taken(defined: Cluster, namespace: str, path: Path) -> None:
    stored = done(create(defined, namespace, yaml.safe_load(path.read_text(encoding="utf-8"))))
    assert parse_spec(stored).limits.replicas_max >= 1


def test_what_is_scaled_cannot_be_changed(defined: Cluster, namespace: str) -> None:
    changes = {"spec.predictor.model": ABSENT, "spec.predictor.targetRef": TARGET}
    done(create(defined, namespace, with_(changes)))
    other = {"spec": {"predictor": {"targetRef": {"name": "other"}}}}
    answer = defined.api.ask("PATCH", f"{services(namespace)}/shop", other, kind=MERGE)
    assert "targetRef" in answer.message
    assert "delete this resource and create another" in answer.message


def test_scale_sets_replicas_within_the_bounds_and_reads_status(
    defined: Cluster, namespace: str
) -> None:
    done(create(defined, namespace, GOOD))
    status = {"status": {"replicas": 3, "selector": "app=shop"}}
    done(defined.api.ask("PATCH", f"{services(namespace)}/shop/status", status, kind=MERGE))
    defined.kubectl("scale", "gpisvc/shop", "--namespace", namespace, "--replicas=5")
    scale = defined.api.get(f"{services(namespace)}/shop/scale")
    assert scale["spec"]["replicas"] == 5
    assert scale["status"] == {"replicas": 3, "selector": "app=shop"}
    scale["spec"]["replicas"] = 9
    answer = defined.api.ask("PUT", f"{services(namespace)}/shop/scale", scale)
    assert "must lie between minReplicas and maxReplicas" in answer.message


def test_status_is_written_apart_from_spec(defined: Cluster, namespace: str) -> None:
    made = done(create(defined, namespace, GOOD))
    change = {"spec": {"slo": {"latency": {"target": "1s"}}}, "status": {"replicas": 1}}
    path = f"{services(namespace)}/shop/status"
    after = done(defined.api.ask("PATCH", path, change, kind=MERGE))
    assert after["spec"] == made["spec"]
    assert after["metadata"]["generation"] == made["metadata"]["generation"]


def test_a_condition_needs_a_reason(defined: Cluster, namespace: str) -> None:
    done(create(defined, namespace, GOOD))
    condition = {"type": "Ready", "status": "True", "reason": "", "message": "m"}
    path = f"{services(namespace)}/shop/status"
    answer = defined.api.ask("PATCH", path, {"status": {"conditions": [condition]}}, kind=MERGE)
    assert "conditions[0].reason" in answer.message


def test_get_shows_what_matters(defined: Cluster, namespace: str) -> None:
    done(create(defined, namespace, GOOD))
    lines = defined.kubectl("get", naming.CATEGORY, "--namespace", namespace).splitlines()
    heads = "NAME READY MODE POLICY REPLICAS DESIRED SHARE SLO P95 REASON AGE"
    assert lines[0].split() == heads.split()
    assert lines[1].split()[:4] == ["shop", "Observe", "Learned", "60ms"]


def test_status_as_the_operator_makes_it_is_taken_and_shown(
    defined: Cluster, namespace: str
) -> None:
    service = parse_service(done(create(defined, namespace, GOOD)))
    running = Allocation(replicas=2)
    grant = Grant(
        asked=Allocation(replicas=12),
        granted=Allocation(replicas=8),
        reasons=(Reason.TOO_MANY_REPLICAS,),
        policy="queueing",
    )
    users = Observed(p50_s=0.01, p95_s=0.07, p99_s=0.1, attainment_ratio=0.98, source="gateway")
    facts = Facts(
        running=running,
        ready=2,
        mode=Mode.OBSERVE,
        metrics=MetricsState.FOUND,
        policy=PolicyState.UNPROVEN,
        rung=Rung.CONTROLLER,
        grant=grant,
        observed=users,
    )
    before = InferenceServiceStatus()
    patch = status_patch(before, status_of(service, facts, before, datetime.now(UTC)))
    assert patch is not None
    path = f"{services(namespace)}/shop/status?fieldValidation=Strict"
    stored = done(defined.api.ask("PATCH", path, patch, kind=MERGE))["status"]
    again = InferenceServiceStatus.model_validate(stored)
    assert status_patch(again, status_of(service, facts, again, datetime.now(UTC))) is None
    line = defined.kubectl("get", "gpisvc", "shop", "--namespace", namespace).splitlines()[1]
    wanted = "shop True Observe Learned 2 8 1000 60ms 70ms TooManyReplicas"
    assert line.split()[:-1] == wanted.split()
    defined.kubectl("wait", "gpisvc/shop", "--for=condition=Ready", "--namespace", namespace)


def test_explain_teaches(defined: Cluster) -> None:
    said = " ".join(defined.kubectl("explain", "gpisvc.spec.autoscaling.mode").split())
    assert "ENUM: Observe Act Paused" in said
    assert "Observe decides and shows, changes nothing" in said


def test_every_field_is_described(defined: Cluster) -> None:
    said = defined.kubectl("explain", "gpisvc", "--recursive")
    assert "budgetMilli" in said

    def undescribed(schema: dict[str, Any], path: str) -> Iterator[str]:
        for name, child in schema.get("properties", {}).items():
            if "description" not in child:
                yield f"{path}.{name}"
            yield from undescribed(child.get("items", child), f"{path}.{name}")

    schema = crd.crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    parts = {name: schema["properties"][name] for name in ("spec", "status")}
    assert list(undescribed({"properties": parts}, "")) == []
