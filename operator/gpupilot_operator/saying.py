"""What a tick found out, in the words that conditions and events have for people: pure."""

from __future__ import annotations

from gpupilot_envs.reasons import Reason
from gpupilot_operator.conditions import Told
from gpupilot_operator.facts import Cause, Facts, Grant, MetricsState, PolicyState, Rung
from gpupilot_operator.manual import PAUSE, PAUSES
from gpupilot_operator.service import Service
from gpupilot_operator.spec_autoscaling import Controller, Mode
from gpupilot_operator.status_fields import ConditionType

NOT_AS_ASKED = "ReconcileFailed"
"""Reason of what says why objects are not as a resource asks."""

_METRICS = {
    MetricsState.FOUND: "the newest reading is fresh enough to decide on",
    MetricsState.MISSING: "Prometheus answers nothing about this service; nothing is scaled down",
    MetricsState.STALE: "the newest reading is too old to decide on; nothing is scaled down",
}
_POLICIES = {
    PolicyState.CLASSICAL: "a classical controller needs no proof",
    PolicyState.PROVEN: "the policy beat the baselines on this service's own traffic",
    PolicyState.OVERRIDDEN: "an annotation lets the policy act without a passed gate",
    PolicyState.UNPROVEN: "no gate was passed yet",
    PolicyState.EXPIRED: "the gate was passed too long ago",
    PolicyState.HELD: "the gate held the policy back",
    PolicyState.REFUSED: "the policy's bundle could not be used",
    PolicyState.PROFILE_MISSING: "no service profile: nobody can say how many pods are needed",
    PolicyState.PROFILE_REFUSED: "the service profile cannot be read",
    PolicyState.MEASURING: "what a pod carries is being worked out",
    PolicyState.INFEASIBLE: "by its profile no pod can meet the objective",
}
_RUNGS = {
    Rung.POLICY: "the policy of spec.autoscaling decides",
    Rung.CONTROLLER: "the queueing controller decides in the policy's place",
    Rung.HOLD: "what runs is kept",
    Rung.SAFE: "spec.autoscaling.fallback.replicas are asked for",
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


def conditions_of(service: Service, facts: Facts) -> tuple[Told, ...]:
    """Return what is and is not so, the summary first."""
    return (
        _ready(service, facts),
        Told(
            type=ConditionType.METRICS_AVAILABLE,
            holds=facts.metrics is MetricsState.FOUND,
            reason=facts.metrics.value,
            message=metrics_sentence(facts.metrics),
        ),
        _able(facts),
        _limited(facts.grant),
        Told(
            type=ConditionType.POLICY_READY,
            holds=facts.policy.may_act,
            reason=facts.policy.value,
            message=policy_sentence(service, facts),
        ),
        Told(
            type=ConditionType.FALLBACK,
            holds=facts.rung is not Rung.POLICY,
            reason=facts.rung.value if facts.rung is Rung.POLICY else facts.cause.value,
            message=rung_sentence(facts),
        ),
        _conflict(facts.other_writer),
    )


def metrics_sentence(state: MetricsState) -> str:
    """Return whether there is something to decide on."""
    return _METRICS[state]


def policy_sentence(service: Service, facts: Facts) -> str:
    """Return whether the policy may act, and what happens where it may not."""
    said = _POLICIES[facts.policy]
    if not facts.policy.may_act:
        said = f"{said}; {_instead(service, facts)}"
    return _with(said, facts.policy_said)


def rung_sentence(facts: Facts) -> str:
    """Return who decides, and why."""
    return _with(_RUNGS[facts.rung], _CAUSES[facts.cause])


def cause_sentence(cause: Cause) -> str:
    """Return why the policy did not decide."""
    return _CAUSES[cause]


def _instead(service: Service, facts: Facts) -> str:
    """Return what happens while the policy may not act."""
    acts = facts.mode is Mode.ACT
    stands_by = service.spec.autoscaling.fallback.controller is Controller.QUEUEING
    if facts.policy.is_sized and stands_by:
        return f"the queueing controller {'acts' if acts else 'would act in mode Act'}"
    return f"what runs {'is' if acts else 'would be'} kept"


def _with(said: str, more: str) -> str:
    return f"{said} ({more})" if more else said


def _ready(service: Service, facts: Facts) -> Told:
    kind, least = ConditionType.READY, service.spec.predictor.min_replicas
    if facts.refused is not None:
        return Told(type=kind, holds=False, reason=NOT_AS_ASKED, message=facts.refused)
    said = f"{facts.ready} of {facts.running.replicas} pods answer; at least {least} must"
    if facts.ready >= least:
        return Told(type=kind, holds=True, reason="PodsReady", message=said)
    message = _with(said, facts.trouble or "")
    return Told(type=kind, holds=False, reason="PodsNotReady", message=message)


def _able(facts: Facts) -> Told:
    """Say whether a decision would be carried out now."""
    told = ("ReadyToScale", f"decisions are carried out{_but(facts)}")
    if facts.other_writer is not None:
        told = (
            "ReplicaConflict",
            f"{facts.other_writer} sets the replicas too: nothing is changed",
        )
    elif facts.mode is Mode.OBSERVE:
        told = ("Observing", "mode Observe: decisions are shown, nothing is changed")
    elif facts.mode is Mode.PAUSED:
        told = ("Paused", f"{_paused_by(facts.pause)}: nothing is decided or changed")
    holds = told[0] == "ReadyToScale"
    return Told(type=ConditionType.ABLE_TO_SCALE, holds=holds, reason=told[0], message=told[1])


def _but(facts: Facts) -> str:
    """Return what a pause of one direction leaves out."""
    way = {"up": "no pod is added", "down": "no pod is removed"}.get(_word(facts.pause))
    return "" if way is None else f", but {way}: the annotation {PAUSE}={facts.pause}"


def _paused_by(pause: str | None) -> str:
    if pause is None:
        return "mode Paused"
    said = f"the annotation {PAUSE}={pause}"
    return said if _word(pause) in PAUSES else f"{said} is none of {', '.join(PAUSES)}"


def _word(pause: str | None) -> str:
    return "" if pause is None else pause.strip().lower()


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
