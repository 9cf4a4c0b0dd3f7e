"""What a service runs with: the one noun every policy asks for and every world carries out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """Replicas and the limits of each replica, integers only.

    Attributes:
        replicas: Number of pods, 0 or more.
        gpu_share_milli: Share of one GPU per pod in thousandths, 1 to 1000.
        cpu_milli: CPU limit per pod in thousandths of a core.
        memory_bytes: Memory limit per pod.
        instances_per_replica: Triton model instances per pod, 1 or more.
        batch_max: Largest batch the dynamic batcher may form, 1 or more.
        queue_delay_us: Triton ``max_queue_delay_microseconds``, 0 or more.
    """

    replicas: int
    gpu_share_milli: int = 1000
    cpu_milli: int = 1000
    memory_bytes: int = 2 * 1024**3
    instances_per_replica: int = 1
    batch_max: int = 8
    queue_delay_us: int = 0
