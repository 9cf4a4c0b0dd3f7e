"""Why the guardrail granted what it granted: one vocabulary for conditions, events and metrics."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """A limit that shaped a verdict, in the CamelCase that Kubernetes conditions use.

    ``TooFewReplicas``, ``TooManyReplicas`` and ``DesiredWithinRange`` mean what they mean in the
    conditions of the HorizontalPodAutoscaler (kubernetes/kubernetes
    ``pkg/controller/podautoscaler/horizontal.go``). The order of the members is the order of the
    bits the compiled guardrail answers with: append, never reorder.
    """

    DESIRED_WITHIN_RANGE = "DesiredWithinRange"
    SIGNALS_MISSING = "SignalsMissing"
    SIGNALS_STALE = "SignalsStale"
    WARMING_UP = "WarmingUp"
    FLAP_BUDGET_SPENT = "FlapBudgetSpent"
    COOLING_DOWN = "CoolingDown"
    CONSOLIDATION_REFUSED = "ConsolidationRefused"
    STEP_LIMITED = "StepLimited"
    TOO_FEW_REPLICAS = "TooFewReplicas"
    TOO_MANY_REPLICAS = "TooManyReplicas"
    BUDGET_REACHED = "BudgetReached"
    GEAR_COOLING_DOWN = "GearCoolingDown"
    SHARE_OUT_OF_RANGE = "ShareOutOfRange"
    SURGE_OVER_BUDGET = "SurgeOverBudget"
    OUT_OF_DISTRIBUTION = "OutOfDistribution"
    SCALING_PAUSED = "ScalingPaused"
    SET_BY_HAND = "SetByHand"
    QUOTA_REACHED = "QuotaReached"
    SAFE_REPLICAS = "SafeReplicas"
    NOBODY_DECIDES = "NobodyDecides"

    @property
    def bit(self) -> int:
        """The flag of this reason in the compiled guardrail's answer; 0 when nothing bit."""
        return _BITS[self]

    @property
    def meaning(self) -> str:
        """One line for a person reading a condition or an event."""
        return _MEANINGS[self]


def reasons_of(bits: int) -> tuple[Reason, ...]:
    """Return the reasons whose flags are set, in the order the rules were applied."""
    found = tuple(reason for reason in Reason if bits & reason.bit)
    return found or (Reason.DESIRED_WITHIN_RANGE,)


_BITS: dict[Reason, int] = {reason: (1 << at) >> 1 for at, reason in enumerate(Reason)}

_MEANINGS: dict[Reason, str] = {
    Reason.DESIRED_WITHIN_RANGE: "what was asked lies within every limit",
    Reason.SIGNALS_MISSING: "the source answered nothing to decide on, so what runs is kept",
    Reason.SIGNALS_STALE: "the newest sample is too old to decide on, so what runs is kept",
    Reason.WARMING_UP: "too little history since the start to remove replicas",
    Reason.FLAP_BUDGET_SPENT: "too many reversals within the hour, so no replica is removed",
    Reason.COOLING_DOWN: "the last change is too recent for another one in this direction",
    Reason.CONSOLIDATION_REFUSED: "the remaining replicas could not carry the present load",
    Reason.STEP_LIMITED: "more replicas at once than one decision may add or remove",
    Reason.TOO_FEW_REPLICAS: "the desired count is less than the minimum",
    Reason.TOO_MANY_REPLICAS: "the desired count is more than the maximum",
    Reason.BUDGET_REACHED: "more GPU shares than the budget allows",
    Reason.GEAR_COOLING_DOWN: "limits, instances or batching were changed too recently",
    Reason.SHARE_OUT_OF_RANGE: "a GPU share outside its bounds",
    Reason.SURGE_OVER_BUDGET: "old and new pods together need more GPU shares than the budget",
    Reason.OUT_OF_DISTRIBUTION: "unlike all it was trained on, so the classical controller decides",
    Reason.SCALING_PAUSED: "an annotation pauses changes in this direction",
    Reason.SET_BY_HAND: "a count set by hand is kept for its time",
    Reason.QUOTA_REACHED: "the namespace's quota of GPUs leaves no room for more",
    Reason.SAFE_REPLICAS: "signals stayed away, so what was declared safe is asked for",
    Reason.NOBODY_DECIDES: "neither the policy nor a controller may decide, so what runs is kept",
}
