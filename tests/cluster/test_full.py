"""The full cluster: a real kubelet runs real containers, in a network and mounts of its own."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from connecting import connected

from cluster_objects import resource, service_of
from gpupilot_envs.errors import StackFailed
from gpupilot_operator.actuate import Actuator
from gpupilot_operator.steps import Resized
from gpupilot_operator.views import Limits, Name
from gpupilot_testbed import cgroups, full, lifecycle, node
from gpupilot_testbed.api import STRATEGIC, Api, done
from gpupilot_testbed.network import Network
from gpupilot_testbed.running import Cluster, until
from gpupilot_testbed.state import KUBECONFIG, ClusterState

pytestmark = pytest.mark.timeout(3000)

POD = "/api/v1/namespaces/default/pods"
SERVE = "echo hello > /tmp/index.html; trap 'exit 0' TERM; httpd -f -p 8080 -h /tmp & wait"
CPU = {"requests": {"cpu": "50m", "memory": "16Mi"}, "limits": {"cpu": "200m", "memory": "32Mi"}}


def deployment(name: str, replicas: int, **container: Any) -> dict[str, Any]:
    labels = {"app": name}
    given = {"name": name, "image": node.BUSYBOX_IMAGE, "imagePullPolicy": "Never"} | container
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [given], "terminationGracePeriodSeconds": 5},
            },
        },
    }


WRITTEN = [
    *("/run/containerd", "/run/netns", "/opt/containerd", "/var/lib/cni", "/var/lib/containerd"),
    *("/var/lib/kubelet", "/var/log/containers", "/var/log/pods"),
]
"""Where the node's programs write when nobody tells them otherwise."""


