"""From what a tick found out to the resource's status: pure, and the same when nothing changed.

The status changes with a decision or a condition, never with the clock alone, so that a quiet
service costs no write.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.reasons import Reason
from gpupilot_operator.conditions import Told, read_time, settled, written
from gpupilot_operator.facts import (
    Cause,
    Facts,
    Grant,
    MetricsState,
    Observed,
    PolicyState,
    Rung,
)
from gpupilot_operator.manual import manual_status
from gpupilot_operator.pod import PORTS
from gpupilot_operator.service import Service
from gpupilot_operator.spec_autoscaling import Mode
from gpupilot_operator.status_fields import (
    HISTORY_MOST,
    AllocationStatus,
    AutoscalingStatus,
    ConditionType,
    Decision,
    InferenceServiceStatus,
    LatencyStatus,
    ModelStatus,
)

_METRICS = {
    MetricsState.FOUND: "the newest reading is fresh enough to decide on",
    MetricsState.MISSING: "no series of this service answered; what runs is kept",
    MetricsState.STALE: "the newest reading is too old to decide on; what runs is kept",
}
_POLICIES = {
    PolicyState.CLASSICAL: "a classical controller needs no proof",
    PolicyState.PROVEN: "the policy beat the baselines on this service's own traffic",
    PolicyState.OVERRIDDEN: "an annotation lets the policy act without a passed gate",
    PolicyState.UNPROVEN: "no gate was passed yet: the fallback controller acts",
    PolicyState.EXPIRED: "the passed gate is too old: the fallback controller acts",
    PolicyState.HELD: "the gate held the policy back: the fallback controller acts",
    PolicyState.REFUSED: "the policy's bundle could not be used: the fallback controller acts",
    PolicyState.PROFILE_MISSING: "no service profile: nobody can say how many pods are needed",
    PolicyState.PROFILE_REFUSED: "the service profile cannot be read: what runs is kept",
    PolicyState.MEASURING: "what a pod carries is being worked out; what runs is kept meanwhile",
    PolicyState.INFEASIBLE: "by its profile no pod can meet the objective: what runs is kept",
}
_RUNGS = {
    Rung.POLICY: "the policy of spec.autoscaling decides",
    Rung.CONTROLLER: "the queueing controller decides in the policy's place",
    Rung.HOLD: "what runs is kept",
    Rung.SAFE: "signals stayed away: spec.autoscaling.fallback.replicas are asked for",
}
_CAUSES = {
    Cause.IN_CHARGE: "",
    Cause.PROOF: "the policy has not shown that it may act",
    Cause.BUNDLE: "the policy's bundle could not be used",
    Cause.UNSIZED: "it is not known what a pod carries",
    Cause.UNFAMILIAR: "the policy was not trained on what it sees",
    Cause.BURN: "the objective was missed by far while the policy decided",
    Cause.BLIND: "nothing fresh was read for too long",
}
SHADOW_EVERY_S = 60.0
_TELLING = ("current_replicas", "granted_replicas", "constraints_applied", "policy")
"""Fields of a decision that make it another one."""


def status_of(
    service: Service, facts: Facts, before: InferenceServiceStatus, now: datetime
) -> InferenceServiceStatus:
    """Return the status after a tick.

    Args:
        service: The resource.
        facts: What the tick found out.
        before: The status as it stands.
        now: Time of the tick, in UTC.
    """
    told = conditions_of(service, facts)
    earlier = before.autoscaling or AutoscalingStatus()
    decision = _decision(facts.grant, facts.running, now)
    fresh = decision is not None and not _same(decision, earlier.last_decision)
    autoscaling = earlier.model_copy(
        update={
            "mode": facts.mode.value,
            "policy": _decider(facts, earlier),
            "proof": facts.proof,
            "manual": manual_status(facts.hand),
            "shadow": _shadow(facts, earlier, now),
        }
        | ({"last_decision": decision, "history": _history(earlier, decision)} if fresh else {})
    )
    return before.model_copy(
        update={
            "observed_generation": service.generation,
            "replicas": facts.running.replicas,
            "ready_replicas": facts.ready,
            "desired_replicas": facts.grant.granted.replicas if facts.grant else None,
            "selector": ",".join(f"{key}={value}" for key, value in service.selector().items()),
            "conditions": settled(before.conditions, told, generation=service.generation, now=now),
            "allocation": _allocation(facts.running),
            "url": _url(service),
            "model_status": _model_status(service, facts),
            "latency": _latency(facts.observed) if fresh else before.latency,
            "autoscaling": autoscaling,
        }
    )


def _url(service: Service) -> str | None:
    """Return where requests go; a target's Service is somebody else's to name."""
    if service.spec.predictor.model is None:
        return None
    return f"http://{service.name}.{service.namespace}.svc:{PORTS['http']}"


def _model_status(service: Service, facts: Facts) -> ModelStatus | None:
    """Return how far the model is: a pod is ready when its model answers."""
    if service.spec.predictor.model is None:
        return None
    is_whole = facts.ready >= facts.running.replicas
    return ModelStatus(
        transition_status="UpToDate" if is_whole else "InProgress", copies=facts.ready
    )


def status_patch(
    before: InferenceServiceStatus, after: InferenceServiceStatus
) -> dict[str, Any] | None:
    """Return the merge patch of the status subresource, ``None`` where nothing differs."""
    changed = _merging(_document(before), _document(after))
    return {"status": changed} if changed else None


def _merging(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merge patch (RFC 7386) from one document to another: what is gone is ``None``."""
    made: dict[str, Any] = {}
    for key in old.keys() | new.keys():
        earlier, later = old.get(key), new.get(key)
        if earlier == later:
            continue
        if isinstance(earlier, Mapping) and isinstance(later, Mapping):
            later = _merging(earlier, later)
        made[key] = later
    return made


