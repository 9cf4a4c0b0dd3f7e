"""What running pods are granted beyond their template, and how they are brought to it: pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict

from gpupilot_operator.granted import Granted
from gpupilot_operator.plan import Batching, Resize
from gpupilot_operator.steps import Load, Resized, Step
from gpupilot_operator.views import TRITON, Limits, Pod


def brought(
    pods: Iterable[Pod], granted: Granted, model: str, preferred: tuple[int, ...] = ()
) -> Iterator[Step]:
    """Yield what brings pods to what they were granted; nothing for those that are there.

    Args:
        pods: Pods of one Deployment.
        granted: What they were granted.
        model: Name of the model they serve.
        preferred: Batch sizes that are sent at once.
    """
    for pod in pods:
        if pod.ending:
            continue
        if granted.resize is not None and _limits(granted.resize) != pod.limits:
            yield resized(pod, granted.resize)
        if granted.batching is None or not pod.ready or pod.address is None:
            continue
        told = telling(pod, granted.batching, preferred)
        if told != pod.told:
            yield Load(
                pod=pod, model=model, batching=granted.batching, preferred=preferred, told=told
            )


def resized(pod: Pod, resize: Resize) -> Resized:
    """Return the resize of one pod.

    Requests that equalled the limits follow them and others stay, as a resize must not change a
    pod's class of service (Kubernetes, "Resize CPU and Memory Resources", limitations).
    """
    wanted = _limits(resize)
    return Resized(
        pod=pod.at,
        container=TRITON,
        limits=wanted,
        requests=Limits(
            cpu_milli=_requested(pod.requests.cpu_milli, pod.limits.cpu_milli, resize.cpu_milli),
            memory_bytes=_requested(
                pod.requests.memory_bytes, pod.limits.memory_bytes, resize.memory_bytes
            ),
        ),
    )


def _requested(request: int | None, limit: int | None, wanted: int) -> int:
    follows = request is None or request == limit
    return wanted if follows or request is None else min(request, wanted)


def telling(pod: Pod, batching: Batching, preferred: tuple[int, ...] = ()) -> str:
    """Return what is written on a pod whose server was told how to serve.

    It names the run of the server: one that started anew has forgotten.
    """
    said = {**asdict(batching), "instance": pod.instance}
    return json.dumps(said | ({"preferred": preferred} if preferred else {}), sort_keys=True)


def _limits(resize: Resize) -> Limits:
    return Limits(cpu_milli=resize.cpu_milli, memory_bytes=resize.memory_bytes)
