"""What the operator may do is what it does: its role against the API server's own audit log.

One operator runs under the account its installation gives it, and every path it has is walked:
services owned and adopted, a change of replicas, of limits, of batching and of the GPU share, a
count set by hand, a ServiceMonitor. The right to be named as a blocking owner is no request; that
it is needed is tried on its own.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from definitions import definition
from gpupilot_agent.stack import processes
from gpupilot_operator import crd, kinds, naming, triton_control
from gpupilot_operator.granted import GRANTED, Granted, stated
from gpupilot_operator.plan import Batching, Resize
from gpupilot_operator.service import parse_service
from gpupilot_testbed import audit, lifecycle, observing, operators
from gpupilot_testbed.api import MERGE, Api, done
from gpupilot_testbed.running import Cluster, define, until
from gpupilot_testbed.state import KUBECONFIG
from gpupilot_testbed.traffic import Load, Traffic

pytestmark = pytest.mark.timeout(3000)

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
NAMESPACE = "shop"
TRITON = "127.0.0.9"
"""Where the pods' model server listens: an address of loopback that nobody else has."""
SHARES = [{"milli": milli, "resources": {"nvidia.com/gpu": "1"}} for milli in (250, 1000)]
OWNED, ADOPTED, SLICED = "owned", "adopted", "sliced"
Right = tuple[str, str, str]
"""API group, resource with its subresource, verb."""
Body = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A cluster whose operator has walked every path.

    Attributes:
        cluster: The cluster, with its audit log.
        used: Every right the operator used.
        refused: Requests of the operator that were forbidden.
    """

    cluster: Cluster
    used: set[Right]
    refused: list[audit.Asked]


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return a control plane that writes down who asks what, with the operator's objects."""
    folder = tmp_path_factory.mktemp("audited") / "cluster"
    kept = lifecycle.up_light(folder, say=print, audited=True)
    try:
        with Api(folder / KUBECONFIG) as api:
            cluster = Cluster(folder=folder, state=kept, api=api)
            _install(cluster)
            yield cluster
    finally:
        lifecycle.down(folder)


