"""Real clusters: the programs are downloaded or built into the cache when absent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gpupilot_operator import crd, naming
from gpupilot_testbed import lifecycle
from gpupilot_testbed.api import Api, done
from gpupilot_testbed.running import Cluster, until
from gpupilot_testbed.state import KUBECONFIG


@pytest.fixture(scope="session")
def light(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return a control plane without nodes."""
    folder = tmp_path_factory.mktemp("light") / "cluster"
    kept = lifecycle.up_light(folder, say=print)
    try:
        with Api(folder / KUBECONFIG) as api:
            yield Cluster(folder=folder, state=kept, api=api)
    finally:
        lifecycle.down(folder)


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
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    done(light.api.ask("POST", path, crd.crd()))
    served = f"/apis/{naming.API_VERSION}/{naming.PLURAL}"
    until(lambda: not light.api.ask("GET", served).refused)
    return light
