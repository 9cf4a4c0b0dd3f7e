"""From what a tick found out to the resource's status: pure, and the same when nothing changed.

The status changes with a decision or a condition, so that a quiet service costs no write, and a
noisy one few (:mod:`.settling`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.reasons import Reason
from gpupilot_operator.conditions import Told, as_told, settled, written
from gpupilot_operator.facts import Facts, Grant, MetricsState, Observed, PolicyState
from gpupilot_operator.manual import manual_status
from gpupilot_operator.pod import PORTS
from gpupilot_operator.saying import conditions_of
from gpupilot_operator.service import Service
from gpupilot_operator.settling import Steady, retold, waits
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

_OF_DECISION = frozenset({ConditionType.SCALING_LIMITED})
_OF_POLICY = frozenset({ConditionType.POLICY_READY, ConditionType.FALLBACK})
"""Conditions that are so of a decision, and of who takes it."""


def status_of(
    service: Service,
    facts: Facts,
    before: InferenceServiceStatus,
    now: datetime,
    *,
    lasted: bool = False,
) -> InferenceServiceStatus:
    """Return the status after a tick.

    Args:
        service: The resource.
        facts: What the tick found out.
        before: The status as it stands.
        now: Time of the tick, in UTC.
        lasted: Whether what :func:`holds_back` has lasted (:data:`.settling.LASTS_S`).
    """
    earlier = before.autoscaling or AutoscalingStatus()
    decision, told_last = _decision(facts.grant, facts.running, now), earlier.last_decision
    done = _is_done(service, facts, before)
    unknown = not lasted and _is_measured_anew(service, facts, before)
    fresh = (
        decision is not None
        and not unknown
        and retold(decision, told_last, done=done, lasted=lasted)
    )
    still = decision is not None and not fresh
    autoscaling = earlier.model_copy(
        update={
            "mode": facts.mode.value,
            "policy": earlier.policy if unknown else _decider(facts, earlier),
            "proof": facts.proof,
            "manual": manual_status(facts.hand),
            "shadow": earlier.shadow if unknown else _shadow(facts, earlier, now, lasted=lasted),
        }
        | ({"last_decision": decision, "history": _history(earlier, decision)} if fresh else {})
    )
    kept = (_OF_DECISION if still else frozenset()) | (_OF_POLICY if unknown else frozenset())
    told = _conditions(service, facts, before, kept)
    return before.model_copy(
        update={
            "observed_generation": service.generation,
            "replicas": facts.running.replicas,
            "ready_replicas": facts.ready,
            "desired_replicas": before.desired_replicas if still else _desired(facts.grant),
            "selector": ",".join(f"{key}={value}" for key, value in service.selector().items()),
            "conditions": settled(before.conditions, told, generation=service.generation, now=now),
            "allocation": _allocation(facts.running),
            "url": _url(service),
            "model_status": _model_status(service, facts),
            "latency": _latency(facts.observed) if fresh else before.latency,
            "autoscaling": autoscaling,
        }
    )


def told_of_readings(status: InferenceServiceStatus) -> Steady | None:
    """Return what a status tells of readings: what is told goes on over a restart."""
    said = {each.type: each.reason for each in status.conditions}
    reason = said.get(ConditionType.METRICS_AVAILABLE)
    return Steady(told=MetricsState(reason)) if reason in set(MetricsState) else None


def holds_back(
    service: Service, facts: Facts, status: InferenceServiceStatus, now: datetime
) -> bool:
    """Say whether a status does not yet tell what was decided, because it may pass."""
    earlier = status.autoscaling or AutoscalingStatus()
    decision = _decision(facts.grant, facts.running, now)
    shadow = _decision(facts.shadow, facts.running, now)
    if _is_measured_anew(service, facts, status):
        return True
    done = _is_done(service, facts, status)
    return waits(decision, earlier.last_decision, done=done) or waits(
        shadow, earlier.shadow, done=False
    )


def _is_done(service: Service, facts: Facts, before: InferenceServiceStatus) -> bool:
    """Say whether a decision changes what runs, or is the first on another spec."""
    if facts.grant is None or _is_of_another_spec(service, before):
        return True
    acts = facts.mode is Mode.ACT and facts.other_writer is None
    return acts and facts.grant.granted.replicas != facts.running.replicas


def _is_measured_anew(service: Service, facts: Facts, status: InferenceServiceStatus) -> bool:
    """Say whether it was known what a pod carries, and is being worked out again.

    So it is after a restart, of every service at once, and soon over.
    """
    if facts.policy is not PolicyState.MEASURING or _is_of_another_spec(service, status):
        return False
    told = (each.reason for each in status.conditions if each.type == ConditionType.POLICY_READY)
    return next(told, PolicyState.MEASURING) != PolicyState.MEASURING


def _is_of_another_spec(service: Service, status: InferenceServiceStatus) -> bool:
    return status.observed_generation != service.generation


def _conditions(
    service: Service,
    facts: Facts,
    before: InferenceServiceStatus,
    kept: frozenset[ConditionType],
) -> tuple[Told, ...]:
    """Return what is and is not so, some of it as the status tells it."""
    known = {each.type: as_told(each) for each in before.conditions if each.type in kept}
    return tuple(known.get(each.type, each) for each in conditions_of(service, facts))


def _desired(grant: Grant | None) -> int | None:
    return None if grant is None else grant.granted.replicas


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
    if before == after:
        return None
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


def _decision(grant: Grant | None, running: Allocation, now: datetime) -> Decision | None:
    if grant is None:
        return None
    return Decision(
        time=written(now),
        current_replicas=running.replicas,
        asked_replicas=grant.asked.replicas,
        granted_replicas=grant.granted.replicas,
        reason=grant.reasons[0].value,
        constraints_applied=tuple(
            each.value for each in grant.reasons if each is not Reason.DESIRED_WITHIN_RANGE
        ),
        policy=grant.policy,
        message=grant.sentence,
    )


def _shadow(
    facts: Facts, earlier: AutoscalingStatus, now: datetime, *, lasted: bool
) -> Decision | None:
    """Return what a policy that may not act would have had."""
    decision = _decision(facts.shadow, facts.running, now)
    fresh = retold(decision, earlier.shadow, done=False, lasted=lasted)
    return decision if fresh else earlier.shadow


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