def _document(status: InferenceServiceStatus) -> dict[str, Any]:
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def conditions_of(service: Service, facts: Facts) -> tuple[Told, ...]:
    """Return what is and is not so, the summary first."""
    return (
        _ready(service, facts),
        Told(
            type=ConditionType.METRICS_AVAILABLE,
            holds=facts.metrics is MetricsState.FOUND,
            reason=facts.metrics.value,
            message=_METRICS[facts.metrics],
        ),
        _able(facts),
        _limited(facts.grant),
        Told(
            type=ConditionType.POLICY_READY,
            holds=facts.policy.may_act,
            reason=facts.policy.value,
            message=_sentence(_POLICIES[facts.policy], facts.policy_said),
        ),
        Told(
            type=ConditionType.FALLBACK,
            holds=facts.rung is not Rung.POLICY,
            reason=facts.rung.value if facts.rung is Rung.POLICY else facts.cause.value,
            message=_sentence(_RUNGS[facts.rung], _CAUSES[facts.cause]),
        ),
        _conflict(facts.other_writer),
    )


def _sentence(said: str, more: str) -> str:
    return f"{said} ({more})" if more else said


def _ready(service: Service, facts: Facts) -> Told:
    least = service.spec.predictor.min_replicas
    enough = facts.ready >= least
    return Told(
        type=ConditionType.READY,
        holds=enough,
        reason="PodsReady" if enough else "PodsNotReady",
        message=f"{facts.ready} of {facts.running.replicas} pods answer; at least {least} must",
    )


def _able(facts: Facts) -> Told:
    """Say whether a decision would be carried out now."""
    told = ("ReadyToScale", "decisions are carried out")
    if facts.other_writer is not None:
        told = (
            "ReplicaConflict",
            f"{facts.other_writer} sets the replicas too: nothing is changed",
        )
    elif facts.mode is Mode.OBSERVE:
        told = ("Observing", "mode Observe: decisions are shown, nothing is changed")
    elif facts.mode is Mode.PAUSED:
        told = ("Paused", "mode Paused: nothing is decided or changed")
    holds = told[0] == "ReadyToScale"
    return Told(type=ConditionType.ABLE_TO_SCALE, holds=holds, reason=told[0], message=told[1])


