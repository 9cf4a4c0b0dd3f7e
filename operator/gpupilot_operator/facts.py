"""What one tick found out about a service: the input of its status."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.reasons import Reason
from gpupilot_operator.manual import Hand
from gpupilot_operator.spec_autoscaling import Mode
from gpupilot_operator.status_fields import ProofStatus


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
    PROFILE_MISSING = "ProfileMissing"
    PROFILE_REFUSED = "ProfileRefused"
    MEASURING = "ProfileBeingMeasured"
    INFEASIBLE = "ObjectiveInfeasible"

    @property
    def may_act(self) -> bool:
        """Whether it decides what is carried out."""
        return self in (PolicyState.CLASSICAL, PolicyState.PROVEN, PolicyState.OVERRIDDEN)

    @property
    def is_sized(self) -> bool:
        """Whether it is known what a replica carries, without which no controller can decide."""
        return self not in (
            PolicyState.PROFILE_MISSING,
            PolicyState.PROFILE_REFUSED,
            PolicyState.MEASURING,
            PolicyState.INFEASIBLE,
        )


class Rung(StrEnum):
    """Who decides now: the ladder from the policy down to the allocation that is safe."""

    POLICY = "PolicyDecides"
    CONTROLLER = "ControllerDecides"
    HOLD = "NobodyDecides"
    SAFE = "SafeReplicas"


class Cause(StrEnum):
    """Why it is that rung of the ladder."""

    IN_CHARGE = "PolicyInCharge"
    PROOF = "ProofNeeded"
    BUNDLE = "BundleRefused"
    UNSIZED = "ProfileNeeded"
    UNFAMILIAR = "OutOfDistribution"
    BURN = "SloBurn"
    BLIND = "SignalsMissing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One percentile after the other, as the users felt it.

    Attributes:
        p50_s: Median latency, ``None`` where there was no request.
        p95_s: 95th percentile.
        p99_s: 99th percentile.
        attainment_ratio: Share of requests in time, 0 to 1.
        rate_rps: Requests per second.
        source: Where it was measured.
    """

    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    attainment_ratio: float | None
    source: str
    rate_rps: float | None = None


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

    @property
    def sentence(self) -> str:
        """The decision as a person reads it, with the limit that bit first."""
        first = self.reasons[0]
        return first.meaning if Reason.NOBODY_DECIDES in self.reasons else self.because(first)

    def because(self, limit: Reason) -> str:
        """The decision as a person reads it, with one of the limits that bit."""
        asked, granted = self.asked.replicas, self.granted.replicas
        return f"{self.policy} asked for {asked}, {granted} granted: {limit.meaning}"


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
        cause: Why.
        policy_said: What is to be known of the policy's state beyond its word, a clause.
        grant: The decision; ``None`` before the first.
        shadow: What a learned policy that may not act would have been granted.
        observed: Users' latency; ``None`` where it is not known.
        other_writer: Who else sets the replicas, such as ``HorizontalPodAutoscaler/shop``.
        hand: A count set by hand that is kept for its time.
        pause: What the annotation that pauses says; ``None`` without one.
        trouble: Why pods do not answer, as far as the cluster says.
        refused: What has kept its objects from being as it asks for a while.
        proof: What is known of the gate; ``None`` of a classical policy.
    """

    running: Allocation
    ready: int
    mode: Mode
    metrics: MetricsState
    policy: PolicyState
    rung: Rung
    cause: Cause = Cause.IN_CHARGE
    policy_said: str = ""
    grant: Grant | None = None
    shadow: Grant | None = None
    observed: Observed | None = None
    other_writer: str | None = None
    hand: Hand | None = None
    pause: str | None = None
    trouble: str | None = None
    refused: str | None = None
    proof: ProofStatus | None = None


def says_more(before: Facts | None, after: Facts) -> bool:
    """Whether a decision comes to something that the one before did not.

    Who asks may ask for a little more or less at every tick; while the same is granted for the
    same reasons to what runs the same, nothing new is said.
    """
    return before is None or _gist(before) != _gist(after)


def _gist(facts: Facts) -> tuple[object, ...]:
    grant = facts.grant
    said = None if grant is None else (grant.granted, grant.reasons, grant.policy)
    return facts.running, facts.mode, facts.rung, facts.cause, said
