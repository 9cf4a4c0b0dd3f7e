"""What goes wrong, on demand: crashes, slow nodes, and metrics that fail in three ways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gpupilot_envs.errors import InputInvalid


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowNode:
    """A GPU whose executions take longer for a while.

    Attributes:
        gpu: Index of the GPU, from 0.
        from_s: Start of the spell.
        until_s: End of the spell.
        factor: Execution time relative to a healthy GPU, above 0.
    """

    gpu: int
    from_s: float
    until_s: float
    factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricFault:
    """A time in which the metrics fail.

    Attributes:
        kind: ``"outage"``: scrapes fail, series end with a staleness marker. ``"silent"``:
            no samples arrive and none is marked stale. ``"nan"``: every value is NaN.
        from_s: Start, the first scrape that fails comes after it.
        until_s: End, the first scrape that succeeds comes after it.
    """

    kind: Literal["outage", "silent", "nan"]
    from_s: float
    until_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """All that goes wrong in one run; by default nothing.

    Attributes:
        pod_crashes_s: Times at which one ready pod's container dies: what it holds is lost
            and it starts cold on the same GPU.
        slow_nodes: Spells of slow GPUs.
        metrics: Times in which metrics fail; they do not overlap.
    """

    pod_crashes_s: tuple[float, ...] = ()
    slow_nodes: tuple[SlowNode, ...] = ()
    metrics: tuple[MetricFault, ...] = ()

    def __post_init__(self) -> None:
        """Refuse spells that end before they start and factors that are not positive."""
        spells: tuple[SlowNode | MetricFault, ...] = (*self.slow_nodes, *self.metrics)
        for spell in spells:
            if not spell.until_s > spell.from_s:
                raise InputInvalid("until_s", spell.until_s, f"more than from_s {spell.from_s}")
        for node in self.slow_nodes:
            if not node.factor > 0:
                raise InputInvalid("factor", node.factor, "more than 0")
