"""Conditions as Kubernetes keeps them: told anew at every look, moved only when they change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from gpupilot_operator.status_fields import Condition, ConditionStatus, ConditionType

_FORM = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one look says of one condition.

    Attributes:
        type: Which condition.
        holds: Whether it is so; ``None`` where that cannot be known yet.
        reason: Why, in one CamelCase word.
        message: Why, in a sentence.
    """

    type: ConditionType
    holds: bool | None
    reason: str
    message: str

    @property
    def status(self) -> ConditionStatus:
        """The word Kubernetes has for it."""
        if self.holds is None:
            return ConditionStatus.UNKNOWN
        return ConditionStatus.TRUE if self.holds else ConditionStatus.FALSE


def as_told(condition: Condition) -> Told:
    """Return what a look would say to which a condition is as it is."""
    known = condition.status is not ConditionStatus.UNKNOWN
    return Told(
        type=ConditionType(condition.type),
        holds=condition.status is ConditionStatus.TRUE if known else None,
        reason=condition.reason,
        message=condition.message,
    )


def settled(
    before: Sequence[Condition], told: Sequence[Told], *, generation: int, now: datetime
) -> tuple[Condition, ...]:
    """Return the conditions after a look; the time of one moves only with its status.

    Args:
        before: Conditions as they stood.
        told: What the look says, each type once.
        generation: Of the spec that was looked at.
        now: Time of the look, in UTC.
    """
    earlier = {each.type: each for each in before}
    return tuple(_settled(earlier.get(each.type), each, generation, now) for each in told)


def _settled(before: Condition | None, told: Told, generation: int, now: datetime) -> Condition:
    moved = before is None or before.status != told.status
    return Condition(
        type=told.type,
        status=told.status,
        reason=told.reason,
        message=told.message,
        last_transition_time=written(now)
        if moved or before is None
        else (before.last_transition_time),
        observed_generation=generation,
    )


def written(time: datetime) -> str:
    """Return a time as Kubernetes writes it, to the second."""
    return time.strftime(_FORM)


def read_time(text: str) -> float:
    """Return the Unix time of a time as Kubernetes writes it, such as :func:`written` did."""
    return datetime.fromisoformat(text).astimezone(UTC).timestamp()
