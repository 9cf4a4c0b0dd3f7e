"""When a status tells something else than it tells: at once what is done, later what only seems.

A tick decides for every service, and what it finds may go to and fro with the noise of readings,
or be wrong for once because Prometheus did not answer. Told at every tick that would cost every
service a write at every tick, and a thousand at once whenever a query takes too long.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpupilot_operator.facts import MetricsState
from gpupilot_operator.status_fields import Decision

LASTS_S = 60.0
"""A decision that changes nothing is told when it has differed from the one told for as long."""
TICKS = 3
"""Ticks in a row without something to decide on that are told; what runs is kept in the first."""
_TELLING = ("current_replicas", "granted_replicas", "constraints_applied", "policy")
"""Fields of a decision that make it another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """What is told of a service's readings.

    Attributes:
        told: What is told.
        unlike: Ticks in a row that found something else.
    """

    told: MetricsState
    unlike: int = 0


def steadied(before: Steady | None, found: MetricsState) -> Steady:
    """Return what is told after a tick.

    Args:
        before: What was told; ``None`` at the first look.
        found: What the tick found.
    """
    if before is None or found in (before.told, MetricsState.FOUND):
        return Steady(told=found)
    unlike = before.unlike + 1
    return Steady(told=found) if unlike >= TICKS else Steady(told=before.told, unlike=unlike)


def same(decision: Decision | None, told: Decision | None) -> bool:
    """Say whether a decision comes to what the one that is told came to.

    Who asks may ask for a little more or less at every tick; while the same is granted for the
    same reasons, that is a matter of the decision log.
    """
    if decision is None or told is None:
        return decision is told
    return all(getattr(decision, name) == getattr(told, name) for name in _TELLING)


def waits(decision: Decision | None, told: Decision | None, *, done: bool) -> bool:
    """Say whether a decision is another one than is told, and is told only if it lasts.

    Args:
        decision: Of this tick.
        told: What the status tells.
        done: Whether the decision changes something.
    """
    if done or decision is None or told is None or decision.policy != told.policy:
        return False
    return not same(decision, told)


def retold(decision: Decision | None, told: Decision | None, *, done: bool, lasted: bool) -> bool:
    """Say whether a decision is to be told in the place of the one that is; see :func:`waits`.

    Args:
        decision: Of this tick.
        told: What the status tells.
        done: Whether the decision changes something.
        lasted: Whether what is told has not been so for long enough.
    """
    return not same(decision, told) and (lasted or not waits(decision, told, done=done))
