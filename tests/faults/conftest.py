"""A light cluster, a real Prometheus of traffic that nobody sends, and operators behind proxies."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gpupilot_agent.stack import processes
from gpupilot_operator import crd, naming
from gpupilot_testbed import observing, operators, running
from gpupilot_testbed.api import MERGE, access, done, merged
from gpupilot_testbed.describing import described
from gpupilot_testbed.faults import Proxy
from gpupilot_testbed.operators import Operator
from gpupilot_testbed.running import PATIENCE_S, Cluster, until
from gpupilot_testbed.traffic import Load, Traffic
from gpupilot_testbed.witness import Witness

TICK_S = 1
MOST = 6
CAPACITY_RPS = 80.0
"""About what one fake pod carries within its target."""


@dataclass(slots=True, kw_only=True)
class World:
    """What a fault happens to.

    Attributes:
        folder: For files of operators.
        cluster: The cluster, reached past every proxy.
        kube: Between the operator and the API server.
        prometheus: Between the operator and Prometheus.
        traffic: What services are asked for.
        witness: Sees every change of replicas.
        operator: The one that runs.
    """

    folder: Path
    cluster: Cluster
    kube: Proxy
    prometheus: Proxy
    traffic: Traffic
    witness: Witness
    operator: Operator | None = None

    def start(self) -> None:
        """Start the operator, under the same name each time, as a StatefulSet's pod would be."""
        folder = self.folder / "operator-0"
        kubeconfig = operators.by_url(self.folder, self.kube.url)
        self.operator = operators.start(
            folder, kubeconfig, self.prometheus.url, tick_seconds=str(TICK_S), window_seconds="5"
        )

    def stop(self) -> None:
        """Stop the operator."""
        if self.operator is not None:
            self.operator.stop()

    def service(self, namespace: str, name: str = "shop", **changes: Any) -> Served:
        """Create a service with the traffic of half a pod."""
        served = Served(world=self, namespace=namespace, name=name)
        self.traffic.put(namespace, name, Load(rate_rps=0.5 * CAPACITY_RPS))
        done(self.cluster.api.ask("POST", served.folder, resource(name, **changes)))
        return served


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One service of a test."""

    world: World
    namespace: str
    name: str
    since_s: float = field(default_factory=time.monotonic)

    @property
    def folder(self) -> str:
        return f"/apis/{naming.API_VERSION}/namespaces/{self.namespace}/{naming.PLURAL}"

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.name}"

    def resource(self) -> dict[str, Any]:
        """Return the resource as it is."""
        found: dict[str, Any] = self.world.cluster.api.get(self.path)
        return found

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.resource().get("status", {})
        return found

    def condition(self, kind: str) -> tuple[str, str]:
        """Return the status and the reason of a condition, empty where it is not there."""
        for each in self.status().get("conditions", []):
            if each["type"] == kind:
                return each["status"], each["reason"]
        return "", ""

    def replicas(self) -> int:
        """Return how many pods are asked for, 0 where there is no Deployment."""
        found = self.objects("apps/v1", "deployments", f"={self.name}")
        return sum(each["spec"]["replicas"] for each in found)

    def objects(self, version: str, plural: str, whose: str = "") -> list[dict[str, Any]]:
        """Return the objects of all services of the namespace, or of some."""
        root = "/api/v1" if version == "v1" else f"/apis/{version}"
        label = f"gpupilot.dev/service{whose}"
        listed = f"{root}/namespaces/{self.namespace}/{plural}?labelSelector={label}"
        found: list[dict[str, Any]] = self.world.cluster.api.get(listed)["items"]
        return found

    def asked(self, pods: float) -> None:
        """Let users ask for as much as so many pods carry."""
        self.world.traffic.change(self.namespace, self.name, rate_rps=pods * CAPACITY_RPS)

    def change(self, spec: dict[str, Any]) -> None:
        done(self.world.cluster.api.ask("PATCH", self.path, {"spec": spec}, kind=MERGE))

    def seen(self, since_s: float | None = None) -> list[int]:
        """Return every number of replicas there was since a time, or since the beginning."""
        whose = (self.namespace, self.name)
        return self.world.witness.since(whose, self.since_s if since_s is None else since_s)

    def begun(self) -> Served:
        """Wait until it has one pod, ready, decided about and told of."""
        self.settles(lambda count: count == 1)
        until(lambda: self.condition("MetricsAvailable")[0] == "True")
        return self

    def settles(self, wanted: Callable[[int], bool], *, within_s: float = PATIENCE_S) -> int:
        """Wait until the replicas asked for are as wanted and ready, and status says so."""

        def so() -> bool:
            count, status = self.replicas(), self.status()
            told = (status.get("replicas"), status.get("readyReplicas"))
            return wanted(count) and told == (count, count)

        until(so, within_s=within_s)
        return self.replicas()


def resource(name: str, **changes: Any) -> dict[str, Any]:
    """Return a service that is decided about quickly."""
    spec: dict[str, Any] = {
        "predictor": {
            "model": {
                "modelFormat": {"name": "python"},
                "storageUri": "s3://models/shop",
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
            },
            "batcher": {"maxBatchSize": 1},
            "minReplicas": 1,
            "maxReplicas": MOST,
        },
        "slo": {"latency": {"target": "100ms"}},
        "autoscaling": {
            "mode": "Act",
            "policy": "Queueing",
            "profile": "mobilenetv4-edge-emulated",
            "behavior": {
                "warmUpSeconds": 5,
                "staleAfterSeconds": 10,
                "flapsPerHourMax": 1000,
                "scaleDown": {"cooldownSeconds": 2},
            },
            "fallback": {"replicas": 5, "afterSeconds": 30},
        },
    }
    return {
        "apiVersion": naming.API_VERSION,
        "kind": naming.KIND,
        "metadata": {"name": name},
        "spec": merged(spec, changes),
    }


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Return the world with an operator in it."""
    folder = tmp_path_factory.mktemp("faults")
    with ExitStack() as stack:
        cluster = stack.enter_context(
            running.light(folder / "cluster", nodes=2, gpus=8, mortal=True)
        )
        running.define(cluster.api, crd.crd())
        make_namespace(cluster, operators.NAMESPACE)
        traffic, witness = Traffic(), Witness()
        port = stack.enter_context(traffic.served())
        process, url = observing.start(folder / "prometheus", observing.of_targets([port]), print)
        stack.callback(processes.stop, [process])
        world = World(
            folder=folder,
            cluster=cluster,
            kube=stack.enter_context(proxied(*access(cluster.kubeconfig))),
            prometheus=stack.enter_context(proxied(url)),
            traffic=traffic,
            witness=witness,
        )
        stack.enter_context(witness.watching(cluster.kubeconfig))
        world.start()
        stack.callback(world.stop)
        yield world


