"""Real clusters: the programs are downloaded or built into the cache when absent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from looking import SPEC, page

from gpupilot_agent.stack import processes
from gpupilot_operator import crd, naming
from gpupilot_testbed import observing, operators, running
from gpupilot_testbed.api import access, done
from gpupilot_testbed.faults import Proxy
from gpupilot_testbed.operators import Operator
from gpupilot_testbed.running import Cluster, until
from gpupilot_testbed.traffic import Traffic


@pytest.fixture(scope="session")
def light(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return a control plane with a fake node."""
    with running.light(tmp_path_factory.mktemp("light") / "cluster") as cluster:
        yield cluster


@pytest.fixture
def namespace(light: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """Return a namespace of the test's own on the light cluster."""
    name = f"test-{abs(hash(request.node.nodeid)):x}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    done(light.api.ask("POST", "/api/v1/namespaces", body))
    yield name
    done(light.api.ask("DELETE", f"/api/v1/namespaces/{name}"))


@pytest.fixture(scope="session")
def defined(light: Cluster) -> Cluster:
    """Return the cluster once it knows the resource."""
    running.define(light.api, crd.crd())
    return light


@pytest.fixture(scope="module")
def proxy(defined: Cluster) -> Iterator[Proxy]:
    """Return a proxy before the API server."""
    made = Proxy(*access(defined.kubeconfig))
    made.start()
    yield made
    made.stop()


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
    until(lambda: page(f"{started.url}/readyz") is not None)
    yield started
    started.stop()
    log = (folder / "operator.log").read_text(encoding="utf-8")
    assert "not foreseen" not in log, log


@pytest.fixture
def put(defined: Cluster, namespace: str, operator: Operator) -> Iterator[Callable[..., str]]:
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