def _install(cluster: Cluster) -> None:
    for each in (crd.crd(), definition(kinds.MONITOR)):
        define(cluster.api, each)
    cluster.kubectl("apply", "-k", str(DEPLOY / "operator"))
    # its pods are fake: the process of the test is the operator
    cluster.kubectl("-n", operators.NAMESPACE, "scale", "deployment", "--all", "--replicas=0")
    done(cluster.api.ask("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}}))


@pytest.fixture(scope="module")
def walked(audited: Cluster, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return the world after the operator has done all it can do."""
    folder = tmp_path_factory.mktemp("operator")
    traffic = Traffic()
    for name in (OWNED, ADOPTED, SLICED):
        traffic.put(NAMESPACE, name, Load(rate_rps=20.0))
    account = operators.by_account(folder, audited.api, audited.kubeconfig)
    with traffic.served() as port, model_servers():
        watcher, url = observing.start(folder / "seen", observing.of_targets([port]), print)
        operator = operators.start(folder / "one", account, url, tick_seconds="1")
        try:
            _walk(audited.api, traffic)
        finally:
            operator.stop()
            processes.stop([watcher])
    ours = [each for each in audit.asked(audited.folder) if each.user == operators.USER]
    return World(
        cluster=audited,
        used={right for each in ours for right in rights(each)},
        refused=[each for each in ours if each.status == 403],
    )


def _walk(api: Api, traffic: Traffic) -> None:
    """Have the operator walk every path, and wait for the end of each."""
    done(api.ask("POST", kinds.INFERENCE_SERVICE.path(NAMESPACE), service(OWNED)))
    until(lambda: len(ready_pods(api, OWNED)) >= 1)
    traffic.change(NAMESPACE, OWNED, rate_rps=600.0)
    until(lambda: replicas(api, f"{OWNED}-1000") > 1)
    _grant(api)
    _hold_by_hand(api)
    _adopt(api)
    _shift(api)
    done(api.ask("DELETE", kinds.INFERENCE_SERVICE.path(NAMESPACE, OWNED)))


def _grant(api: Api) -> None:
    """Grant limits and a batching that no pod has yet."""
    body = api.get(kinds.INFERENCE_SERVICE.path(NAMESPACE, OWNED))
    text = Granted(
        stated=stated(parse_service(body).spec.predictor),
        resize=Resize(cpu_milli=1500, memory_bytes=2**30),
        batching=Batching(instances=2, batch_max=8, queue_delay_us=100),
    ).text()
    change = {"metadata": {"annotations": {GRANTED: text}}}
    path = kinds.DEPLOYMENT.path(NAMESPACE, f"{OWNED}-1000")
    done(api.ask("PATCH", path, change, kind=MERGE))

    def granted(pod: Body) -> bool:
        (container,) = pod["spec"]["containers"]
        told = any("instances" in text for text in pod["metadata"].get("annotations", {}).values())
        return container["resources"]["limits"]["cpu"] == "1500m" and told

    def walked() -> bool:
        _readdress(api, OWNED)
        return any(granted(pod) for pod in ready_pods(api, OWNED))

    until(walked)


def _readdress(api: Api, name: str) -> None:
    """Let pods say that they are where the model servers answer."""
    for pod in ready_pods(api, name):
        if pod["status"]["podIP"] != TRITON:
            address = {"status": {"podIP": TRITON, "podIPs": [{"ip": TRITON}]}}
            path = kinds.POD.path(NAMESPACE, pod["metadata"]["name"], "status")
            done(api.ask("PATCH", path, address, kind=MERGE))


def _hold_by_hand(api: Api) -> None:
    """Set a count by hand, which is kept for a second and then taken back."""
    path = kinds.INFERENCE_SERVICE.path(NAMESPACE, OWNED)
    short = {"spec": {"autoscaling": {"manualHoldSeconds": 1}, "predictor": {"replicas": 1}}}
    done(api.ask("PATCH", path, short, kind=MERGE))
    until(lambda: "replicas" not in api.get(path)["spec"]["predictor"])


def _adopt(api: Api) -> None:
    """Scale a Deployment of somebody else."""
    labels = {"app": ADOPTED}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "triton", "image": "gpupilot.dev/busybox:1"}]},
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": ADOPTED},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
    }
    done(api.ask("POST", kinds.DEPLOYMENT.path(NAMESPACE), deployment))
    body = service(ADOPTED)
    body["spec"]["predictor"] = {"targetRef": {"name": ADOPTED}, "minReplicas": 2, "maxReplicas": 4}
    done(api.ask("POST", kinds.INFERENCE_SERVICE.path(NAMESPACE), body))
    until(lambda: replicas(api, ADOPTED) >= 2)


def _shift(api: Api) -> None:
    """Give a service another share: a second Deployment takes over, the first goes."""
    body = service(SLICED)
    body["spec"]["gpu"] = {"sharing": "TimeSlicing", "minShareMilli": 250, "shares": SHARES}
    body["spec"]["autoscaling"]["mode"] = "Observe"  # nobody asks for the first share again
    done(api.ask("POST", kinds.INFERENCE_SERVICE.path(NAMESPACE), body))
    until(lambda: len(ready_pods(api, SLICED)) >= 1)
    (before,) = deployments(api, SLICED)
    other = json.loads(json.dumps(before).replace("1000", "250"))
    for key in ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"):
        other["metadata"].pop(key)
    whose = parse_service(api.get(kinds.INFERENCE_SERVICE.path(NAMESPACE, SLICED)))
    text = Granted(stated=stated(whose.spec.predictor)).text()
    other["metadata"].setdefault("annotations", {})[GRANTED] = text
    time.sleep(1.1)  # which of the two is newer is told in whole seconds
    done(api.ask("POST", kinds.DEPLOYMENT.path(NAMESPACE), other))

    def shifted() -> bool:
        _readdress(api, SLICED)
        names = [each["metadata"]["name"] for each in deployments(api, SLICED)]
        return names == ["sliced-250"]

    until(shifted)


def service(name: str) -> Body:
    """Return a service that a classical controller may scale."""
    model = {
        "modelFormat": {"name": "onnxruntime"},
        "storageUri": "s3://models/shop",
        "resources": {"limits": {"cpu": "2", "memory": "2Gi"}},
    }
    behavior = {"warmUpSeconds": 0}
    autoscaling = {"mode": "Act", "policy": "Queueing", "profile": "mobilenetv4-edge"}
    return {
        "apiVersion": naming.API_VERSION,
        "kind": naming.KIND,
        "metadata": {"name": name},
        "spec": {
            "predictor": {"model": model, "maxReplicas": 3},
            "slo": {"latency": {"target": "60ms"}},
            "autoscaling": {**autoscaling, "behavior": behavior},
        },
    }


def deployments(api: Api, name: str) -> list[Body]:
    query = f"?labelSelector=gpupilot.dev/service={name}"
    found: list[Body] = api.get(f"{kinds.DEPLOYMENT.path(NAMESPACE)}{query}")["items"]
    return found


def replicas(api: Api, deployment: str) -> int:
    return int(api.get(kinds.DEPLOYMENT.path(NAMESPACE, deployment))["spec"]["replicas"])


def ready_pods(api: Api, name: str) -> list[Body]:
    query = f"?labelSelector=gpupilot.dev/service={name}"
    pods = api.get(f"{kinds.POD.path(NAMESPACE)}{query}")["items"]
    return [pod for pod in pods if pod["status"].get("phase") == "Running"]


@pytest.fixture
def role(audited: Cluster) -> set[Right]:
    """Return every right the installation grants, as the API server stored it."""
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    roles = (
        f"{rbac}/clusterroles/gpupilot-operator",
        f"{rbac}/namespaces/{operators.NAMESPACE}/roles/gpupilot-operator-leader",
    )
    return {
        (group, resource, verb)
        for path in roles
        for rule in audited.api.get(path)["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def rights(asked: audit.Asked) -> Iterator[Right]:
    """Yield the rights that a request needed; a path that is no resource needs none of ours."""
    if not asked.resource or asked.status == 403:
        return
    yield asked.group, asked.resource, asked.verb
    # an apply that makes its object is also asked for the right to create it
    if asked.verb == "patch" and asked.status == 201:
        yield asked.group, asked.resource, "create"


OWNER: Right = (naming.GROUP, f"{naming.PLURAL}/finalizers", "update")


def test_nothing_was_forbidden(walked: World) -> None:
    assert walked.refused == []


def test_every_right_that_was_used_is_granted(walked: World, role: set[Right]) -> None:
    assert walked.used - role == set()


def test_no_right_is_spare(walked: World, role: set[Right]) -> None:
    assert role - walked.used == {OWNER}


def test_without_the_right_to_be_an_owner_nothing_could_be_made(walked: World) -> None:
    """OpenShift asks for it; the cluster here does too."""
    api = walked.cluster.api
    path = "/apis/rbac.authorization.k8s.io/v1/clusterroles/gpupilot-operator"
    whole = api.get(path)["rules"]
    less = [rule for rule in whole if f"{naming.PLURAL}/finalizers" not in rule["resources"]]
    owner = {"kind": naming.KIND, "name": ADOPTED, "uid": "u", "blockOwnerDeletion": True}
    made = {
        "metadata": {
            "name": "probe",
            "ownerReferences": [{"apiVersion": naming.API_VERSION, **owner}],
        },
        "spec": {"ports": [{"port": 80}]},
    }

    def refusal() -> str:
        tried = f"{kinds.SERVICE.path(NAMESPACE)}?dryRun=All"
        return api.ask("POST", tried, made, user=operators.USER).message

    done(api.ask("PATCH", path, {"rules": less}, kind=MERGE))
    until(lambda: "cannot set blockOwnerDeletion" in refusal())
    done(api.ask("PATCH", path, {"rules": whole}, kind=MERGE))
    until(lambda: refusal() == "")


@contextmanager
def model_servers() -> Iterator[None]:
    """Answer at the pods' address as Triton's model control does; what it does is tried elsewhere.

    ``tests/e2e`` has a real Triton; here only the request to the API server that follows counts.
    """

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(b'{"max_batch_size": 8}')

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(b"")

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer((TRITON, triton_control.PORT), Page) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
