"""The operator as a process on a real API server: objects, status, replicas; and nothing twice."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import cluster_objects
from cluster_objects import SLICES
from gpupilot_agent.stack import processes
from gpupilot_operator import naming
from gpupilot_testbed import observing, operators
from gpupilot_testbed.api import MERGE, Api, done
from gpupilot_testbed.operators import Operator
from gpupilot_testbed.running import Cluster, until
from gpupilot_testbed.traffic import Load, Traffic

pytestmark = pytest.mark.timeout(3000)

DEPLOYMENTS = "/apis/apps/v1/namespaces/{}/deployments"
CALL = r'gpupilot_api_calls_total\{code="(\d+)",resource="(\S+?)",verb="(\w+)"\} (\S+)'
SERVER = {"name": "server", "image": "none"}
MODEL = {**cluster_objects.SPEC["predictor"]["model"], "storageUri": "s3://models/shop"}
SPEC: dict[str, Any] = {
    "predictor": {"model": MODEL, "minReplicas": 2, "maxReplicas": 6},
    "slo": {"latency": {"target": "60ms"}},
    "autoscaling": {
        "mode": "Act",
        "policy": "Queueing",
        "profile": "resnet50-a100-mig",
        "manualHoldSeconds": 0,
        "behavior": {"warmUpSeconds": 0},
    },
}


@pytest.fixture(scope="module")
def traffic() -> Iterator[tuple[Traffic, int]]:
    """Return what users would be, and where it can be scraped."""
    made = Traffic()
    with made.served() as port:
        yield made, port


@pytest.fixture(scope="module")
def prometheus(
    tmp_path_factory: pytest.TempPathFactory, traffic: tuple[Traffic, int]
) -> Iterator[str]:
    """Return the URL of a Prometheus that scrapes the traffic."""
    folder = tmp_path_factory.mktemp("prometheus")
    process, url = observing.start(folder, observing.of_targets([traffic[1]]), print)
    yield url
    processes.stop([process])


@pytest.fixture(scope="module")
def operator(
    defined: Cluster, prometheus: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """Return an operator that decides every second."""
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": operators.NAMESPACE}}
    defined.api.ask("POST", "/api/v1/namespaces", body)
    folder = tmp_path_factory.mktemp("operators") / "first"
    started = operators.start(
        folder, defined.kubeconfig, prometheus, tick_seconds="1", window_seconds="5"
    )
    until(lambda: page(f"{started.url}/readyz") is not None, within_s=60.0)
    yield started
    started.stop()
    log = (folder / "operator.log").read_text(encoding="utf-8")
    assert "not foreseen" not in log, log


def page(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return None


Put = Callable[..., str]


@pytest.fixture
def put(defined: Cluster, namespace: str, operator: Operator) -> Iterator[Put]:
    """Return a maker of resources, which are removed again before their namespace is."""
    path = f"/apis/{naming.API_VERSION}/namespaces/{namespace}/{naming.PLURAL}"

    def make(name: str = "shop", **spec: Any) -> str:
        body = {"apiVersion": naming.API_VERSION, "kind": naming.KIND, "metadata": {"name": name}}
        done(defined.api.ask("POST", path, {**body, "spec": {**SPEC, **spec}}))
        return f"{path}/{name}"

    yield make
    for each in defined.api.get(path)["items"]:
        defined.api.ask("DELETE", f"{path}/{each['metadata']['name']}")
    until(lambda: not defined.api.get(path)["items"])
    assert operator.process.is_alive()


def there(api: Api, path: str) -> Any:
    """Return an object, empty where there is none."""
    answer = api.ask("GET", path)
    return {} if answer.refused else answer.body


def replicas(cluster: Cluster, namespace: str, name: str = "shop-1000") -> int | None:
    found = there(cluster.api, f"{DEPLOYMENTS.format(namespace)}/{name}")
    return found["spec"]["replicas"] if found else None


def condition(cluster: Cluster, path: str, kind: str = "Ready") -> tuple[str, str] | None:
    status = there(cluster.api, path).get("status", {})
    found = [each for each in status.get("conditions", []) if each["type"] == kind]
    return (found[0]["status"], found[0]["reason"]) if found else None


def writes(operator: Operator) -> dict[str, float]:
    """Return how many requests that write were sent, by what they were of; not of the Lease."""
    text = page(f"{operator.url}/metrics") or ""
    found = re.findall(
        r'gpupilot_api_calls_total\{code="(\d+)",resource="(\S+?)",verb="(\w+)"\} (\S+)', text
    )
    return {
        f"{verb} {resource} {code}": float(count)
        for code, resource, verb, count in found
        if verb not in ("get", "list") and resource != "leases"
    }


def test_a_resource_becomes_ready_pods_and_a_status(
    defined: Cluster, namespace: str, put: Put
) -> None:
    path = put()
    until(lambda: condition(defined, path) == ("True", "PodsReady"))
    assert replicas(defined, namespace) == 2
    status = defined.api.get(path)["status"]
    assert status["readyReplicas"] == 2
    assert status["observedGeneration"] == 1


def test_replicas_follow_traffic(
    defined: Cluster, namespace: str, put: Put, traffic: tuple[Traffic, int]
) -> None:
    traffic[0].put(namespace, "shop", Load(rate_rps=20_000.0))
    path = put()
    until(lambda: replicas(defined, namespace) == 6)
    until(lambda: there(defined.api, path)["status"].get("readyReplicas") == 6)
    decision = there(defined.api, path)["status"]["autoscaling"]["lastDecision"]
    assert decision["grantedReplicas"] == 6


def test_nothing_is_written_when_nothing_changes(
    defined: Cluster,
    namespace: str,
    put: Put,
    operator: Operator,
    traffic: tuple[Traffic, int],
) -> None:
    traffic[0].put(namespace, "shop", Load(rate_rps=5.0))
    path = put()
    until(lambda: condition(defined, path) == ("True", "PodsReady"))
    earlier: list[dict[str, float]] = []

    def quiet() -> bool:
        earlier.append(writes(operator))
        time.sleep(3.0)
        return writes(operator) == earlier[-1]

    until(quiet)
    time.sleep(5.0)
    assert writes(operator) == earlier[-1]


def test_what_somebody_changes_is_taken_back(defined: Cluster, namespace: str, put: Put) -> None:
    path = put(autoscaling={"mode": "Observe", "policy": "Queueing"})
    until(lambda: condition(defined, path) == ("True", "PodsReady"))
    front = f"/api/v1/namespaces/{namespace}/services/shop"
    wanted = defined.api.get(front)["spec"]["selector"]
    other = {"spec": {"selector": {"gpupilot.dev/service": "other"}}}
    done(defined.api.ask("PATCH", front, other, kind=MERGE))
    until(lambda: there(defined.api, front)["spec"]["selector"] == wanted)
    done(defined.api.ask("DELETE", front))
    until(lambda: there(defined.api, front).get("spec", {}).get("selector") == wanted)


def test_a_field_that_is_no_longer_asked_for_goes(
    defined: Cluster, namespace: str, put: Put
) -> None:
    path = put()
    where = f"{DEPLOYMENTS.format(namespace)}/shop-1000"

    def memory() -> Any:
        found = there(defined.api, where)
        containers = found["spec"]["template"]["spec"]["containers"] if found else [{}]
        return containers[0].get("resources", {}).get("limits", {}).get("memory")

    until(lambda: memory() == "2Gi")
    change = {"spec": {"predictor": {"model": {"resources": {"limits": {"memory": None}}}}}}
    done(defined.api.ask("PATCH", path, change, kind=MERGE))
    until(lambda: memory() is None)


def test_a_deployment_of_somebody_else_is_not_taken(
    defined: Cluster, namespace: str, put: Put
) -> None:
    name = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop"}}
    theirs = {**name, "spec": {"selector": {"app": "theirs"}, "ports": [{"port": 80}]}}
    where = f"/api/v1/namespaces/{namespace}/services"
    done(defined.api.ask("POST", where, theirs))
    put()
    events = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"

    def said() -> list[str]:
        return [each["note"] for each in defined.api.get(events)["items"] if "note" in each]

    until(lambda: any("Service/shop is there already" in each for each in said()))
    assert defined.api.get(f"{where}/shop")["spec"]["selector"] == {"app": "theirs"}


def test_objects_that_cannot_be_made_are_told_in_status(
    defined: Cluster, namespace: str, put: Put
) -> None:
    labels = {"app": "theirs"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [SERVER]}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    theirs = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shop-1000"}}
    where = DEPLOYMENTS.format(namespace)
    done(defined.api.ask("POST", where, {**theirs, "spec": spec}))
    path = put()
    until(lambda: condition(defined, path) == ("False", "ReconcileFailed"))
    ready, able = defined.api.get(path)["status"]["conditions"]
    assert ready["message"] == (
        "Deployment/shop-1000 is there already and not of this resource: rename one"
    )
    assert (able["type"], able["status"]) == ("AbleToScale", "False")
    done(defined.api.ask("DELETE", f"{where}/shop-1000"))
    until(lambda: condition(defined, path) == ("True", "PodsReady"))


PREDICTOR = {"serving.kserve.io/inferenceservice": "flowers", "component": "predictor"}
"""Labels of the pods that KServe makes of a service, as its source has them."""
EXTERNAL = {"serving.kserve.io/autoscalerClass": "external"}
OF_KSERVE = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "name": "flowers",
}


@pytest.mark.parametrize(
    ("reference", "labels", "notes"),
    [({"name": "theirs"}, {}, {}), (OF_KSERVE, PREDICTOR, EXTERNAL)],
    ids=["deployment", "kserve"],
)
def test_what_runs_already_is_scaled_and_not_owned(
    defined: Cluster,
    namespace: str,
    put: Put,
    traffic: tuple[Traffic, int],
    reference: dict[str, str],
    labels: dict[str, str],
    notes: dict[str, str],
) -> None:
    traffic[0].put(namespace, "shop", Load(rate_rps=20_000.0))
    path = put(predictor={"targetRef": reference, "minReplicas": 1, "maxReplicas": 4})
    until(lambda: condition(defined, path) == ("False", "TargetNotFound"))
    selected = {"app": "theirs"}
    metadata = {"labels": {**selected, **labels}, "annotations": notes}
    template = {"metadata": metadata, "spec": {"containers": [SERVER]}}
    spec = {"replicas": 1, "selector": {"matchLabels": selected}, "template": template}
    theirs = {"apiVersion": "apps/v1", "kind": "Deployment"}
    body = {**theirs, "metadata": {"name": "theirs", "annotations": notes}, "spec": spec}
    made = done(defined.api.ask("POST", DEPLOYMENTS.format(namespace), body))
    until(lambda: replicas(defined, namespace, "theirs") == 4)
    until(lambda: condition(defined, path) == ("True", "PodsReady"))
    scaled = defined.api.get(f"{DEPLOYMENTS.format(namespace)}/theirs")
    assert scaled["metadata"].get("ownerReferences") is None
    assert scaled["spec"]["template"] == made["spec"]["template"]
    done(defined.api.ask("DELETE", path))
    until(lambda: not there(defined.api, path))
    time.sleep(1.0)
    assert replicas(defined, namespace, "theirs") == 4


def test_an_autoscaler_on_the_same_deployment_holds_ours(
    defined: Cluster, namespace: str, put: Put, traffic: tuple[Traffic, int]
) -> None:
    other = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "other"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop-1000"},
            "minReplicas": 3,
            "maxReplicas": 3,
        },
    }
    where = f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"
    done(defined.api.ask("POST", where, other))
    traffic[0].put(namespace, "shop", Load(rate_rps=20_000.0))
    path = put()
    until(lambda: condition(defined, path, "ReplicaConflict") == ("True", "OtherWriter"))
    until(lambda: replicas(defined, namespace) == 3)
    done(defined.api.ask("DELETE", f"{where}/other"))
    until(lambda: replicas(defined, namespace) == 6)


def test_all_goes_with_the_resource(defined: Cluster, namespace: str, put: Put) -> None:
    path = put()
    until(lambda: condition(defined, path) == ("True", "PodsReady"))
    done(defined.api.ask("DELETE", path))
    lists = [
        DEPLOYMENTS.format(namespace),
        f"/apis/apps/v1/namespaces/{namespace}/replicasets",
        f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets",
        *(f"/api/v1/namespaces/{namespace}/{kind}" for kind in ("services", "pods")),
    ]
    until(lambda: all(not defined.api.get(each)["items"] for each in lists))


def deployments(cluster: Cluster, namespace: str) -> dict[str, int]:
    """Return the replicas of each Deployment."""
    found = cluster.api.get(DEPLOYMENTS.format(namespace))["items"]
    return {each["metadata"]["name"]: each["spec"]["replicas"] for each in found}


def test_a_share_takes_over_whole(defined: Cluster, namespace: str, put: Put) -> None:
    """The old pods serve until all new ones answer; the Service moves, then they go."""
    slices = {f"nvidia.com/mig-{name}": "8" for name in ("1g.10gb", "3g.40gb")}
    offered = {"status": {"capacity": slices, "allocatable": slices}}
    done(defined.api.ask("PATCH", "/api/v1/nodes/fake-0/status", offered, kind=MERGE))
    observe = {"mode": "Observe", "policy": "Queueing"}
    path = put(gpu=SLICES, autoscaling=observe)
    until(lambda: condition(defined, path) == ("True", "PodsReady"))
    assert deployments(defined, namespace) == {"shop-428": 2}
    front = f"/api/v1/namespaces/{namespace}/services/shop"
    slower = {"spec": {"gpu": {**SLICES, "maxShareMilli": 142, "shares": SLICES["shares"][:1]}}}
    done(defined.api.ask("PATCH", path, slower, kind=MERGE))
    moved: list[str] = []

    def gone() -> bool:
        share = defined.api.get(front)["spec"]["selector"]["gpupilot.dev/share-milli"]
        if share == "142" and not moved:
            moved.append(share)
            new = defined.api.get(f"{DEPLOYMENTS.format(namespace)}/shop-142")
            assert new["status"].get("readyReplicas") == 2
        return deployments(defined, namespace) == {"shop-142": 2}

    until(gone)
    assert moved
