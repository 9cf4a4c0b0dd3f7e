"""From readings to verdicts for all services at once: pure, but for what it learns on the way.

The order is that of every world the policy ever met: take in the reading, let the policy speak,
restrain. Live, four things stand around it: the ladder says who decides, a count set by hand goes
before all, pauses hold back one direction, and a namespace's quota is dealt out among its services.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.guardrail import GuardrailMemory, limits_row, restrain_replicas
from gpupilot_envs.limits import Limits
from gpupilot_envs.reasons import Reason, reasons_of
from gpupilot_envs.signals import Signals
from gpupilot_operator.budget import Claim, within_quota
from gpupilot_operator.cases import SEATED, Case, case_of, look_of, sitter_of
from gpupilot_operator.classical import chair_of, seated
from gpupilot_operator.facts import Cause, Grant, Rung
from gpupilot_operator.ladder import stepped
from gpupilot_operator.manual import Pauses
from gpupilot_operator.memory import State
from gpupilot_operator.ports import Seen
from gpupilot_operator.spec_autoscaling import Mode, PolicyKind

QUEUEING = "queueing"
BY_HAND = "kubectl-scale"
NOBODY = "nobody"
SAFE = "safe-replicas"


def judge(
    state: State, services: Sequence[Seen], readings: Mapping[str, Signals], now_s: float
) -> list[Case]:
    """Return every service with its verdict.

    Args:
        state: What is kept; histories and policies' memories move on.
        services: As the cluster shows them.
        readings: By key; a service without one has no signals.
        now_s: Time of the tick.
    """
    cases = [case_of(state, seen, readings.get(seen.service.key), now_s) for seen in services]
    sitters = [sitter for case in cases if (sitter := sitter_of(case)) is not None]
    doubted = state.seating.observe(sitters, {case.key: case.reading for case in cases})
    for case in cases:
        look = look_of(case, doubted, now_s)
        case.record.footing, case.step = stepped(case.record.footing, look)
    _let_speak(state, cases, now_s)
    for case in cases:
        if case.mode is not Mode.PAUSED:
            case.grant = _overruled(case, _verdict(case, now_s), now_s)
    _deal_out(cases)
    return cases


def _let_speak(state: State, cases: Sequence[Case], now_s: float) -> None:
    """Ask everybody in a seat: the policies that may only rehearse first, then who decides."""
    alone = {case.key for case in cases if _by_itself(case)}
    silenced = {case.key for case in cases if case.key in alone and _has_policy(case)}
    shadows = state.seating.rehearse(now_s) if silenced else {}
    opinions = state.seating.decide(alone, now_s)
    for case in cases:
        case.opinion = opinions.get(case.key)
        case.shadow = shadows.get(case.key) if case.key in silenced else None


def shadow_grant(case: Case) -> Grant | None:
    """Return what a learned policy that may not act would have had."""
    if case.shadow is None:
        return None
    return Grant(
        asked=case.shadow.asked,
        granted=case.shadow.granted,
        reasons=case.shadow.reasons,
        policy=case.known.candidate.name,
    )


def _by_itself(case: Case) -> bool:
    """Whether the controller decides without the policy; in doubt it does so in its own kernel."""
    if case.kind is PolicyKind.QUEUEING:
        return True
    return case.step.rung is not Rung.POLICY and case.step.cause is not Cause.UNFAMILIAR


def _has_policy(case: Case) -> bool:
    return case.kind is PolicyKind.LEARNED and case.known.candidate.refused is None


def _verdict(case: Case, now_s: float) -> Grant:
    """Return what who decides asked for, and what the guardrail granted."""
    limits, running = case.seen.service.spec.limits, case.seen.running
    guard = case.record.guard
    if case.step.rung is Rung.SAFE:
        declared = case.seen.service.spec.autoscaling.fallback.replicas or 0
        ask = replace(running, replicas=max(running.replicas, declared))
        case.why = "signals stayed away: what was declared safe"
        return declared_grant(ask, running, limits, guard, now_s, SAFE, Reason.SAFE_REPLICAS)
    if case.step.rung is Rung.HOLD or (case.kind in SEATED and case.opinion is None):
        case.why = "what runs is kept"
        return declared_grant(running, running, limits, guard, now_s, NOBODY, Reason.NOBODY_DECIDES)
    if case.opinion is None:
        return _in_chair(case, now_s)
    case.why = case.opinion.why
    controller = case.kind is PolicyKind.QUEUEING or case.step.rung is Rung.CONTROLLER
    return Grant(
        asked=case.opinion.asked,
        granted=case.opinion.granted,
        reasons=case.opinion.reasons,
        policy=QUEUEING if controller else case.known.candidate.name,
    )


def _in_chair(case: Case, now_s: float) -> Grant:
    """Return what HPA, KEDA, KPA or a constant decides, or decided a moment ago."""
    service, running = case.seen.service, case.seen.running
    chair = seated(
        chair_of(service, case.record.chair),
        service,
        running,
        case.reading,
        case.size,
        case.record.guard,
        now_s,
    )
    case.record.chair = chair
    decision = chair.decision
    if decision is None:
        raise AssertionError("a chair decides at its first tick")
    case.fresh, case.why = decision.at_s == now_s, decision.why
    # between its decisions it wants nothing, and the last one is old: it is not carried out then
    if not case.fresh and case.acts and decision.granted != running:
        decision = replace(
            decision, ask=running, granted=running, reasons=(Reason.DESIRED_WITHIN_RANGE,)
        )
    return Grant(
        asked=decision.ask,
        granted=decision.granted,
        reasons=decision.reasons,
        policy=chair.policy.name,
    )


def declared_grant(
    ask: Allocation,
    running: Allocation,
    limits: Limits,
    guard: GuardrailMemory,
    now_s: float,
    policy: str,
    reason: Reason,
) -> Grant:
    """Return what is granted of an ask that rests on a declaration and not on readings.

    The guardrail's rules on readings have nothing to say of it; bounds, steps, cooldowns and the
    budget hold.
    """
    replicas, bits = restrain_replicas(
        ask.replicas,
        running.replicas,
        limits_row(limits),
        guard.row(limits.flaps_per_hour_max),
        now_s,
        0.0,
        np.inf,
        0.0,
        np.nan,
        running.gpu_share_milli,
    )
    return Grant(
        asked=ask,
        granted=replace(running, replicas=replicas),
        reasons=(reason, *(each for each in reasons_of(bits) if each.bit)),
        policy=policy,
    )


def _overruled(case: Case, grant: Grant, now_s: float) -> Grant:
    """Return the grant after a count set by hand and pauses have had their say."""
    running, limits = case.seen.running, case.seen.service.spec.limits
    if case.hand is not None and case.hand.holds(now_s):
        case.why, case.fresh = "a count set by hand is kept for its time", True
        asked = replace(running, replicas=case.hand.replicas)
        granted = replace(running, replicas=_bounded(case.hand.replicas, running, limits))
        return Grant(asked=asked, granted=granted, reasons=(Reason.SET_BY_HAND,), policy=BY_HAND)
    if _paused(case.pauses, grant.granted, running):
        reasons = (Reason.SCALING_PAUSED, *(each for each in grant.reasons if each.bit))
        return replace(grant, granted=running, reasons=reasons)
    return grant


def _bounded(replicas: int, running: Allocation, limits: Limits) -> int:
    affordable = limits.gpu_budget_milli // running.gpu_share_milli
    return min(max(replicas, limits.replicas_min), limits.replicas_max, affordable)


def _paused(pauses: Pauses, granted: Allocation, running: Allocation) -> bool:
    """Whether a change goes a way that is paused; another share replaces pods, which is both."""
    other_pods = granted.gpu_share_milli != running.gpu_share_milli
    up = granted.replicas > running.replicas or other_pods
    down = granted.replicas < running.replicas or other_pods
    return (pauses.up and up) or (pauses.down and down)


def _deal_out(cases: Sequence[Case]) -> None:
    """Hold every namespace within its quota of GPUs, where it has one."""
    namespaces: dict[str, list[Case]] = {}
    for case in cases:
        namespaces.setdefault(case.seen.service.namespace, []).append(case)
    for together in namespaces.values():
        quotas = [c.seen.quota_milli for c in together if c.seen.quota_milli is not None]
        if quotas:
            _hold_within(together, min(quotas))


def _hold_within(cases: Sequence[Case], quota_milli: int) -> None:
    claims = [
        Claim(
            running=case.seen.running,
            granted=case.grant.granted if case.grant and case.acts else case.seen.running,
        )
        for case in cases
    ]
    for case, claim, granted in zip(cases, claims, within_quota(claims, quota_milli), strict=True):
        if case.grant is not None and case.acts and granted != claim.granted:
            reasons = (*(each for each in case.grant.reasons if each.bit), Reason.QUOTA_REACHED)
            case.grant = replace(case.grant, granted=granted, reasons=reasons)
