"""When a status tells another decision than the one it tells: pure.

A decision is taken at every tick, and what is granted may go to and fro with the noise of the
readings. What is done is told at once; what is only shown is told once a minute at the most, or
every service in mode Observe could cost a write at every tick.
"""

from __future__ import annotations

from datetime import datetime

from gpupilot_operator.conditions import read_time
from gpupilot_operator.status_fields import Decision

EVERY_S = 60.0
_TELLING = ("current_replicas", "granted_replicas", "constraints_applied", "policy")
"""Fields of a decision that make it another one."""


def same(decision: Decision | None, told: Decision | None) -> bool:
    """Say whether a decision comes to what the one that is told came to.

    Who asks may ask for a little more or less at every tick; while the same is granted for the
    same reasons, that is a matter of the decision log.
    """
    if decision is None or told is None:
        return decision is told
    return all(getattr(decision, name) == getattr(told, name) for name in _TELLING)


def retold(decision: Decision | None, told: Decision | None, *, done: bool, now: datetime) -> bool:
    """Say whether a decision is to be told in the place of the one that is.

    Args:
        decision: Of this tick.
        told: What the status tells; its time is when it was told.
        done: Whether the decision changes something.
        now: Time of the tick, in UTC.
    """
    if same(decision, told):
        return False
    if done or decision is None or told is None or decision.policy != told.policy:
        return True
    # a time in the future is of a clock that was wrong
    return not 0.0 <= now.timestamp() - read_time(told.time) < EVERY_S


def waits(decision: Decision | None, told: Decision | None, *, done: bool, now: datetime) -> bool:
    """Say whether a decision is another one, and is told later; see :func:`retold`."""
    return not same(decision, told) and not retold(decision, told, done=done, now=now)
