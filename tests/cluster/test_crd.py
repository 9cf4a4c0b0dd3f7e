"""The definition on a real API server: what it refuses and in which words, explain, scale."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from nonsense import ABSENT, BAD, GOOD, TARGET, with_

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
