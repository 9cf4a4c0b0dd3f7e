"""From what was granted to what has to be changed: pure, and nothing where nothing differs.

Each change goes its own way (``docs/actuators.md``): replicas by the scale subresource, CPU and
memory by an in-place resize of the pods, instances and batching by Triton, the share by a second
Deployment that takes over.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpupilot_envs.allocation import Allocation
from gpupilot_operator.facts import Facts
from gpupilot_operator.spec_autoscaling import Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize:
    """Limits of a pod.

    Attributes:
        cpu_milli: Thousandths of a core.
        memory_bytes: Bytes.
    """

    cpu_milli: int
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """How Triton serves in a pod.

    Attributes:
        instances: Model instances.
        batch_max: Largest batch.
        queue_delay_us: How long a batch waits to fill.
    """

    instances: int
    batch_max: int
    queue_delay_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be changed; ``None`` stays as it is.

    Attributes:
        replicas: Pods.
        share_milli: Share of a GPU of a pod, in thousandths.
        resize: Limits of every pod.
        batching: How Triton serves in every pod.
    """

    replicas: int | None = None
    share_milli: int | None = None
    resize: Resize | None = None
    batching: Batching | None = None


def planned(facts: Facts) -> Plan | None:
    """Return what is to be changed after a tick, ``None`` where nothing is.

    Nothing is changed in modes Observe and Paused, nor while somebody else sets the replicas too.
    """
    if facts.grant is None or facts.mode is not Mode.ACT or facts.other_writer is not None:
        return None
    return difference(facts.grant.granted, facts.running)


def difference(granted: Allocation, running: Allocation) -> Plan | None:
    """Return what leads from what runs to what was granted, ``None`` where they are equal."""
    if granted == running:
        return None
    return Plan(
        replicas=_changed(granted.replicas, running.replicas),
        share_milli=_changed(granted.gpu_share_milli, running.gpu_share_milli),
        resize=_resize(granted) if _resize(granted) != _resize(running) else None,
        batching=_batching(granted) if _batching(granted) != _batching(running) else None,
    )


def _changed(granted: int, running: int) -> int | None:
    return granted if granted != running else None


def _resize(allocation: Allocation) -> Resize:
    return Resize(cpu_milli=allocation.cpu_milli, memory_bytes=allocation.memory_bytes)


def _batching(allocation: Allocation) -> Batching:
    return Batching(
        instances=allocation.instances_per_replica,
        batch_max=allocation.batch_max,
        queue_delay_us=allocation.queue_delay_us,
    )
