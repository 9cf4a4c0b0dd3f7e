"""HPA, KEDA, KPA and a constant at the controls of one service each.

The very objects that comparisons and the gate run (:mod:`gpupilot_agent.baselines`), on the path
every policy takes (:func:`gpupilot_agent.rollout.decide`), each at its own pace.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from gpupilot_agent.baselines import registry
from gpupilot_agent.policies import Policy, View, fresh_history
from gpupilot_agent.rollout import Decision, decide
from gpupilot_envs import embedded
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.guardrail import GuardrailMemory
from gpupilot_envs.serving.capacity import Capacity
from gpupilot_envs.signals import History, Signals
from gpupilot_operator.service import Service
from gpupilot_operator.sizing import Size, shipped_profile
from gpupilot_operator.spec_autoscaling import PolicyKind

NAMES = {
    PolicyKind.HPA: "hpa",
    PolicyKind.KEDA: "keda",
    PolicyKind.KPA: "kpa-rps",
    PolicyKind.STATIC: "static",
}
"""Which baseline stands behind a policy of the spec; KPA counts requests, which a gateway tells."""
_UNKNOWN = Capacity(slo_rps=np.nan, saturation_rps=np.nan, idle_latency_s=np.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chair:
    """One service's controller and what it remembers.

    Attributes:
        policy: The controller.
        history: Its readings, newest last.
        memory: Its own memory.
        decision: What it last decided; ``None`` before the first.
    """

    policy: Policy
    history: History
    memory: Any = None
    decision: Decision | None = None


def chair_of(service: Service, before: Chair | None) -> Chair:
    """Return the chair of a service: the one it had, or a new one where its policy changed."""
    policy = policy_of(service)
    if before is not None and before.policy == policy:
        return before
    return Chair(policy=policy, history=fresh_history(policy))


def policy_of(service: Service) -> Policy:
    """Return the controller that a service's spec asks for."""
    autoscaling = service.spec.autoscaling
    replicas = autoscaling.fallback.replicas
    constant = replicas if autoscaling.policy is PolicyKind.STATIC else None
    return _made(NAMES[autoscaling.policy], constant)


@cache
def _made(name: str, replicas: int | None) -> Policy:
    return registry.make(name, None if replicas is None else {"replicas": replicas})


def seated(
    chair: Chair,
    service: Service,
    running: Allocation,
    reading: Signals,
    size: Size | None,
    guard: GuardrailMemory,
    now_s: float,
) -> Chair:
    """Return the chair after a reading and, where it is its time, a decision.

    Args:
        chair: As it was.
        service: The resource.
        running: What runs.
        reading: The newest one.
        size: What a replica carries; ``None`` where nobody knows.
        guard: What the guardrail remembers.
        now_s: Time of the tick.
    """
    history = chair.history.push(reading)
    last = chair.decision
    # half a second early is on time: ticks are not that exact
    if last is not None and now_s - last.at_s < chair.policy.period_s - 0.5:
        return replace(chair, history=history)
    view = View(
        now_s=now_s,
        history=history,
        current=running,
        limits=service.spec.limits,
        targets=service.spec.targets,
        profile=shipped_profile(embedded.DEFAULT) if size is None else size.profile,
        capacity=_UNKNOWN if size is None else size.capacity,
    )
    decided = decide(chair.policy, view, chair.memory, guard)
    return replace(chair, history=history, memory=decided.memory, decision=decided.decision)
