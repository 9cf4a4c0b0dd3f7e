"""What installs the operator, on a real API server: taken without a warning, and admitted."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from gpupilot_testbed import running
from gpupilot_testbed.api import done
from gpupilot_testbed.running import Cluster, until

pytestmark = pytest.mark.timeout(3000)

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
NAMESPACE = "gpupilot-system"


def said(cluster: Cluster, *words: str) -> tuple[str, str]:
    """Return what kubectl prints and what it warns of."""
    done = subprocess.run(
        [cluster.state.kubectl, *words],
        env={**os.environ, "KUBECONFIG": str(cluster.kubeconfig)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return a cluster on which nothing was before; the operator's pods run nothing."""
    with running.light(tmp_path_factory.mktemp("installed") / "cluster") as cluster:
        _, warned = said(cluster, "apply", "-k", str(DEPLOY / "operator"))
        assert warned == ""
        yield cluster


def test_applied_again_nothing_differs(installed: Cluster) -> None:
    told, warned = said(installed, "diff", "-k", str(DEPLOY / "operator"))
    assert (told, warned) == ("", "")


def test_two_pods_are_admitted_where_only_restricted_ones_are(installed: Cluster) -> None:
    labels = installed.api.get(f"/api/v1/namespaces/{NAMESPACE}")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/gpupilot-operator"
    until(lambda: installed.api.get(path)["status"].get("readyReplicas") == 2)


def test_a_pod_that_asks_for_more_is_refused_there(installed: Cluster) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "root"},
        "spec": {"containers": [{"name": "c", "image": "gpupilot.dev/busybox:1"}]},
    }
    refused = installed.api.ask("POST", f"/api/v1/namespaces/{NAMESPACE}/pods", pod)
    assert refused.status == 403
    assert 'violates PodSecurity "restricted:latest"' in refused.message


def test_the_pod_fits_openshifts_default(installed: Cluster) -> None:
    """restricted-v2 gives a user and group of its own: a pod that names one is refused."""
    (deployment,) = [
        each for each in installed.rendered(DEPLOY / "operator") if each["kind"] == "Deployment"
    ]
    pod = deployment["spec"]["template"]["spec"]
    every = [pod.get("securityContext", {}), pod["containers"][0]["securityContext"]]
    for context in every:
        assert not {"runAsUser", "runAsGroup", "fsGroup", "seLinuxOptions"} & context.keys()
    assert {kind for volume in pod["volumes"] for kind in volume} == {"name", "emptyDir"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()


def test_monitoring_is_rendered(installed: Cluster) -> None:
    kinds = {each["kind"] for each in installed.rendered(DEPLOY / "monitoring")}
    assert kinds == {"ServiceMonitor", "PrometheusRule", "ConfigMap"}


def test_the_api_server_knows_the_account(installed: Cluster) -> None:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{NAMESPACE}:gpupilot-operator",
            "resourceAttributes": {"verb": "get", "resource": "secrets", "namespace": "default"},
        },
    }
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    answer = done(installed.api.ask("POST", path, review))
    assert not answer["status"]["allowed"], "secrets are never read"


def test_on_microk8s_one_replica_asks_its_prometheus(installed: Cluster) -> None:
    objects = {each["kind"]: each for each in installed.rendered(DEPLOY / "microk8s")}
    assert objects["Deployment"]["spec"]["replicas"] == 1
    url = objects["ConfigMap"]["data"]["GPUPILOT_PROMETHEUS_URL"]
    assert url.endswith(".observability.svc:9090")
    said(installed, "apply", "--dry-run=server", "-k", str(DEPLOY / "microk8s"))


def test_the_edge_service_is_taken(defined: Cluster) -> None:
    path = str(DEPLOY / "microk8s" / "service.yaml")
    _, warned = said(defined, "apply", "--dry-run=server", "--validate=strict", "-f", path)
    assert warned == ""


def test_the_time_slices_are_as_many_as_the_service_may_have_pods() -> None:
    folder = DEPLOY / "microk8s"
    config = yaml.safe_load((folder / "time-slicing.yaml").read_text(encoding="utf-8"))
    (sliced,) = yaml.safe_load(config["data"]["any"])["sharing"]["timeSlicing"]["resources"]
    spec = yaml.safe_load((folder / "service.yaml").read_text(encoding="utf-8"))["spec"]
    (share,) = spec["gpu"]["shares"]
    assert share["resources"] == {sliced["name"]: 1}
    assert sliced["replicas"] == spec["predictor"]["maxReplicas"] == 1000 // share["milli"]
