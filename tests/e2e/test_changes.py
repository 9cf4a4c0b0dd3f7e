"""What is changed of pods that serve: GPU share, instances, CPU; real, and no request is lost."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest
import yaml

from gpupilot_envs.embedded import find_profile
from gpupilot_testbed.api import merged
from gpupilot_testbed.running import until
from gpupilot_testbed.serving import ONE_BY_ONE, PROFILE

pytestmark = pytest.mark.timeout(3000)

HTTP_RPS, GRPC_RPS = 30.0, 5.0
INSTANCES = 4
LEISURELY = {
    "batch_latency_ms": [[1, 30]],
    "batching": ONE_BY_ONE.model_dump(),
    "gpu": {"sharing": {"contention_by_tenants": [[1, 1]]}},
}
"""A pod of one instance that carries little; more instances carry as much more each."""
AT_ONCE = {"shareCooldownSeconds": 0, "cpuCooldownSeconds": 0, "batchingCooldownSeconds": 0}
HALVES = {
    "sharing": "TimeSlicing",
    "minShareMilli": 500,
    "shares": [{"milli": milli, "resources": {"nvidia.com/gpu": "1"}} for milli in (500, 1000)],
}


def profiled(system: Any, name: str, **changes: Any) -> None:
    """Keep a profile for a service: another opinion of what the sample's model costs to run."""
    known = find_profile(PROFILE).model_dump(mode="json")
    profile = merged(merged(known, LEISURELY), {"name": name, **changes})
    system.store(f"{name}-profile", name, "profile.yaml", yaml.safe_dump(profile))


def deciding(name: str, mode: str) -> dict[str, Any]:
    """Return a spec's part by which a service is decided about with its own profile."""
    own = {"policy": "Queueing", "profile": f"{name}-profile", "mode": mode}
    return {"autoscaling": own | {"behavior": AT_ONCE}}


def test_instances_and_share_change_under_load(system: Any, shop: str, requests: Any) -> None:
    """Triton is told of more instances; then half a GPU is offered and enough, and takes over."""
    sharing = {"mode": "time_slicing", "speed_by_share": [[500, 0.9], [1000, 1]]}
    profiled(system, "geared", gpu={"sharing": sharing})
    system.beside(shop, "geared", predictor={"maxReplicas": 2}, **deciding("geared", "Observe"))
    until(lambda: system.condition("geared", "Ready")[0] == "True")
    (old,) = system.objects("v1", "pods", "geared")
    until(lambda: instances(old) == 1)
    with (
        system.load("geared", HTTP_RPS) as by_http,
        system.load("geared", GRPC_RPS, "grpc") as by_grpc,
    ):
        until(lambda: system.autoscaling("geared")["lastDecision"]["askedReplicas"] > 0)
        system.change("geared", {"autoscaling": {"mode": "Act"}})
        until(lambda: instances(old) == INSTANCES)
        until(lambda: system.status("geared")["allocation"]["instances"] == INSTANCES)
        system.change("geared", {"gpu": HALVES})
        until(lambda: system.front("geared")["selector"]["gpupilot.dev/share-milli"] == "500")
        until(lambda: names(system, "geared") == ["geared-500"])
        system.change("geared", {"predictor": {"minReplicas": 2}})
        until(lambda: system.status("geared")["readyReplicas"] == 2)
        until(lambda: served(system, "geared") == [INSTANCES] * 2)
    for answered in (requests(by_http), requests(by_grpc)):
        assert len(answered) > 30
        assert [each for each in answered if each["ok"] != "true"] == []
    assert system.status("geared")["allocation"]["gpuShareMilli"] == 500
    system.cluster.kubectl("delete", "gpisvc", "geared")


def test_cpu_changes_in_the_container_that_runs(system: Any, shop: str) -> None:
    """On a CPU half a core is enough: the kubelet gives the same container less."""
    cpu = {"speed_by_milli": [[500, 0.9], [1000, 1]]}
    profiled(system, "small", device="cpu", cpu=cpu)
    system.beside(shop, "small", **deciding("small", "Act"))
    until(lambda: system.condition("small", "Ready")[0] == "True")
    until(lambda: limits(system, "small") == ["500m"])
    (pod,) = system.objects("v1", "pods", "small")
    (triton,) = pod["status"]["containerStatuses"]
    assert triton["restartCount"] == 0
    until(lambda: system.status("small")["allocation"]["cpuMilli"] == 500)
    system.cluster.kubectl("delete", "gpisvc", "small")


def instances(pod: dict[str, Any]) -> int:
    """Return how many instances of its model a pod's Triton runs; 0 where it does not answer."""
    url = f"http://{pod['status']['podIP']}:8000/v2/models/mobilenetv4/config"
    try:
        with urllib.request.urlopen(url, timeout=60) as page:
            config = json.load(page)
    except OSError:
        return 0
    return sum(group["count"] for group in config["instance_group"])


def served(system: Any, service: str) -> list[int]:
    """Return the instances that each pod of a service runs, those left out that end."""
    pods = system.objects("v1", "pods", service)
    return [instances(pod) for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def names(system: Any, service: str) -> list[str]:
    """Return the names of a service's Deployments."""
    found = system.objects("apps/v1", "deployments", service)
    return [each["metadata"]["name"] for each in found]


def limits(system: Any, service: str) -> list[str]:
    """Return the CPU limits that the kubelet says it gives to Triton."""
    statuses = [
        each["status"].get("containerStatuses", ())
        for each in system.objects("v1", "pods", service)
    ]
    return [one["resources"]["limits"]["cpu"] for each in statuses for one in each]
