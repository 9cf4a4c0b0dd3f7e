"""The cluster a service runs in: its GPUs, how requests are balanced, how pods are placed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gpupilot_envs.errors import InputInvalid

Balancing = Literal["random", "round_robin", "least_loaded"]

BALANCINGS: tuple[Balancing, ...] = ("random", "round_robin", "least_loaded")
"""In the order of the kernel's codes."""

WHOLE_MILLI = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What the service's pods run on.

    Attributes:
        gpus: GPUs in the cluster; a pod pends while none has its share free.
        balancing: ``"random"`` as kube-proxy does, ``"round_robin"``, or ``"least_loaded"``
            by requests queued and executing.
        scheduling_s: Seconds from a pod's creation to its binding when a GPU is free.
        drain_s: Seconds a terminating pod has to finish what it holds before it is killed
            (``terminationGracePeriodSeconds``).
    """

    gpus: int = 64
    balancing: Balancing = "random"
    scheduling_s: float = 1.0
    drain_s: float = 30.0

    def __post_init__(self) -> None:
        """Refuse what cannot be a cluster."""
        if self.gpus < 0:
            raise InputInvalid("gpus", self.gpus, "0 or more")
        if self.balancing not in BALANCINGS:
            raise InputInvalid("balancing", self.balancing, "one of " + ", ".join(BALANCINGS))
        for name in ("scheduling_s", "drain_s"):
            if not getattr(self, name) >= 0:
                raise InputInvalid(name, getattr(self, name), "seconds, 0 or more")


class Gpus:
    """Free shares of each GPU; pods are packed onto the fullest GPU that still fits them."""

    def __init__(self, count: int) -> None:
        """Start with ``count`` empty GPUs."""
        self._free_milli = [WHOLE_MILLI] * count

    def take(self, share_milli: int) -> int | None:
        """Reserve a share and return the GPU's index, or ``None`` when none has it free."""
        fits = [(free, gpu) for gpu, free in enumerate(self._free_milli) if free >= share_milli]
        if not fits:
            return None
        _, gpu = min(fits)
        self._free_milli[gpu] -= share_milli
        return gpu

    def give_back(self, gpu: int, share_milli: int) -> None:
        """Release a share."""
        self._free_milli[gpu] += share_milli
