"""Who decides: the policy, the queueing controller in its place, or what was declared safe.

Pure, and with hysteresis: down the ladder at once, up again only after a quiet while, so that two
deciders never take turns.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from gpupilot_envs.signals import Signals
from gpupilot_operator.burn import TRIP_S, Burn, burns, counted
from gpupilot_operator.facts import Cause, MetricsState, PolicyState, Rung
from gpupilot_operator.spec_autoscaling import Controller, Fallback

SEEING_S = 60.0
"""Seconds of fresh readings before what is safe gives way to a decider again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Footing:
    """Where a service stands on the ladder; what must be remembered between two looks.

    Attributes:
        blind_since_s: Since when nothing fresh was read; ``None`` while there is.
        seeing_since_s: Since when readings have been fresh without a break.
        safe: Whether the declared safe replicas are asked for.
        tripped_until_s: Until when the policy stands back after burning the objective.
        decided: Whether a learned policy decided what was carried out last.
        burn: What it is judged on.
    """

    blind_since_s: float | None = None
    seeing_since_s: float | None = None
    safe: bool = False
    tripped_until_s: float = float("-inf")
    decided: bool = False
    burn: Burn = field(default=Burn())


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is known of a service at one tick, before anybody decides.

    Attributes:
        now_s: Time of the tick.
        reading: The newest one.
        objective: Share of requests that must be in time.
        metrics: Whether there is something to decide on.
        policy: Whether the policy may act.
        doubted: Whether the learned policy does not know what it sees, or did not a minute ago.
        rehearsing: Whether nothing is carried out anyway, so that an unproven policy may show
            what it would do.
        fallback: Who stands by, and what is safe.
    """

    now_s: float
    reading: Signals
    objective: float
    metrics: MetricsState
    policy: PolicyState
    doubted: bool
    rehearsing: bool
    fallback: Fallback


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Who decides, and why.

    Attributes:
        rung: Who.
        cause: Why.
    """

    rung: Rung
    cause: Cause


def stepped(footing: Footing, look: Look) -> tuple[Footing, Step]:
    """Return where a service stands after a look, and who decides now."""
    footing = _burnt(_looked(footing, look), look)
    step = _step(footing, look)
    learned = look.policy in (PolicyState.PROVEN, PolicyState.OVERRIDDEN)
    decides = step.rung is Rung.POLICY and learned and not look.rehearsing
    return replace(footing, decided=decides), step


def _step(footing: Footing, look: Look) -> Step:
    if footing.safe:
        return Step(rung=Rung.SAFE, cause=Cause.BLIND)
    if not look.policy.is_sized:
        return Step(rung=Rung.HOLD, cause=Cause.UNSIZED)
    cause = _objection(footing, look)
    if cause is None:
        return Step(rung=Rung.POLICY, cause=Cause.IN_CHARGE)
    stands_by = look.fallback.controller is Controller.QUEUEING
    return Step(rung=Rung.CONTROLLER if stands_by else Rung.HOLD, cause=cause)


def _looked(footing: Footing, look: Look) -> Footing:
    """Return the footing after noting whether there was anything to see."""
    if look.metrics is MetricsState.FOUND:
        since_s = look.now_s if footing.seeing_since_s is None else footing.seeing_since_s
        safe = footing.safe and look.now_s - since_s < SEEING_S
        return replace(footing, blind_since_s=None, seeing_since_s=since_s, safe=safe)
    since_s = look.now_s if footing.blind_since_s is None else footing.blind_since_s
    long_enough = look.now_s - since_s >= look.fallback.after_seconds
    safe = look.fallback.replicas is not None and (footing.safe or long_enough)
    return replace(footing, blind_since_s=since_s, seeing_since_s=None, safe=safe)


def _burnt(footing: Footing, look: Look) -> Footing:
    """Return the footing after judging the policy that decided last by what came of it."""
    if not footing.decided:
        return replace(footing, burn=replace(footing.burn, at_s=None))
    burn = counted(footing.burn, look.reading, look.now_s)
    if burns(burn, look.objective):
        return replace(footing, burn=Burn(), tripped_until_s=look.now_s + TRIP_S)
    return replace(footing, burn=burn)


def _objection(footing: Footing, look: Look) -> Cause | None:
    """Return why the policy may not decide; ``None`` where it may."""
    if look.policy is PolicyState.REFUSED:
        return Cause.BUNDLE
    if not look.policy.may_act and not look.rehearsing:
        return Cause.PROOF
    if look.now_s < footing.tripped_until_s:
        return Cause.BURN
    return Cause.UNFAMILIAR if look.doubted else None
