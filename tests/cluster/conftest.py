"""Real clusters: the programs are downloaded or built into the cache when absent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gpupilot_operator import crd
from gpupilot_testbed import running
from gpupilot_testbed.api import access, done
from gpupilot_testbed.faults import Proxy
from gpupilot_testbed.running import Cluster


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