def traces(kept: ClusterState, folder: Path) -> list[str]:
    """Return what a cluster left on the host."""
    network = Network(slot=kept.slot)
    links = [name for name in os.listdir("/sys/class/net") if name == network.link]
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    groups = Path("/sys/fs/cgroup").glob(f"**{node.cgroup(network)}")
    named = [line for line in mounts if str(folder) in line]
    return [*links, *named, *map(str, groups), *([str(folder)] if folder.exists() else [])]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return a cluster whose node runs pods; taken down, it must leave nothing."""
    before = {each for each in WRITTEN if Path(each).exists()}
    folder = tmp_path_factory.mktemp("full") / "cluster"
    kept = lifecycle.up(folder, say=print)
    try:
        with Api(folder / KUBECONFIG) as api:
            yield Cluster(folder=folder, state=kept, api=api)
    finally:
        lifecycle.down(folder)
    assert traces(kept, folder) == []
    assert {each for each in WRITTEN if Path(each).exists()} <= before


@pytest.fixture(scope="module")
def web(cluster: Cluster) -> Cluster:
    """Return the cluster with two ready pods of a web server behind a service."""
    probe = {"httpGet": {"path": "/index.html", "port": 8080}, "periodSeconds": 1}
    served = deployment(
        "web", 2, command=["/bin/sh", "-c", SERVE], readinessProbe=probe, resources=CPU
    )
    done(cluster.api.ask("POST", "/apis/apps/v1/namespaces/default/deployments", served))
    ports = [{"port": 80, "targetPort": 8080}]
    service = {"kind": "Service", "apiVersion": "v1", "metadata": {"name": "web"}}
    service |= {"spec": {"selector": {"app": "web"}, "ports": ports}}
    done(cluster.api.ask("POST", "/api/v1/namespaces/default/services", service))
    cluster.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    return cluster


def pods(cluster: Cluster, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cluster.api.get(f"{POD}?labelSelector=app={name}")["items"]
    return found


def running(cluster: Cluster, name: str) -> int:
    return sum(pod["status"].get("phase") == "Running" for pod in pods(cluster, name))


def fetched(url: str) -> bytes | None:
    try:
        with urllib.request.urlopen(url, timeout=10) as page:
            return bytes(page.read())
    except OSError:
        return None


def test_a_service_answers_the_host_and_other_pods(web: Cluster) -> None:
    address = web.api.get("/api/v1/namespaces/default/services/web")["spec"]["clusterIP"]
    # kube-proxy refuses an address until it has heard of the service
    until(lambda: fetched(f"http://{address}/") == b"hello\n")
    one = pods(web, "web")[0]["metadata"]["name"]
    assert web.kubectl("exec", one, "--", "wget", "-qO-", f"http://{address}/") == "hello\n"


def test_replicas_follow_scale_both_ways(web: Cluster) -> None:
    web.kubectl("scale", "deployment/web", "--replicas=6")
    until(lambda: running(web, "web") == 6)
    web.kubectl("scale", "deployment/web", "--replicas=2")
    until(lambda: len(pods(web, "web")) == 2)


def test_limits_change_in_place(web: Cluster) -> None:
    """CPU and memory change in the running container: no restart, and the kernel knows."""
    pod = pods(web, "web")[0]
    path = f"{POD}/{pod['metadata']['name']}"
    changed = {"requests": {"cpu": "60m"}, "limits": {"cpu": "600m", "memory": "64Mi"}}
    body = {"spec": {"containers": [{"name": "web", "resources": changed}]}}
    done(web.api.ask("PATCH", f"{path}/resize", body, kind=STRATEGIC))

    def limits() -> Any:
        return web.api.get(path)["status"]["containerStatuses"][0]["resources"]["limits"]

    until(lambda: limits() == {"cpu": "600m", "memory": "64Mi"})
    assert web.api.get(path)["status"]["containerStatuses"][0]["restartCount"] == 0
    words = ("cat", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu.max")
    quota = web.kubectl(
        "exec", pod["metadata"]["name"], "--", "sh", "-c", f"{' '.join(words)} || :"
    )
    assert quota.split()[0] == "60000"


def test_what_the_operator_resizes_changes_in_place(web: Cluster) -> None:
    name = pods(web, "web")[1]["metadata"]["name"]
    step = Resized(
        pod=Name(namespace="default", name=name),
        container="web",
        limits=Limits(cpu_milli=400, memory_bytes=48 * 2**20),
        requests=Limits(cpu_milli=50, memory_bytes=16 * 2**20),
    )
    with connected(web.kubeconfig) as connection:
        assert Actuator(connection).perform(service_of(resource()), [step]).wrong is None

    def status() -> Any:
        return web.api.get(f"{POD}/{name}")["status"]["containerStatuses"][0]

    until(lambda: status()["resources"]["limits"]["cpu"] == "400m")
    assert status()["restartCount"] == 0


def test_a_gpu_that_is_not_there_is_waited_for(cluster: Cluster) -> None:
    full.offer(cluster.api, 2)
    asking = deployment("gpu", 3, resources={"limits": {"nvidia.com/gpu": "1"}})
    path = "/apis/apps/v1/namespaces/default/deployments"
    done(cluster.api.ask("POST", path, asking))
    until(lambda: running(cluster, "gpu") == 2)
    waiting = [pod for pod in pods(cluster, "gpu") if pod["status"]["phase"] == "Pending"]
    assert "Insufficient nvidia.com/gpu" in json.dumps(waiting)
    full.offer(cluster.api, 3)
    until(lambda: running(cluster, "gpu") == 3)


def test_the_node_has_no_way_out(web: Cluster) -> None:
    """There is no default route in the node's network: a pod reaches the host and no further."""
    holder = web.state.processes[0].pid
    routes = Path(f"/proc/{holder}/net/route").read_text(encoding="utf-8").splitlines()[1:]
    assert all(line.split()[1] != "00000000" for line in routes)


def test_a_folder_the_node_cannot_see_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StackFailed, match="the node cannot see /run"):
        full.require(Path("/run/cluster"))
    full.require(tmp_path)


def test_without_root_it_says_what_to_use_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(StackFailed, match=r"needs root .*make cluster-light"):
        lifecycle.up(tmp_path / "cluster", say=print)


def test_without_its_tools_it_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(StackFailed, match=r"needs ip, nsenter, .* iproute2"):
        full.require(tmp_path)


def test_a_cgroup_that_is_not_there_is_gone() -> None:
    assert cgroups.remove("/gpupilot-nobody-made")
