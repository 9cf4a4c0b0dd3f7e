"""What one tick found out about a service: the input of its status."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.reasons import Reason
from gpupilot_operator.spec_autoscaling import Mode


class MetricsState(StrEnum):
    """Whether there was something to decide on."""

    FOUND = "MetricsFound"
    MISSING = "MetricsMissing"
    STALE = "MetricsStale"


class PolicyState(StrEnum):
    """Whether the policy of the spec may act, and why not."""

    CLASSICAL = "ClassicalPolicy"
    PROVEN = "GatePassed"
    OVERRIDDEN = "GateOverridden"
    UNPROVEN = "ProofMissing"
    EXPIRED = "ProofExpired"
    HELD = "GateHeld"
    REFUSED = "BundleRefused"

    @property
    def may_act(self) -> bool:
        """Whether it decides what is carried out."""
        return self in (PolicyState.CLASSICAL, PolicyState.PROVEN, PolicyState.OVERRIDDEN)


class Rung(StrEnum):
    """Who decides now: the ladder from the policy down to the allocation that is safe."""

    POLICY = "PolicyDecides"
    CONTROLLER = "ControllerDecides"
    SAFE = "SafeReplicas"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One percentile after the other, as the users felt it.

    Attributes:
        p50_s: Median latency, ``None`` where there was no request.
        p95_s: 95th percentile.
        p99_s: 99th percentile.
        attainment_ratio: Share of requests in time, 0 to 1.
        source: Where it was measured.
    """

    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    attainment_ratio: float | None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What was asked and what was granted.

    Attributes:
        asked: What whoever decides asked for.
        granted: What the guardrail granted.
        reasons: The limits that bit, never empty.
        policy: Who asked, by name or digest.
    """

    asked: Allocation
    granted: Allocation
    reasons: tuple[Reason, ...]
    policy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that is told of a service after a tick.

    Attributes:
        running: What it runs with; its replicas are the pods there are.
        ready: Pods that answer.
        mode: The mode in force, which an annotation may have changed.
        metrics: Whether there was something to decide on.
        policy: Whether the policy may act.
        rung: Who decides now.
        grant: The decision; ``None`` before the first.
        observed: Users' latency; ``None`` where it is not known.
        other_writer: Who else sets the replicas, such as ``HorizontalPodAutoscaler/shop``.
    """

    running: Allocation
    ready: int
    mode: Mode
    metrics: MetricsState
    policy: PolicyState
    rung: Rung
    grant: Grant | None = None
    observed: Observed | None = None
    other_writer: str | None = None
