"""The light cluster: up in seconds, one at a time in a folder, down without a trace."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpupilot_envs.errors import StackFailed
from gpupilot_operator import triton_control
from gpupilot_operator.plan import Batching
from gpupilot_testbed import fake_pods, lifecycle
from gpupilot_testbed.__main__ import run
from gpupilot_testbed.api import STRATEGIC, Api, done
from gpupilot_testbed.faker import Kubelets, node_names
from gpupilot_testbed.kubeconfig import CONTEXT
from gpupilot_testbed.running import Cluster, until

pytestmark = pytest.mark.timeout(3000)


def commands_naming(folder: Path) -> list[str]:
    found = subprocess.run(
        ["pgrep", "-af", str(folder)], capture_output=True, text=True, check=False
    )
    return found.stdout.splitlines()


def test_down_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    kept = lifecycle.up_light(folder, say=print)
    running = commands_naming(folder)
    assert lifecycle.down(folder)
    assert len(running) == len(kept.processes) == 5
    assert commands_naming(folder) == []
    assert not folder.exists()
    assert not lifecycle.down(folder)


def test_it_is_the_version_that_was_asked_for(light: Cluster) -> None:
    said = json.loads(light.kubectl("version", "--output=json"))
    assert said["clientVersion"]["gitVersion"] == said["serverVersion"]["gitVersion"]


def deploy(
    cluster: Cluster, namespace: str, replicas: int, *, start_s: float = 0.0, gpu: bool = False
) -> None:
    """Ask for pods, of one GPU each or of none."""
    limits = {"cpu": "200m"} | ({"nvidia.com/gpu": "1"} if gpu else {})
    resources = {"requests": {"cpu": "100m"}, "limits": limits}
    labels = {"app": "web"}
    annotations = {fake_pods.START_ANNOTATION: str(start_s)}
    template = {
        "metadata": {"labels": labels, "annotations": annotations},
        "spec": {"containers": [{"name": "web", "image": "none", "resources": resources}]},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    body = {"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "web"}}
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    done(cluster.api.ask("POST", path, {**body, "spec": spec}))


def pods(cluster: Cluster, namespace: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cluster.api.get(f"/api/v1/namespaces/{namespace}/pods")["items"]
    return found


def test_a_fake_kubelet_sees_to_the_pods_of_its_nodes_alone(light: Cluster) -> None:
    kubelets = Kubelets(light.api, node_names(2, first=3), "127.0.0.2")
    for node in ({}, {"nodeName": "fake-2"}):
        kubelets.see({"spec": {"containers": [], **node}, "metadata": {"uid": "1"}}, now_s=0.0)
    assert kubelets.act(now_s=1.0) is None


def test_pods_on_fake_nodes_become_ready_and_go(light: Cluster, namespace: str) -> None:
    deploy(light, namespace, 4)
    light.kubectl("rollout", "status", "deployment/web", "--namespace", namespace, "--timeout=60s")
    light.kubectl("scale", "deployment/web", "--namespace", namespace, "--replicas=1")
    until(lambda: len(pods(light, namespace)) == 1)


def test_a_fake_pod_is_ready_after_the_time_it_asks_for(light: Cluster, namespace: str) -> None:
    deploy(light, namespace, 1, start_s=1.5)
    until(lambda: any(pod["spec"].get("nodeName") for pod in pods(light, namespace)))
    placed_s = time.monotonic()
    until(lambda: pods(light, namespace)[0]["status"]["phase"] == "Running")
    assert time.monotonic() - placed_s > 1.0


def test_gpus_of_fake_nodes_run_out(light: Cluster, namespace: str) -> None:
    deploy(light, namespace, 9, gpu=True)

    def waiting() -> list[dict[str, Any]]:
        return [each for each in pods(light, namespace) if each["status"]["phase"] == "Pending"]

    until(lambda: len(pods(light, namespace)) == 9 and len(waiting()) == 1)
    until(lambda: "Insufficient nvidia.com/gpu" in json.dumps(waiting()))


def test_a_fake_pod_follows_changed_limits(light: Cluster, namespace: str) -> None:
    deploy(light, namespace, 1)
    until(lambda: [each["status"]["phase"] for each in pods(light, namespace)] == ["Running"])
    where = f"/api/v1/namespaces/{namespace}/pods/{pods(light, namespace)[0]['metadata']['name']}"
    container = {"name": "web", "resources": {"limits": {"cpu": "400m"}}}
    body = {"spec": {"containers": [container]}}
    done(light.api.ask("PATCH", f"{where}/resize", body, kind=STRATEGIC))

    def said() -> Any:
        return light.api.get(where)["status"]["containerStatuses"][0]["resources"]["limits"]["cpu"]

    until(lambda: said() == "400m")


def test_a_fake_pod_loads_what_it_is_told_to(light: Cluster, namespace: str) -> None:
    deploy(light, namespace, 1)
    until(lambda: [each["status"]["phase"] for each in pods(light, namespace)] == ["Running"])
    address = pods(light, namespace)[0]["status"]["podIP"]
    batching = Batching(instances=2, batch_max=8, queue_delay_us=0)
    assert triton_control.load(address, "shop", batching) is None


def test_a_second_cluster_in_the_same_folder_is_refused(light: Cluster) -> None:
    with pytest.raises(StackFailed, match="a cluster runs already"):
        lifecycle.up_light(light.folder, say=print)


def test_keys_are_their_owner_s_alone(light: Cluster) -> None:
    assert stat.S_IMODE(light.kubeconfig.stat().st_mode) == 0o600
    assert stat.S_IMODE((light.folder / "pki").stat().st_mode) == 0o700


def test_nobody_comes_in_without_a_certificate(light: Cluster) -> None:
    document = yaml.safe_load(light.kubeconfig.read_text(encoding="utf-8"))
    server = document["clusters"][0]["cluster"]["server"]
    command = ("--server", server, "--insecure-skip-tls-verify", "get", "namespaces")
    asked = subprocess.run(
        [light.state.kubectl, "--kubeconfig=/dev/null", "--token=nobody", *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode != 0
    assert "Unauthorized" in asked.stderr


def test_another_context_is_refused(light: Cluster, tmp_path: Path) -> None:
    document = yaml.safe_load(light.kubeconfig.read_text(encoding="utf-8"))
    document["current-context"] = "production"
    other = tmp_path / "kubeconfig"
    other.write_text(yaml.safe_dump(document), encoding="utf-8")
    with pytest.raises(ValueError, match="not a testbed's: production"):
        Api(other)
    with Api(light.kubeconfig) as api:
        assert done(api.ask("GET", "/version"))["major"] == "1"
    assert document["contexts"][0]["name"] == CONTEXT


def test_the_command_says_in_one_line_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "state.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["testbed", "up", "--light", "--folder", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        f"gpupilot: {tmp_path}/state.json is not the state of a cluster; remove it by hand"
    ]


def test_down_without_a_cluster_is_harmless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["testbed", "down", "--folder", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"no cluster in {tmp_path}\n"


def test_an_operator_needs_a_full_cluster_that_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["testbed", "operate", "--folder", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 2
    said = f"gpupilot: no full cluster runs in {tmp_path}: start one with --serving\n"
    assert capsys.readouterr().err == said
