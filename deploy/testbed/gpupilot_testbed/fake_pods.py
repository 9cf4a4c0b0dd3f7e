"""What a kubelet would say of a pod and a node: pure, from the object to the status."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

START_ANNOTATION = "testbed.gpupilot.dev/start-seconds"
"""Seconds a fake pod takes from its node to ready: image, model and warm-up in one number."""
POD_CONDITIONS = ("PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready")


def fake_node(name: str, *, gpus: int) -> dict[str, Any]:
    """Return a node with room for many pods and a number of GPUs."""
    room = {"cpu": "64", "memory": "256Gi", "pods": "1000", "nvidia.com/gpu": str(gpus)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {
            "capacity": room,
            "allocatable": room,
            "conditions": [_condition("Ready", "FakeNode", now=datetime.now(UTC))],
            "nodeInfo": _NODE_INFO,
        },
    }


def fake_lease(name: str, *, now: datetime) -> dict[str, Any]:
    """Return the heartbeat of a node: without it, its pods are evicted after a while."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": "kube-node-lease"},
        "spec": {
            "holderIdentity": name,
            "leaseDurationSeconds": 40,
            "renewTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        },
    }


def is_ending(pod: Mapping[str, Any]) -> bool:
    """Say whether a pod was told to end."""
    return "deletionTimestamp" in pod["metadata"]


def start_seconds(pod: Mapping[str, Any]) -> float:
    """Return how long a pod takes until it is ready."""
    return float(pod["metadata"].get("annotations", {}).get(START_ANNOTATION, 0.0))


def is_up_to_date(pod: Mapping[str, Any]) -> bool:
    """Say whether a placed pod's status is what :func:`running` would make of it."""
    status = pod.get("status", {})
    said = {each["name"]: each.get("resources", {}) for each in status.get("containerStatuses", [])}
    wanted = {each["name"]: each.get("resources", {}) for each in pod["spec"]["containers"]}
    return status.get("phase") == "Running" and said == wanted


def running(pod: Mapping[str, Any], *, address: str, now: datetime) -> dict[str, Any]:
    """Return the status of a pod whose containers all run, with the limits its spec asks for."""
    earlier = pod.get("status", {})
    began = earlier.get("startTime") or _written(now)
    return {
        "phase": "Running",
        "startTime": began,
        "podIP": earlier.get("podIP") or address,
        "conditions": [_condition(kind, "", now=now) for kind in POD_CONDITIONS],
        "containerStatuses": [_container(each, began) for each in pod["spec"]["containers"]],
    }


def _container(container: Mapping[str, Any], began: str) -> dict[str, Any]:
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": container["image"],
        "containerID": f"fake://{container['name']}",
        "ready": True,
        "started": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": began}},
        "resources": container.get("resources", {}),
    }


def _condition(kind: str, reason: str, *, now: datetime) -> dict[str, str]:
    condition = {"type": kind, "status": "True", "lastTransitionTime": _written(now)}
    return {**condition, "reason": reason} if reason else condition


def _written(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


_NODE_INFO = {
    "machineID": "",
    "systemUUID": "",
    "bootID": "",
    "kernelVersion": "",
    "osImage": "",
    "containerRuntimeVersion": "fake://1",
    "kubeletVersion": "v0.0.0-fake",
    "kubeProxyVersion": "",
    "operatingSystem": "linux",
    "architecture": "amd64",
}