def _limited(grant: Grant | None) -> Told:
    kind = ConditionType.SCALING_LIMITED
    if grant is None:
        return Told(type=kind, holds=None, reason="NotDecidedYet", message="no decision was taken")
    reason = grant.reasons[0]
    bit = reason is not Reason.DESIRED_WITHIN_RANGE
    return Told(type=kind, holds=bit, reason=reason.value, message=reason.meaning)


def _conflict(other: str | None) -> Told:
    kind = ConditionType.REPLICA_CONFLICT
    if other is None:
        return Told(type=kind, holds=False, reason="OneWriter", message="nobody else sets replicas")
    said = f"{other} sets the replicas too; remove one of the two"
    return Told(type=kind, holds=True, reason="OtherWriter", message=said)


def _decision(grant: Grant | None, running: Allocation, now: datetime) -> Decision | None:
    if grant is None:
        return None
    asked, granted = grant.asked.replicas, grant.granted.replicas
    reason = grant.reasons[0]
    return Decision(
        time=written(now),
        current_replicas=running.replicas,
        asked_replicas=asked,
        granted_replicas=granted,
        reason=reason.value,
        constraints_applied=tuple(
            each.value for each in grant.reasons if each is not Reason.DESIRED_WITHIN_RANGE
        ),
        policy=grant.policy,
        message=f"{grant.policy} asked for {asked}, {granted} granted: {reason.meaning}",
    )


def _same(decision: Decision, before: Decision | None) -> bool:
    """Say whether a decision comes to what the last one came to.

    Who asks may ask for a little more or less at every tick; while the same is granted for the
    same reasons, that is a matter of the decision log.
    """
    if before is None:
        return False
    return all(getattr(decision, name) == getattr(before, name) for name in _TELLING)


def _shadow(facts: Facts, earlier: AutoscalingStatus, now: datetime) -> Decision | None:
    """Return what a policy that may not act would have had, told anew once a minute at the most.

    What is only rehearsed may change at every tick, and would cost a write at every tick.
    """
    decision, known = _decision(facts.shadow, facts.running, now), earlier.shadow
    if decision is None or known is None or decision.policy != known.policy:
        return decision
    young = 0.0 <= now.timestamp() - read_time(known.time) < SHADOW_EVERY_S
    return known if young or _same(decision, known) else decision


def _history(earlier: AutoscalingStatus, decision: Decision | None) -> tuple[Decision, ...]:
    if decision is None or decision.granted_replicas == decision.current_replicas:
        return earlier.history
    return (decision, *earlier.history)[:HISTORY_MOST]


def _decider(facts: Facts, earlier: AutoscalingStatus) -> str | None:
    return facts.grant.policy if facts.grant else earlier.policy


def _allocation(running: Allocation) -> AllocationStatus:
    return AllocationStatus(
        replicas=running.replicas,
        gpu_share_milli=running.gpu_share_milli,
        cpu_milli=running.cpu_milli,
        memory_mebibytes=running.memory_bytes // 2**20,
        instances=running.instances_per_replica,
        max_batch_size=running.batch_max,
    )


def _latency(observed: Observed | None) -> LatencyStatus | None:
    if observed is None:
        return None
    share = observed.attainment_ratio
    return LatencyStatus(
        p50=_milliseconds(observed.p50_s),
        p95=_milliseconds(observed.p95_s),
        p99=_milliseconds(observed.p99_s),
        # rounded down: 99.96 % must not be read as all
        attainment_percent="none" if share is None else f"{int(share * 1000) / 10:.1f}",
        source=observed.source,
    )


def _milliseconds(seconds: float | None) -> str:
    return "none" if seconds is None else f"{1000.0 * seconds:.0f}ms"