@pytest.fixture(scope="session", name="body")
def _body() -> Callable[..., dict[str, Any]]:
    """Return what makes the body of a service."""
    return resource


@pytest.fixture(scope="session", name="proxied")
def _proxied() -> Callable[..., AbstractContextManager[Proxy]]:
    """Return what runs a proxy before a URL."""
    return proxied


@contextmanager
def proxied(url: str, tls: Any = None) -> Iterator[Proxy]:
    proxy = Proxy(url, tls)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()


def make_namespace(cluster: Cluster, name: str) -> None:
    metadata = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    done(cluster.api.ask("POST", "/api/v1/namespaces", metadata))


_numbers = itertools.count()


@contextmanager
def emptied(world: World) -> Iterator[str]:
    """Make a namespace; afterwards its GPUs are free and its series gone."""
    name, api = f"fault-{next(_numbers)}", world.cluster.api
    make_namespace(world.cluster, name)
    yield name
    world.traffic.forget(name)
    done(api.ask("DELETE", f"/apis/{naming.API_VERSION}/namespaces/{name}/{naming.PLURAL}"))
    # the collector of garbage needs half a minute to hear of a kind that was just defined
    done(api.ask("DELETE", f"/apis/apps/v1/namespaces/{name}/deployments"))
    until(lambda: not api.get(f"/api/v1/namespaces/{name}/pods")["items"])
    done(api.ask("DELETE", f"/api/v1/namespaces/{name}"))


@pytest.fixture(scope="session", name="emptied")
def _emptied(world: World) -> Callable[[], AbstractContextManager[str]]:
    """Return what makes a namespace for as long as it is needed."""
    return lambda: emptied(world)


@pytest.fixture
def namespace(world: World) -> Iterator[str]:
    """Return a namespace of the test's own."""
    with emptied(world) as name:
        yield name


@pytest.fixture
def shop(world: World, namespace: str) -> Served:
    """Return a service with one pod, ready, decided about and told of."""
    return world.service(namespace).begun()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to every failure what the cluster was like."""
    report = yield
    world = getattr(item, "funcargs", {}).get("world")
    if report.failed and world is not None:
        report.sections.append(("the cluster", described(world.cluster, world.folder)))
    return report
