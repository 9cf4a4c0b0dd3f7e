"""A pod as Kubernetes sees it: its phase, its place, and the order in which pods are removed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Phase(IntEnum):
    """Life of a pod; the order is that in which a scale-down removes pods."""

    PENDING = 0
    STARTING = 1
    READY = 2
    DRAINING = 3
    GONE = 4


@dataclass(slots=True, kw_only=True)
class Pod:
    """One pod.

    Attributes:
        number: From 1, in order of creation.
        share_milli: Share of a GPU it was created to hold.
        phase: Where it is in its life.
        gpu: Index of its GPU, ``None`` before it is bound.
        slot: Slot in the engine, ``None`` before it first answers.
        started: Whether its container answers; a readiness gate may still hold it back.
        ready_s: When it last became ready.
        restarts: Crashes so far.
    """

    number: int
    share_milli: int
    phase: Phase = Phase.PENDING
    gpu: int | None = None
    slot: int | None = None
    started: bool = False
    ready_s: float = 0.0
    restarts: int = 0


def removal_order(pod: Pod) -> tuple[int, float, int]:
    """Return the key by which a scale-down sorts pods, first to go first.

    As the ReplicaSet controller ranks them (``ActivePodsWithRanks`` in kubernetes
    ``pkg/controller/controller_utils.go``): unassigned before assigned, not ready before
    ready, ready for a shorter time before longer, newer before older. Its rule on pods
    doubled up on a node and its random choice among ties are left out.
    """
    ready_s = pod.ready_s if pod.phase is Phase.READY else 0.0
    return (pod.phase, -ready_s, -pod.number)
