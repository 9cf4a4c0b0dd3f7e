"""Watches on a real API server that fail for good: the operator stays, and hears again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from definitions import definition
from gpupilot_operator import kinds
from gpupilot_operator.loops import SWEEP_S
from gpupilot_testbed import operators, running
from gpupilot_testbed.api import MERGE, done
from gpupilot_testbed.faults import Fault, Proxy
from gpupilot_testbed.operators import Operator
from gpupilot_testbed.running import Cluster, until

pytestmark = pytest.mark.timeout(3000)

NOBODY = "http://127.0.0.1:9"
WATCH = "^GET .*watch="
HEARD_S = SWEEP_S / 2.0
"""What a list finds comes later: a watch told of it."""
BROKEN = {
    "type": "ERROR",
    "object": {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": "etcdserver: leader changed",
        "reason": "InternalError",
        "code": 500,
    },
}
SPEC: dict[str, Any] = {
    "predictor": {
        "model": {"modelFormat": {"name": "onnxruntime"}, "storageUri": "pvc://models/shop"},
        "minReplicas": 1,
        "maxReplicas": 4,
    },
    "slo": {"latency": {"target": "60ms"}},
}


@pytest.fixture(scope="module")
def operator(
    defined: Cluster, proxy: Proxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """Return an operator that leads, without a Prometheus."""
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": operators.NAMESPACE}}
    defined.api.ask("POST", "/api/v1/namespaces", body)
    folder = tmp_path_factory.mktemp("watches") / "one"
    folder.mkdir()
    started = operators.start(folder, operators.by_url(folder, proxy.url), NOBODY)
    until(lambda: started.scraped().value("gpupilot_leader") == 1.0)
    yield started
    started.stop()
    log = (folder / "operator.log").read_text(encoding="utf-8")
    assert "not foreseen" not in log, log


@pytest.fixture
def shop(defined: Cluster, namespace: str, operator: Operator) -> Iterator[str]:
    """Return the namespace of a service whose objects are there."""
    path = kinds.INFERENCE_SERVICE.path(namespace)
    metadata = {"name": "shop"}
    body = {"apiVersion": kinds.INFERENCE_SERVICE.api_version, "kind": "InferenceService"}
    done(defined.api.ask("POST", path, {**body, "metadata": metadata, "spec": SPEC}))
    until(lambda: replicas(defined, namespace) == 1, within_s=HEARD_S)
    yield namespace
    defined.api.ask("DELETE", f"{path}/shop")
    until(lambda: not defined.api.get(path)["items"])
    assert operator.process.is_alive()


def replicas(cluster: Cluster, namespace: str) -> int | None:
    answer = cluster.api.ask("GET", kinds.DEPLOYMENT.path(namespace, "shop-1000"))
    return None if answer.refused else int(answer.body["spec"]["replicas"])


def begun_anew(operator: Operator) -> int:
    """Return how often watches ended and began anew."""
    return operator.process.log.read_text(encoding="utf-8").count("watches ended and begin anew")


@pytest.mark.parametrize(
    "fault",
    [
        Fault(match=WATCH, status=200, body=BROKEN, most=3),
        Fault(match=WATCH, status=404, most=3),
    ],
    ids=["error-in-the-stream", "refused-for-good"],
)
def test_a_watch_that_fails_for_good_begins_anew(
    defined: Cluster, operator: Operator, proxy: Proxy, shop: str, fault: Fault
) -> None:
    """The probe says so, the process goes on, and what is changed then is heard of."""
    before = begun_anew(operator)
    with proxy.failing(fault):
        proxy.cut()
        until(lambda: begun_anew(operator) > before, within_s=HEARD_S)
    assert "watch: none yet" in (operator.page("/healthz") or "")
    change = {"spec": {"predictor": {"minReplicas": 2}}}
    path = kinds.INFERENCE_SERVICE.path(shop, "shop")
    done(defined.api.ask("PATCH", path, change, kind=MERGE))
    until(lambda: replicas(defined, shop) == 2, within_s=HEARD_S)
    assert operator.process.is_alive()


def test_service_monitors_are_made_and_kept_once_their_kind_comes(
    defined: Cluster, shop: str
) -> None:
    """Then it goes again, and the rest of the objects is kept without it."""
    running.define(defined.api, definition(kinds.MONITOR))
    path = kinds.MONITOR.path(shop, "shop")
    until(lambda: not defined.api.ask("GET", path).refused)
    wanted = defined.api.get(path)["spec"]
    done(defined.api.ask("PATCH", path, {"spec": {"endpoints": []}}, kind=MERGE))
    until(lambda: defined.api.get(path)["spec"] == wanted, within_s=HEARD_S)
    done(defined.api.ask("DELETE", path))
    until(lambda: not defined.api.ask("GET", path).refused, within_s=HEARD_S)
    defined.kubectl("delete", "crd", f"{kinds.MONITOR.plural}.{kinds.MONITOR.group}")
    done(defined.api.ask("DELETE", kinds.SERVICE.path(shop, "shop")))
    until(lambda: not defined.api.ask("GET", kinds.SERVICE.path(shop, "shop")).refused)
