"""What one replica carries within the objective, found by simulation and remembered."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What one replica of a service can do.

    Attributes:
        slo_rps: Largest Poisson rate in requests/s at which the targets are still met.
        saturation_rps: Requests/s answered when the queue is never empty.
        idle_latency_s: Mean latency of a lone request.
    """

    slo_rps: float
    saturation_rps: float
    idle_latency_s: float
