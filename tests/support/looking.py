"""A service that an operator process looks after, as its user sees it through the API server."""

from __future__ import annotations

import urllib.request
from typing import Any

import cluster_objects
from gpupilot_testbed.api import Api
from gpupilot_testbed.running import Cluster

DEPLOYMENTS = "/apis/apps/v1/namespaces/{}/deployments"
MODEL = {**cluster_objects.SPEC["predictor"]["model"], "storageUri": "s3://models/shop"}
SPEC: dict[str, Any] = {
    "predictor": {"model": MODEL, "minReplicas": 2, "maxReplicas": 6},
    "slo": {"latency": {"target": "60ms"}},
    "autoscaling": {
        "mode": "Act",
        "policy": "Queueing",
        "profile": "resnet50-a100-mig",
        "manualHoldSeconds": 0,
        "behavior": {"warmUpSeconds": 0},
    },
}


def page(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return None


def there(api: Api, path: str) -> Any:
    """Return an object, empty where there is none."""
    answer = api.ask("GET", path)
    return {} if answer.refused else answer.body


def replicas(cluster: Cluster, namespace: str, name: str = "shop-1000") -> int | None:
    found = there(cluster.api, f"{DEPLOYMENTS.format(namespace)}/{name}")
    return found["spec"]["replicas"] if found else None


def condition(cluster: Cluster, path: str, kind: str = "Ready") -> tuple[str, str] | None:
    status = there(cluster.api, path).get("status", {})
    found = [each for each in status.get("conditions", []) if each["type"] == kind]
    return (found[0]["status"], found[0]["reason"]) if found else None
