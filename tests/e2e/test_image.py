"""The operator's image as a user installs it, made of this tree: two replicas, one leads."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpupilot_operator import kinds, naming
from gpupilot_testbed import full, operators, product_images
from gpupilot_testbed.api import done
from gpupilot_testbed.running import Cluster, until

pytestmark = pytest.mark.timeout(3000)

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
SAMPLE = DEPLOY / "samples" / "emulated-gpu.yaml"
NAME = "carried"
BY = operators.ACCOUNT
SIZE_MOST_MIB = 460
"""Unpacked; ``deploy/images/README.md`` states what it is."""
TAKE_OVER_S = 15.0
ANYONE = 1_000_650_000
"""A user that no image knows, of the size that OpenShift gives to a namespace."""
LOGGED = f"/var/lib/gpupilot/default/{NAME}"
LISTED = f"import glob; print(glob.glob('{LOGGED}/*'))"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
CHOOSES = "chooses-the-user"
WHOEVER = "Object{spec: Object.spec{securityContext: Object.spec.securityContext{runAsUser: %d}}}"


@pytest.fixture(scope="module")
def image() -> Path:
    """Return the archive of the image, of the sources as they are."""
    return product_images.archive(product_images.OPERATOR, print)


@pytest.fixture(scope="module")
def installed(system: Any, image: Path) -> Iterator[Cluster]:
    """Return the cluster with the operator installed as the documentation says, and no other."""
    cluster: Cluster = system.cluster
    full.load_image(cluster.folder, image, print)
    system.stop()
    cluster.kubectl("apply", "-k", str(DEPLOY / "operator"))
    until(lambda: len(ready(cluster)) == 2)
    yield cluster
    cluster.kubectl("delete", "-k", str(DEPLOY / "operator"), "--ignore-not-found")
    system.start()


@pytest.fixture(scope="module")
def anyone(installed: Cluster) -> Iterator[Cluster]:
    """Return the cluster once it chooses who pods run as that name nobody, as OpenShift does."""
    for path, body in choosing().items():
        done(installed.api.ask("POST", f"{ADMISSION}/{path}", body))
    until(lambda: would_be(installed) == ANYONE)
    setting = json.dumps({"data": {"GPUPILOT_POD_USER": "none"}})
    kubectl = partial(installed.kubectl, "-n", operators.NAMESPACE)
    kubectl("patch", "configmap", BY, "-p", setting)
    kubectl("rollout", "restart", f"deployment/{BY}")
    kubectl("rollout", "status", f"deployment/{BY}", "--timeout=600s")
    until(lambda: len(pods(installed)) == 2)
    yield installed
    for path in choosing():
        done(installed.api.ask("DELETE", f"{ADMISSION}/{path}/{CHOOSES}"))


def choosing() -> dict[str, Any]:
    """Return what makes the API server choose a user for pods without one, by path."""
    on = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    nobody = "!has(object.spec.securityContext.runAsUser)"
    policy = {
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "matchConstraints": {"resourceRules": [on]},
        "matchConditions": [{"name": "names-nobody", "expression": nobody}],
        "mutations": [
            {
                "patchType": "ApplyConfiguration",
                "applyConfiguration": {"expression": WHOEVER % ANYONE},
            }
        ],
    }
    metadata = {"name": CHOOSES}
    return {
        "mutatingadmissionpolicies": {"metadata": metadata, "spec": policy},
        "mutatingadmissionpolicybindings": {
            "metadata": metadata,
            "spec": {"policyName": CHOOSES},
        },
    }


def would_be(cluster: Cluster) -> int | None:
    """Return who a pod would run as that names nobody."""
    container = {"name": "any", "image": "any"}
    body = {"metadata": {"name": "any"}, "spec": {"containers": [container]}}
    made = done(cluster.api.ask("POST", f"{kinds.POD.path('default')}?dryRun=All", body))
    user: int | None = made["spec"]["securityContext"].get("runAsUser")
    return user


@pytest.fixture(scope="module")
def service(anyone: Cluster) -> str:
    """Return where a service is that is to fall back soon: there is no Prometheus."""
    installed = anyone
    body = yaml.safe_load(SAMPLE.read_text(encoding="utf-8"))
    body["metadata"]["name"] = NAME
    body["spec"]["autoscaling"]["fallback"]["afterSeconds"] = 30
    path = kinds.INFERENCE_SERVICE.path("default")
    done(installed.api.ask("POST", path, body))
    return f"{path}/{NAME}"


def pods(cluster: Cluster) -> list[dict[str, Any]]:
    """Return the operator's pods that are not ending."""
    found = cluster.api.get(f"{kinds.POD.path(operators.NAMESPACE)}")["items"]
    return [each for each in found if "deletionTimestamp" not in each["metadata"]]


def ready(cluster: Cluster) -> list[str]:
    """Return the names of the operator's pods that answer their probe."""
    return [
        pod["metadata"]["name"]
        for pod in pods(cluster)
        for each in pod["status"].get("conditions", [])
        if (each["type"], each["status"]) == ("Ready", "True")
    ]


def leader(cluster: Cluster) -> str:
    """Return who holds the Lease, empty where nobody does."""
    answer = cluster.api.ask("GET", kinds.LEASE.path(operators.NAMESPACE, BY))
    return "" if answer.refused else str(answer.body["spec"].get("holderIdentity") or "")


def replicas(cluster: Cluster) -> int | None:
    answer = cluster.api.ask("GET", kinds.DEPLOYMENT.path("default", f"{NAME}-1000"))
    return None if answer.refused else int(answer.body["spec"]["replicas"])


