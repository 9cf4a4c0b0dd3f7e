"""Which limits that hold back what was asked are worth an event: pure.

A limit begins to hold when the status begins to say so (:mod:`.settling`): at once where something
is done, else when it has lasted. What passes is told by nobody then, and a restart tells nothing
anew, because the status says already what it said.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from gpupilot_envs.reasons import Reason
from gpupilot_operator.facts import Grant
from gpupilot_operator.ports import Event
from gpupilot_operator.status_fields import Decision, InferenceServiceStatus

AGAIN_S = 3600.0
"""A limit of a service is told no sooner again: its last event is there for as long (the API
server's ``--event-ttl``)."""
_TOLD_OTHERWISE = frozenset(
    {
        Reason.SIGNALS_MISSING,
        Reason.SIGNALS_STALE,
        Reason.OUT_OF_DISTRIBUTION,
        Reason.SET_BY_HAND,
        Reason.SAFE_REPLICAS,
        Reason.NOBODY_DECIDES,
    }
)
"""No limits, but why somebody else decides or nobody: events of their own say so."""


def begun(
    before: InferenceServiceStatus,
    after: InferenceServiceStatus,
    grant: Grant,
    said_s: Mapping[Reason, float],
    now_s: float,
) -> tuple[Reason, ...]:
    """Return the limits that a status begins to tell of and that are worth an event.

    Args:
        before: The status as it stands.
        after: What it is to tell.
        grant: The decision of this tick.
        said_s: When each limit last had an event, Unix time.
        now_s: Unix time.
    """
    told = _decision(before)
    if grant.asked == grant.granted or _decision(after) == told:
        return ()
    held = () if told is None else told.constraints_applied
    limits = (each for each in grant.reasons if each.bit and each not in _TOLD_OTHERWISE)
    return tuple(
        each
        for each in limits
        if each.value not in held and now_s - said_s.get(each, -inf) >= AGAIN_S
    )


def limit_event(grant: Grant, limit: Reason) -> Event:
    """Return the event that says that a limit began to hold; it has the limit's own name."""
    return Event(reason=limit.value, message=grant.because(limit))


def _decision(status: InferenceServiceStatus) -> Decision | None:
    return None if status.autoscaling is None else status.autoscaling.last_decision
