"""A token that counts no more, on a real API server: what replaces it in the file is found."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from connecting import connected

from gpupilot_envs.atomic import write_text
from gpupilot_operator import kinds, naming
from gpupilot_operator.kinds import DEPLOYMENT
from gpupilot_operator.kube import Request
from gpupilot_testbed import operators
from gpupilot_testbed.api import MERGE, done
from gpupilot_testbed.faults import Proxy
from gpupilot_testbed.running import Cluster, until

pytestmark = pytest.mark.timeout(3000)

ACCOUNT = "outside"
NOBODY = "http://127.0.0.1:9"
SPEC: dict[str, Any] = {
    "predictor": {
        "model": {"modelFormat": {"name": "onnxruntime"}, "storageUri": "pvc://models/shop"},
        "minReplicas": 1,
        "maxReplicas": 4,
    },
    "slo": {"latency": {"target": "60ms"}},
}


class Account:
    """An account that may do everything, whose tokens end with it, and where its token is kept."""

    def __init__(self, cluster: Cluster, namespace: str, folder: Path) -> None:
        self._cluster, self._namespace, self._folder = cluster, namespace, folder
        self._path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        self.kubeconfig = folder / "account"
        self.server: str | None = None
        done(cluster.api.ask("POST", self._path, {"metadata": {"name": ACCOUNT}}))
        self.log_in()

    def log_in(self) -> None:
        """Write a token of the account that there is now, and where it is asked."""
        written = operators.by_account(
            self._folder,
            self._cluster.api,
            self._cluster.kubeconfig,
            namespace=self._namespace,
            account=ACCOUNT,
        )
        if self.server is not None:
            document = yaml.safe_load(written.read_text(encoding="utf-8"))
            document["clusters"][0]["cluster"] = {"server": self.server}
            write_text(written, yaml.safe_dump(document))

    def revoke(self) -> None:
        """End every token there is: the account is another one of the same name from now on."""
        done(self._cluster.api.ask("DELETE", f"{self._path}/{ACCOUNT}"))
        until(lambda: self._cluster.api.ask("GET", f"{self._path}/{ACCOUNT}").status == 404)
        done(self._cluster.api.ask("POST", self._path, {"metadata": {"name": ACCOUNT}}))


@pytest.fixture
def account(defined: Cluster, namespace: str, tmp_path: Path) -> Iterator[Account]:
    """Return an account of the test's own."""
    rights = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    binding = {
        "metadata": {"name": namespace},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "cluster-admin",
        },
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}],
    }
    done(defined.api.ask("POST", rights, binding))
    yield Account(defined, namespace, tmp_path)
    done(defined.api.ask("DELETE", f"{rights}/{namespace}"))


def test_a_request_is_sent_again_with_what_replaced_the_token(
    account: Account, namespace: str
) -> None:
    reading = Request(verb="list", kind=DEPLOYMENT, namespace=namespace)
    codes: list[int] = []
    with connected(account.kubeconfig, counted=lambda _, status: codes.append(status)) as us:
        until(lambda: us.send(reading).status == 200)
        account.revoke()
        until(lambda: us.send(reading).status == 401)
        account.log_in()
        until(lambda: us.send(reading).status == 200)
    # the request that was refused is the one that was answered
    assert codes[-2:] == [401, 200]


@pytest.fixture
def bare(defined: Cluster) -> Iterator[Proxy]:
    """Return a proxy before the API server that has no identity of its own."""
    document = yaml.safe_load(defined.kubeconfig.read_text(encoding="utf-8"))
    cluster = document["clusters"][0]["cluster"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode("ascii")
    made = Proxy(cluster["server"], ssl.create_default_context(cadata=authority))
    made.start()
    yield made
    made.stop()


def test_an_operator_goes_on_when_its_token_is_replaced(
    defined: Cluster, account: Account, bare: Proxy, namespace: str, tmp_path: Path
) -> None:
    """Requests, the Lease and the watches: what is changed afterwards is heard of and done."""
    body = {"metadata": {"name": operators.NAMESPACE}}
    defined.api.ask("POST", "/api/v1/namespaces", body)
    account.server = bare.url
    account.log_in()
    operator = operators.start(tmp_path / "one", account.kubeconfig, NOBODY)
    try:
        until(lambda: operator.scraped().value("gpupilot_leader") == 1.0)
        path = kinds.INFERENCE_SERVICE.path(namespace)
        shop = {"apiVersion": naming.API_VERSION, "kind": naming.KIND, "metadata": {"name": "shop"}}
        done(defined.api.ask("POST", path, {**shop, "spec": SPEC}))
        until(lambda: replicas(defined, namespace) == 1)
        account.revoke()
        bare.cut()
        until(lambda: any(each.status == 401 for each in bare.asked))
        account.log_in()
        change = {"spec": {"predictor": {"minReplicas": 2}}}
        done(defined.api.ask("PATCH", f"{path}/shop", change, kind=MERGE))
        until(lambda: replicas(defined, namespace) == 2)
        assert operator.process.is_alive()
    finally:
        operator.stop()


def replicas(cluster: Cluster, namespace: str) -> int | None:
    answer = cluster.api.ask("GET", DEPLOYMENT.path(namespace, "shop-1000"))
    return None if answer.refused else int(answer.body["spec"]["replicas"])
