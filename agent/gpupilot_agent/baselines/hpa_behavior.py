"""HPA v2, second half: from raw recommendations to the replicas that are set.

Source: kubernetes/kubernetes ``pkg/controller/podautoscaler/horizontal.go``
(``normalizeDesiredReplicas`` when ``spec.behavior`` is nil, otherwise
``normalizeDesiredReplicasWithBehaviors``) and ``pkg/apis/autoscaling/v2/defaults.go``. The two
paths are different controllers: the first caps every sync at ``max(2 * current, 4)`` without a
memory of changes, the second keeps a ledger of changes per period.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

DOWNSCALE_STABILIZATION_S = 300.0
"""``--horizontal-pod-autoscaler-downscale-stabilization``."""

Stamped = tuple[float, int]
"""A time in seconds and a number of replicas: a recommendation, or a signed change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behavior:
    """``spec.behavior`` with the values the API server fills in when a part is left out.

    Attributes:
        up_window_s: ``scaleUp.stabilizationWindowSeconds``.
        up_pods: The Pods policy of ``scaleUp``: pods added per period.
        up_percent: The Percent policy of ``scaleUp``; the larger of the two policies counts.
        up_period_s: ``periodSeconds`` of both.
        down_window_s: ``scaleDown.stabilizationWindowSeconds``.
        down_percent: The Percent policy of ``scaleDown``.
        down_period_s: Its ``periodSeconds``.
    """

    up_window_s: float = 0.0
    up_pods: int = 4
    up_percent: float = 100.0
    up_period_s: float = 15.0
    down_window_s: float = DOWNSCALE_STABILIZATION_S
    down_percent: float = 100.0
    down_period_s: float = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HpaMemory:
    """What the controller keeps between syncs.

    Attributes:
        recommendations: Raw recommendations with their times, oldest first.
        changes: Changes of replicas with their times, signed, oldest first.
        seen: Time and replicas of the last sync, to notice the changes since.
    """

    recommendations: tuple[Stamped, ...] = ()
    changes: tuple[Stamped, ...] = ()
    seen: Stamped | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalized:
    """Replicas to set, the reason in the words of HPA conditions, and the memory to keep."""

    replicas: int
    reason: str
    memory: HpaMemory


def begin_sync(memory: HpaMemory | None, now_s: float, current: int) -> HpaMemory:
    """Return the memory as a sync finds it: the first one records the running replicas."""
    if memory is None or memory.seen is None:
        return HpaMemory(recommendations=((now_s, current),), seen=(now_s, current))
    seen_at_s, seen = memory.seen
    changes = memory.changes
    if current != seen:
        changes = (*changes, (seen_at_s, current - seen))
    return replace(memory, changes=changes, seen=(now_s, current))


def without_behavior(
    memory: HpaMemory,
    now_s: float,
    desired: int,
    bounds: tuple[int, int],
    window_s: float = DOWNSCALE_STABILIZATION_S,
) -> Normalized:
    """Normalise as for an HPA whose ``behavior`` is nil.

    Args:
        memory: From :func:`begin_sync`.
        now_s: Time of the sync.
        desired: Raw recommendation.
        bounds: ``minReplicas`` and ``maxReplicas``.
        window_s: Downscale stabilization of the controller.
    """
    recent = _since(memory.recommendations, now_s - window_s, inclusive=True)
    stabilized = max([desired, *(count for _, count in recent)])
    kept = replace(memory, recommendations=(*recent, (now_s, desired)))
    least, most = bounds
    up_limit = max(2 * _current(memory), 4)
    if stabilized < least:
        return Normalized(replicas=least, reason="TooFewReplicas", memory=kept)
    if stabilized > min(most, up_limit):
        reason = "ScaleUpLimit" if most > up_limit else "TooManyReplicas"
        return Normalized(replicas=min(most, up_limit), reason=reason, memory=kept)
    reason = "ScaleDownStabilized" if stabilized != desired else "DesiredWithinRange"
    return Normalized(replicas=stabilized, reason=reason, memory=kept)


def with_behavior(
    memory: HpaMemory, now_s: float, desired: int, bounds: tuple[int, int], behavior: Behavior
) -> Normalized:
    """Normalise as for an HPA with a ``behavior``, its missing parts filled in.

    Args:
        memory: From :func:`begin_sync`.
        now_s: Time of the sync.
        desired: Raw recommendation.
        bounds: ``minReplicas`` and ``maxReplicas``.
        behavior: The rules.
    """
    stabilized = _stabilize(memory, now_s, desired, behavior)
    window_s = max(behavior.up_window_s, behavior.down_window_s)
    kept = replace(
        memory,
        recommendations=(
            *_since(memory.recommendations, now_s - window_s, inclusive=True),
            (now_s, desired),
        ),
        changes=_since(
            memory.changes,
            now_s - max(behavior.up_period_s, behavior.down_period_s),
            inclusive=True,
        ),
    )
    replicas, reason = _rate_limited(memory, now_s, stabilized, bounds, behavior)
    if reason == "DesiredWithinRange" and stabilized != desired:
        up = desired >= _current(memory)
        reason = "ScaleUpStabilized" if up else "ScaleDownStabilized"
    return Normalized(replicas=replicas, reason=reason, memory=kept)


def _stabilize(memory: HpaMemory, now_s: float, desired: int, behavior: Behavior) -> int:
    # Strictly after the cutoff, unlike the path without a behavior: upstream differs so.
    up = _since(memory.recommendations, now_s - behavior.up_window_s, inclusive=False)
    down = _since(memory.recommendations, now_s - behavior.down_window_s, inclusive=False)
    lowest = min([desired, *(count for _, count in up)])
    highest = max([desired, *(count for _, count in down)])
    return min(max(_current(memory), lowest), highest)


def _rate_limited(
    memory: HpaMemory, now_s: float, desired: int, bounds: tuple[int, int], behavior: Behavior
) -> tuple[int, str]:
    current, (least, most) = _current(memory), bounds
    if desired > current:
        began = current - _changed(memory, now_s - behavior.up_period_s)
        by_percent = ceil(began * (1.0 + behavior.up_percent / 100.0))
        limit = max(began + behavior.up_pods, by_percent, current)
        reason = "ScaleUpLimit" if most > limit else "TooManyReplicas"
        if desired > min(most, limit):
            return min(most, limit), reason
    elif desired < current:
        began = current - _changed(memory, now_s - behavior.down_period_s)
        limit = min(int(began * (1.0 - behavior.down_percent / 100.0)), current)
        reason = "ScaleDownLimit" if least < limit else "TooFewReplicas"
        if desired < max(least, limit):
            return max(least, limit), reason
    return desired, "DesiredWithinRange"


def _current(memory: HpaMemory) -> int:
    assert memory.seen is not None
    return memory.seen[1]


def _changed(memory: HpaMemory, cutoff_s: float) -> int:
    return sum(change for _, change in _since(memory.changes, cutoff_s, inclusive=False))


def _since(
    stamped: tuple[Stamped, ...], cutoff_s: float, *, inclusive: bool
) -> tuple[Stamped, ...]:
    return tuple(one for one in stamped if one[0] > cutoff_s or (inclusive and one[0] == cutoff_s))