def status(cluster: Cluster, service: str, kind: str) -> str:
    """Return the status of a condition, empty where it is not there."""
    found = cluster.api.get(service).get("status", {}).get("conditions", [])
    return next((each["status"] for each in found if each["type"] == kind), "")


def test_it_is_labelled_and_as_small_as_is_said(image: Path) -> None:
    with tarfile.open(image) as archive:
        names = {each.name: each.size for each in archive.getmembers()}
        (manifest,) = _read(archive, "manifest.json")
        config = _read(archive, manifest["Config"])["config"]
    assert sum(names[each] for each in manifest["Layers"]) < SIZE_MOST_MIB * 2**20
    assert config["User"] == "65532:65532"
    labels = {name.rpartition(".")[2]: text for name, text in config["Labels"].items()}
    assert {"title", "description", "licenses", "version"} <= labels.keys()
    assert f"{labels['title']}:{labels['version']}" == product_images.OPERATOR


def _read(archive: tarfile.TarFile, name: str) -> Any:
    opened = archive.extractfile(name)
    assert opened is not None
    return json.loads(opened.read())


def test_one_of_two_leads_under_restricted_pod_security(installed: Cluster) -> None:
    namespace = installed.api.get(f"/api/v1/namespaces/{operators.NAMESPACE}")
    enforced = namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    assert enforced == "restricted"
    until(lambda: leader(installed) in ready(installed))


def test_its_pods_run_as_nobody_with_nothing_to_write_to(installed: Cluster) -> None:
    look = "import os; print(os.getuid(), os.access('/', os.W_OK), os.path.exists('/bin/sh'))"
    words = ("exec", ready(installed)[0], "--", "/opt/gpupilot/bin/python", "-c", look)
    told = installed.kubectl("-n", operators.NAMESPACE, *words)
    assert told.split() == ["65532", "False", "False"]


def test_it_runs_as_whoever_the_cluster_chooses(anyone: Cluster) -> None:
    """Neither the image nor a file knows the user, whose group is that of root."""
    until(lambda: leader(anyone) in ready(anyone))
    look = "import os; print(os.getuid(), os.getgid(), os.getgroups())"
    for name in ready(anyone):
        words = ("exec", name, "--", "/opt/gpupilot/bin/python", "-c", look)
        assert anyone.kubectl("-n", operators.NAMESPACE, *words).split()[:2] == [str(ANYONE), "0"]


def test_it_brings_a_service_to_ready_and_decides(installed: Cluster, service: str) -> None:
    """What is asked of Prometheus stays unanswered: it comes to what was declared safe."""
    until(lambda: status(installed, service, "Ready") == "True")
    until(lambda: replicas(installed) == 2)
    assert status(installed, service, "MetricsAvailable") == "False"
    triton = f"deployment/{NAME}-1000"
    assert installed.kubectl("exec", triton, "-c", "triton", "--", "id", "-u").strip() == str(
        ANYONE
    )


@pytest.mark.usefixtures("service")
def test_what_it_decided_is_explained_in_its_pod(installed: Cluster) -> None:
    """With the command of the documentation, from the log of the replica that leads."""
    until(lambda: ".parquet" in led(installed, "python", "-c", LISTED))
    explain = ("gpupilot", "explain", LOGGED, "--at", "last")
    until(lambda: "granted  2 replicas" in led(installed, *explain))
    assert f"on default/{NAME}" in led(installed, *explain)


def led(cluster: Cluster, *command: str) -> str:
    """Return what a command prints in the pod that leads."""
    return cluster.kubectl("-n", operators.NAMESPACE, "exec", leader(cluster), "--", *command)


def test_another_leads_soon_when_the_leader_goes(installed: Cluster, service: str) -> None:
    until(lambda: leader(installed) in ready(installed))
    first = leader(installed)
    gone = ("delete", "pod", first, "--grace-period=0", "--force")
    installed.kubectl("-n", operators.NAMESPACE, *gone)
    until(lambda: leader(installed) not in ("", first), within_s=TAKE_OVER_S)
    autoscaling = {"fallback": {"replicas": 3}}
    change = {"spec": {"predictor": {"minReplicas": 3}, "autoscaling": autoscaling}}
    installed.kubectl("patch", "gpisvc", NAME, "--type=merge", "-p", json.dumps(change))
    until(lambda: replicas(installed) == 3, within_s=30.0)
    assert status(installed, service, "Ready")


def test_nothing_went_wrong_in_a_way_that_was_not_foreseen(
    installed: Cluster, service: str
) -> None:
    until(lambda: len(ready(installed)) == 2)
    for name in ready(installed):
        log = installed.kubectl("-n", operators.NAMESPACE, "logs", name)
        assert "not foreseen" not in log, log
        assert log.count("\n") > 0
    assert installed.api.get(service)["kind"] == naming.KIND


@pytest.mark.usefixtures("service")
def test_removed_it_leaves_services_alone_and_nothing_of_its_own(installed: Cluster) -> None:
    installed.kubectl("delete", "-k", str(DEPLOY / "operator"), "--timeout=120s")
    assert installed.api.ask("GET", f"/api/v1/namespaces/{operators.NAMESPACE}").status == 404
    roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    for each in (roles, f"{roles[:-1]}bindings"):
        assert installed.api.ask("GET", f"{each}/{BY}").status == 404
    assert replicas(installed) == 3
    # the resource goes without an operator: there is no finalizer to wait for
    installed.kubectl("delete", "gpisvc", NAME, "--timeout=60s")
    until(lambda: replicas(installed) is None)
