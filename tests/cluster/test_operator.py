"""The operator as a process on a real API server: objects, status, replicas; and nothing twice."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from looking import DEPLOYMENTS, SPEC, condition, page, replicas, there

from cluster_objects import SLICES
from gpupilot_operator import kinds
from gpupilot_testbed.api import MERGE, done
from gpupilot_testbed.operators import Operator
from gpupilot_testbed.running import Cluster, until
from gpupilot_testbed.traffic import Load, Traffic

pytestmark = pytest.mark.timeout(3000)

CALL = r'gpupilot_api_calls_total\{code="(\d+)",resource="(\S+?)",verb="(\w+)"\} (\S+)'
SERVER = {"name": "server", "image": "none"}
Put = Callable[..., str]


def writes(operator: Operator) -> dict[str, float]:
    """Return how many requests that write were sent, by what they were of; not of the Lease."""
    text = page(f"{operator.url}/metrics") or ""
    found = re.findall(CALL, text)
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


def test_a_limit_that_holds_has_an_event(
    defined: Cluster, namespace: str, put: Put, traffic: tuple[Traffic, int]
) -> None:
    traffic[0].put(namespace, "shop", Load(rate_rps=20_000.0))
    put(predictor={**SPEC["predictor"], "maxReplicas": 3})

    def said() -> list[Any]:
        found = defined.api.get(kinds.EVENT.path(namespace))["items"]
        return [each for each in found if each["reason"] == "TooManyReplicas"]

    until(lambda: bool(said()))
    (event,) = said()
    assert event["type"] == "Normal"
    wanted = r"queueing asked for \d+, 3 granted: the desired count is more than the maximum"
    assert re.fullmatch(wanted, event["note"])


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
