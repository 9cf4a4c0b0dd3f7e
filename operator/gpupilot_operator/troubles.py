"""Why pods do not answer, in Kubernetes' own words: pure, and the same while the cause is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

UNSCHEDULABLE = "Unschedulable"
CRASHING = "CrashLoopBackOff"
_STARTING = frozenset({"ContainerCreating", "PodInitializing"})
"""What every pod waits for."""
_SAME = {"ErrImagePull": "ImagePullBackOff", "RunContainerError": CRASHING}
"""Words that the kubelet says by turns with another one of the same cause."""

Status = Mapping[str, Any]


def trouble(status: Status) -> str | None:
    """Return why a pod does not answer, ``None`` where it does, or may soon.

    A container beside the server is named: ``storage CrashLoopBackOff``.

    Args:
        status: Of the pod.
    """
    conditions = {each["type"]: each for each in status.get("conditions") or ()}
    if conditions.get("Ready", {}).get("status") == "True":
        return None
    if conditions.get("PodScheduled", {}).get("reason") == UNSCHEDULABLE:
        return UNSCHEDULABLE
    for each in status.get("initContainerStatuses") or ():
        for word in _of_container(each):
            return f"{each['name']} {word}"
    server = status.get("containerStatuses") or ()
    return next((word for each in server for word in _of_container(each)), None)


def failure(status: Status) -> str | None:
    """Return why a Deployment can make no pods, ``None`` where it can.

    Args:
        status: Of the Deployment.
    """
    for each in status.get("conditions") or ():
        if each["type"] == "ReplicaFailure" and each["status"] == "True":
            return f"{each.get('reason')}: {each.get('message')}"
    return None


def _of_container(status: Status) -> Iterator[str]:
    if status.get("ready"):
        return
    word = (status.get("state", {}).get("waiting") or {}).get("reason")
    # between two starts of one that keeps ending it runs for a while
    if status.get("restartCount", 0) and "terminated" in (status.get("lastState") or {}):
        yield CRASHING
    elif word is not None and word not in _STARTING:
        yield _SAME.get(word, word)
