"""Rights in the served namespaces alone are enough: RoleBindings in place of the cluster's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import cluster_objects
from gpupilot_operator import naming
from gpupilot_testbed import operators
from gpupilot_testbed.api import done
from gpupilot_testbed.operators import Operator
from gpupilot_testbed.running import Cluster, until

pytestmark = pytest.mark.timeout(3000)

DEPLOY = Path(__file__).resolve().parents[2] / "deploy" / "operator"
WITHOUT_BINDING = (
    "namespace", "service-account", "cluster-role", "leader-role", "leader-role-binding",
)  # fmt: skip
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def operator(defined: Cluster, namespace: str, tmp_path: Path) -> Iterator[Operator]:
    """Return an operator that may do what its role says in one namespace alone."""
    for name in WITHOUT_BINDING:
        defined.kubectl("apply", "-f", str(DEPLOY / f"{name}.yaml"))
    account = f"--serviceaccount={operators.NAMESPACE}:{operators.ACCOUNT}"
    role = f"--clusterrole={operators.ACCOUNT}"
    defined.kubectl("-n", namespace, "create", "rolebinding", "gpupilot", role, account)
    kubeconfig = operators.by_account(tmp_path, defined.api, defined.kubeconfig)
    started = operators.start(tmp_path / "one", kubeconfig, NOWHERE, namespaces=namespace)
    yield started
    started.stop()


def test_an_operator_serves_its_namespaces_and_asks_for_nothing_more(
    defined: Cluster, namespace: str, operator: Operator
) -> None:
    body = cluster_objects.resource()
    path = f"/apis/{naming.API_VERSION}/namespaces/{namespace}/{naming.PLURAL}"
    done(defined.api.ask("POST", path, body | {"metadata": {"name": "shop"}}))
    deployment = f"/apis/apps/v1/namespaces/{namespace}/deployments/shop-1000"
    until(lambda: defined.api.ask("GET", deployment).body.get("spec", {}).get("replicas") == 2)
    until(lambda: bool(defined.api.get(f"{path}/shop").get("status", {}).get("conditions")))
    scraped = operator.scraped()
    assert scraped.value("gpupilot_api_calls_total", code="403") == 0
    assert scraped.value("gpupilot_leader") == 1
    assert "orbidden" not in operator.process.log.read_text(encoding="utf-8")
