"""What people say beside the spec: a count set by hand for its time, pauses, an override.

A count set on the resource lies in ``spec.predictor.replicas``, where ``kubectl scale`` writes it.
When its time is over it is taken out again, so that the next one is a change whatever its value. A
count set on the Deployment shows as replicas that nobody here asked for. Since when either holds
stands in the status, and so survives a restart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from gpupilot_operator.conditions import read_time, written
from gpupilot_operator.naming import GROUP
from gpupilot_operator.spec_autoscaling import Mode
from gpupilot_operator.status_fields import ManualStatus, Where

PAUSE = f"{GROUP}/pause"
OVERRIDE = f"{GROUP}/override-gate"
PAUSES = ("up", "down", "both")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hand:
    """A count set by hand.

    Attributes:
        replicas: The count.
        at: Where it was set.
        since_s: Unix time from which on it holds.
        until_s: Unix time until which it holds.
    """

    replicas: int
    at: Where
    since_s: float
    until_s: float

    def holds(self, now_s: float) -> bool:
        """Whether it is still to be kept."""
        return now_s < self.until_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Pauses:
    """Which ways replicas may not change.

    Attributes:
        up: Whether none is added.
        down: Whether none is removed.
    """

    up: bool = False
    down: bool = False


def hand_of(
    set_by_hand: int | None,
    replicas: int,
    told: ManualStatus | None,
    hold_s: float,
    now_s: float,
) -> Hand | None:
    """Return the count set by hand, also when its time is over; ``None`` where there is none.

    Args:
        set_by_hand: ``spec.predictor.replicas``.
        replicas: What the Deployment asks for.
        told: What the status says of a count set by hand.
        hold_s: How long one is kept.
        now_s: Unix time.
    """
    if set_by_hand is None:
        kept = None if told is None else _told(told)
        on_deployment = kept is not None and kept.at is Where.DEPLOYMENT
        still = kept is not None and kept.holds(now_s) and kept.replicas == replicas
        return kept if on_deployment and still else None
    known = told is not None and told.at is Where.RESOURCE and told.replicas == set_by_hand
    since_s = _told(told).since_s if known and told is not None else now_s
    return set_now(set_by_hand, Where.RESOURCE, hold_s, min(since_s, now_s))


def set_now(replicas: int, at: Where, hold_s: float, now_s: float) -> Hand:
    """Return a count that begins to hold, to the second."""
    since_s = float(int(now_s))
    return Hand(replicas=replicas, at=at, since_s=since_s, until_s=since_s + hold_s)


def _told(told: ManualStatus) -> Hand:
    return Hand(
        replicas=told.replicas,
        at=told.at,
        since_s=read_time(told.since),
        until_s=read_time(told.until),
    )


def manual_status(hand: Hand | None) -> ManualStatus | None:
    """Return what the status says of a count set by hand, until it is out of the spec."""
    if hand is None:
        return None
    since, until = (written(datetime.fromtimestamp(at, UTC)) for at in (hand.since_s, hand.until_s))
    return ManualStatus(replicas=hand.replicas, at=hand.at, since=since, until=until)


def pauses_of(annotations: Mapping[str, str]) -> Pauses:
    """Return what the pause annotation says; an unknown word pauses both ways, to be safe."""
    said = annotations.get(PAUSE)
    if said is None:
        return Pauses()
    word = said.strip().lower()
    return Pauses(up=word != "down", down=word != "up")


def mode_of(spec: Mode, pauses: Pauses) -> Mode:
    """Return the mode in force."""
    return Mode.PAUSED if pauses.up and pauses.down else spec


def overrides_gate(annotations: Mapping[str, str]) -> bool:
    """Whether a person lets the policy act without a passed gate."""
    return annotations.get(OVERRIDE, "").strip().lower() == "true"
