"""Requests to a real API server through a proxy that fails: what is sent again, and what is not."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from connecting import connected

from cluster_objects import PLATFORM
from gpupilot_envs.errors import ClusterUnavailable
from gpupilot_operator import kinds, manifests, naming
from gpupilot_operator.actuate import Actuator, Outcome
from gpupilot_operator.drift import differences, stamped
from gpupilot_operator.granted import Granted
from gpupilot_operator.kinds import DEPLOYMENT
from gpupilot_operator.kube import TIMEOUT_S, Connection, Request
from gpupilot_operator.plan import Batching
from gpupilot_operator.service import Service, parse_service
from gpupilot_operator.steps import Grant, Load, Make, Remove, Repair, Resized, Scale
from gpupilot_operator.store import Store
from gpupilot_operator.sweep import is_served, sweep
from gpupilot_operator.views import Limits, Name, Pod
from gpupilot_testbed import operators
from gpupilot_testbed.api import MERGE, done
from gpupilot_testbed.faults import Fault, Proxy
from gpupilot_testbed.running import Cluster, until

pytestmark = pytest.mark.timeout(3000)

SPEC: dict[str, Any] = {
    "predictor": {
        "model": {
            "modelFormat": {"name": "onnxruntime"},
            "storageUri": "s3://models/shop",
            "resources": {"limits": {"cpu": "2000m", "memory": "2048Mi"}},
        },
        "maxReplicas": 8,
    },
    "slo": {"latency": {"target": "60ms"}},
}


def through(proxy: Proxy, folder: Path, **given: Any) -> AbstractContextManager[Connection]:
    """Connect through a proxy."""
    return connected(operators.by_url(folder, proxy.url), **given)


@pytest.fixture
def connection(proxy: Proxy, tmp_path: Path) -> Iterator[Connection]:
    """Return a connection through the proxy that does not really wait."""
    with through(proxy, tmp_path, sleep=lambda _seconds: None) as made:
        yield made


@pytest.fixture
def service(defined: Cluster, namespace: str) -> Service:
    """Return a service whose objects nobody has made yet."""
    body = {"apiVersion": naming.API_VERSION, "kind": naming.KIND, "metadata": {"name": "shop"}}
    path = f"/apis/{naming.API_VERSION}/namespaces/{namespace}/{naming.PLURAL}"
    return parse_service(done(defined.api.ask("POST", path, {**body, "spec": SPEC})))


def reading(namespace: str) -> Request:
    return Request(verb="list", kind=DEPLOYMENT, namespace=namespace)


def made(service: Service) -> Make:
    return Make(manifest=stamped(manifests.deployment(service, PLATFORM, 1000)), replicas=3)


def where(service: Service) -> Name:
    return Name(namespace=service.namespace, name="shop-1000")


def live(cluster: Cluster, at: Name) -> Any:
    return cluster.api.get(DEPLOYMENT.path(at.namespace, at.name))


def asked(proxy: Proxy, before: int) -> list[tuple[str, int]]:
    return [(each.verb, each.status) for each in proxy.asked[before:]]


def test_a_busy_server_is_asked_again_after_as_long_as_it_says(
    proxy: Proxy, namespace: str, tmp_path: Path
) -> None:
    waits: list[float] = []
    busy = Fault(match="deployments", status=429, headers={"Retry-After": "2"}, most=2)
    with (
        through(proxy, tmp_path, sleep=waits.append) as connection,
        proxy.failing(busy),
    ):
        assert connection.send(reading(namespace)).status == 200
    assert waits == [2.0, 2.0]


def test_a_server_that_is_busy_for_long_is_left_alone(
    proxy: Proxy, namespace: str, tmp_path: Path
) -> None:
    waits: list[float] = []
    busy = Fault(match="deployments", status=429, headers={"Retry-After": "60"})
    with through(proxy, tmp_path, sleep=waits.append) as connection, proxy.failing(busy):
        assert connection.send(reading(namespace)).status == 429
    assert waits == []


@pytest.mark.parametrize("status", [409, 500, 503])
def test_another_refusal_is_an_answer_and_not_asked_again(
    proxy: Proxy, connection: Connection, namespace: str, status: int
) -> None:
    before = len(proxy.asked)
    with proxy.failing(Fault(match="deployments", status=status)):
        answer = connection.send(reading(namespace))
    assert (answer.refused, answer.status) == (True, status)
    assert answer.wrong == f"{status}: made to fail with {status}"
    assert asked(proxy, before) == [("GET", status)]


def test_a_server_that_breaks_off_is_an_answer_too(
    proxy: Proxy, connection: Connection, namespace: str
) -> None:
    with proxy.failing(Fault(match="deployments", cut=True)):
        answer = connection.send(reading(namespace))
    assert (answer.refused, answer.status) == (True, 0)
    assert answer.wrong is not None
    assert answer.wrong.startswith("the API server did not answer: ")
    assert connection.send(reading(namespace)).status == 200


def test_a_server_that_says_nothing_is_waited_for_no_longer_than_stated(
    proxy: Proxy, namespace: str, tmp_path: Path
) -> None:
    begun_s = time.monotonic()
    with (
        through(proxy, tmp_path, timeout_s=(0.3, 0.3)) as connection,
        proxy.failing(Fault(match="deployments", silent=True)),
    ):
        assert connection.send(reading(namespace)).refused
    assert time.monotonic() - begun_s < TIMEOUT_S[1]


def test_who_may_not_write_sends_nothing_and_reads(
    proxy: Proxy, service: Service, tmp_path: Path
) -> None:
    before = len(proxy.written())
    with through(proxy, tmp_path, may_write=lambda: False) as connection:
        assert connection.send(reading(service.namespace)).status == 200
        outcome = Actuator(connection).perform(service, [made(service)])
    assert outcome.wrong is not None
    assert "another replica leads" in outcome.wrong
    assert len(proxy.written()) == before


def test_every_request_is_counted_as_a_role_names_it(
    proxy: Proxy, service: Service, tmp_path: Path
) -> None:
    counted = Counter[tuple[str, str, int]]()

    def count(request: Request, status: int) -> None:
        counted[request.verb, request.resource, status] += 1

    with through(proxy, tmp_path, counted=count) as connection:
        Actuator(connection).perform(service, [made(service)])
    assert counted == {
        ("get", "deployments", 404): 1,
        ("patch", "deployments", 201): 1,
        ("patch", "deployments/scale", 200): 1,
    }


def test_what_was_made_has_its_replicas_and_differs_in_nothing(
    defined: Cluster, connection: Connection, service: Service
) -> None:
    step = made(service)
    assert Actuator(connection).perform(service, [step]).wrong is None
    found = live(defined, where(service))
    assert found["spec"]["replicas"] == 3
    assert differences(step.manifest, found) == ()
    for each in manifests.around(service, PLATFORM, 1000):
        step = Make(manifest=stamped(each))
        assert Actuator(connection).perform(service, [step]).wrong is None
        path = kinds.BY_KIND[each["kind"]].path(service.namespace, each["metadata"]["name"])
        assert differences(step.manifest, defined.api.get(path)) == ()


def test_replicas_that_somebody_changed_meanwhile_are_left_alone(
    defined: Cluster,
    connection: Connection,
    service: Service,
    caplog: pytest.LogCaptureFixture,
) -> None:
    actuator, at = Actuator(connection), where(service)
    actuator.perform(service, [made(service)])
    with caplog.at_level(logging.INFO):
        outcome = actuator.perform(service, [Scale(at=at, seen=2, wanted=8)])
    said = "replicas of Deployment/shop-1000 are no longer 2: decided anew"
    assert outcome == Outcome(overtaken=said)
    assert not outcome.is_settled
    assert [each.levelname for each in caplog.records if said in each.message] == ["INFO"]
    assert live(defined, at)["spec"]["replicas"] == 3
    for seen, wanted in ((3, 0), (0, 4)):
        assert actuator.perform(service, [Scale(at=at, seen=seen, wanted=wanted)]).wrong is None
        assert live(defined, at)["spec"]["replicas"] == wanted


def test_a_repair_leaves_replicas_and_what_others_added(
    defined: Cluster, connection: Connection, service: Service
) -> None:
    actuator, at, step = Actuator(connection), where(service), made(service)
    actuator.perform(service, [step])
    spec = {"minReadySeconds": 7, "strategy": {"type": "Recreate", "rollingUpdate": None}}
    both = {"metadata": {"labels": {"team": "search"}}, "spec": spec}
    path = DEPLOYMENT.path(at.namespace, at.name)
    done(defined.api.ask("PATCH", path, both, kind=MERGE))
    paths = differences(step.manifest, live(defined, at))
    assert paths == (".spec.strategy.type", ".spec.strategy.rollingUpdate")
    outcome = actuator.perform(service, [Repair(manifest=step.manifest, paths=paths)])
    assert outcome.wrong is None
    found = live(defined, at)
    assert differences(step.manifest, found) == ()
    assert (found["spec"]["replicas"], found["spec"]["minReadySeconds"]) == (3, 7)
    assert found["metadata"]["labels"]["team"] == "search"


def test_what_was_applied_is_known_at_once(connection: Connection, service: Service) -> None:
    store, at = Store(), Name(namespace=service.namespace, name=service.name)
    sweep(connection, store, [service.namespace])
    actuator = Actuator(connection, lambda kind, body: store.see(kind, None, body))
    steps = [Make(manifest=stamped(each)) for each in manifests.around(service, PLATFORM, 1000)]
    actuator.perform(service, [made(service), *steps])
    known = store.known(at)
    assert known is not None
    assert [each.at.name for each in known.owned] == ["shop-1000"]
    assert set(known.parts) == {("Service", "shop"), ("PodDisruptionBudget", "shop")}


def test_a_grant_does_not_go_with_the_next_repair(
    defined: Cluster, connection: Connection, service: Service
) -> None:
    actuator, at, step = Actuator(connection), where(service), made(service)
    grant = Grant(at=at, granted=Granted(stated="x"))
    actuator.perform(service, [step, grant, Repair(manifest=step.manifest, paths=())])
    notes = live(defined, at)["metadata"]["annotations"]
    assert notes["gpupilot.dev/granted"] == grant.granted.text()


def test_a_deployment_is_removed_only_as_it_was_seen(
    defined: Cluster, connection: Connection, service: Service
) -> None:
    actuator, at = Actuator(connection), where(service)
    actuator.perform(service, [made(service)])
    found = live(defined, at)["metadata"]
    for step in (
        Remove(at=at, uid="another"),
        Remove(at=at, uid=found["uid"], version="1"),
    ):
        assert actuator.perform(service, [step]).wrong is None
        assert live(defined, at)["metadata"]["uid"] == found["uid"]
    assert actuator.perform(service, [Remove(at=at, uid=found["uid"])]).wrong is None
    gone = DEPLOYMENT.path(at.namespace, at.name)
    until(lambda: defined.api.ask("GET", gone).status == 404)


def test_pods_are_resized_where_they_run(
    defined: Cluster, connection: Connection, service: Service
) -> None:
    actuator = Actuator(connection)
    actuator.perform(service, [made(service)])
    pods = f"/api/v1/namespaces/{service.namespace}/pods"
    until(lambda: len(defined.api.get(pods)["items"]) == 3)
    name = defined.api.get(pods)["items"][0]["metadata"]["name"]
    limits = Limits(cpu_milli=1500, memory_bytes=2**30)
    at = Name(namespace=service.namespace, name=name)
    until(lambda: defined.api.get(f"{pods}/{name}")["status"].get("phase") == "Running")
    step = Resized(pod=at, container="triton", limits=limits, requests=limits)
    assert actuator.perform(service, [step]).wrong is None
    found = defined.api.get(f"{pods}/{name}")["spec"]["containers"][0]["resources"]
    assert found["limits"] == {"cpu": "1500m", "memory": str(2**30), "nvidia.com/gpu": "1"}
    assert found["requests"] == found["limits"]


def test_nothing_is_made_in_a_namespace_that_goes(
    defined: Cluster, connection: Connection, service: Service
) -> None:
    space = f"/api/v1/namespaces/{service.namespace}"
    held = {"kind": "ConfigMap", "metadata": {"name": "held", "finalizers": ["gpupilot.dev/test"]}}
    done(defined.api.ask("POST", f"{space}/configmaps", held))
    done(defined.api.ask("DELETE", space))
    budget = stamped(manifests.disruption_budget(service))
    assert Actuator(connection).perform(service, [Make(manifest=budget)]).wrong is None
    assert defined.api.ask("GET", kinds.BUDGET.path(service.namespace, "shop")).status == 404
    free = {"metadata": {"finalizers": None}}
    done(defined.api.ask("PATCH", f"{space}/configmaps/held", free, kind=MERGE))


def test_a_kind_that_nobody_defined_is_not_served(connection: Connection) -> None:
    assert is_served(connection, kinds.INFERENCE_SERVICE, [])
    assert not is_served(connection, kinds.MONITOR, [])


def test_a_list_in_pages_is_whole(
    defined: Cluster, connection: Connection, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpupilot_operator.kube.PAGE", 2)
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    for number in range(5):
        labels = {"gpupilot.dev/service": "shop"}
        metadata = {"name": f"map-{number}", "labels": labels}
        done(defined.api.ask("POST", path, {"kind": "ConfigMap", "metadata": metadata}))
    pages = list(connection.pages(kinds.CONFIG_MAP, namespace))
    assert [len(items) for items, _ in pages] == [2, 2, 1]
    assert len({version for _, version in pages}) == 1
    assert pages[0][0][0]["kind"] == "ConfigMap"


def test_a_sweep_that_breaks_off_lets_go_of_nothing(
    proxy: Proxy, connection: Connection, service: Service
) -> None:
    store, at = Store(), Name(namespace=service.namespace, name=service.name)
    assert not sweep(connection, store, [service.namespace])
    assert at in store.names()
    with (
        proxy.failing(Fault(match="inferenceservices", status=500)),
        pytest.raises(ClusterUnavailable, match="cannot list inferenceservices: 500"),
    ):
        sweep(connection, store, [service.namespace])
    assert at in store.names()


def test_a_server_that_is_not_there_is_told_again_and_holds_up_nobody(
    connection: Connection, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    actuator = Actuator(connection)
    pod = Pod(
        at=Name(namespace=service.namespace, name="a"),
        service="shop",
        share_milli=1000,
        ready=True,
        unschedulable=False,
        trouble=None,
        ending=False,
        address="127.0.0.1",
        limits=Limits(cpu_milli=None, memory_bytes=None),
        requests=Limits(cpu_milli=None, memory_bytes=None),
        instance="run-1",
        told=None,
    )
    batching = Batching(instances=1, batch_max=8, queue_delay_us=0)
    step = Load(pod=pod, model="shop", batching=batching, told="told")
    for count in (1, 2):
        assert actuator.perform(service, [step, made(service)]).done == 2
        until(lambda n=count: caplog.text.count("not told how to serve") == n)  # type: ignore[misc]
    actuator.close()
