"""What is told of a service outside the control loop's own status: events, and why nothing runs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from gpupilot_operator import naming
from gpupilot_operator.conditions import Told, settled
from gpupilot_operator.known import Known
from gpupilot_operator.ports import Event
from gpupilot_operator.saying import NOT_AS_ASKED
from gpupilot_operator.status_fields import ConditionType
from gpupilot_operator.views import Name, Resource

NOTE_MOST = 1024
"""Bytes of an event's text (``events.k8s.io/v1``)."""
SPEC_INVALID = "SpecInvalid"
TARGET_NOT_FOUND = "TargetNotFound"


def event(at: Name, uid: str, said: Event, *, by: str, now: datetime) -> dict[str, Any]:
    """Return the event to post.

    Args:
        at: The resource it is about.
        uid: Of the resource.
        said: What is said.
        by: Who says it: this replica.
        now: In UTC.
    """
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"generateName": f"{at.name}-", "namespace": at.namespace},
        "regarding": {
            "apiVersion": naming.API_VERSION,
            "kind": naming.KIND,
            "name": at.name,
            "namespace": at.namespace,
            "uid": uid,
        },
        "reason": said.reason,
        "note": said.message.encode()[:NOTE_MOST].decode("utf-8", "ignore"),
        "type": "Warning" if said.warning else "Normal",
        "action": said.reason,
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": f"{naming.GROUP}/operator",
        "reportingInstance": by,
    }


def objection(resource: Resource, known: Known | None, wrong: str | None) -> Event | None:
    """Return what keeps a service from being as its resource asks; ``None`` where nothing does.

    Args:
        resource: The resource.
        known: What the cluster shows of it; ``None`` where its spec cannot be read.
        wrong: Why its objects could not be made or repaired; ``None`` where they could.
    """
    if resource.invalid is not None:
        said = f"{resource.invalid}; nothing of it was changed"
        return Event(reason=SPEC_INVALID, message=said, warning=True)
    target = None if known is None else known.service.spec.predictor.target_ref
    if known is not None and target is not None and known.newest is None:
        there = f"{target.kind.value}/{target.name} in this namespace that could be scaled"
        return Event(reason=TARGET_NOT_FOUND, message=f"there is no {there}", warning=True)
    return None if wrong is None else Event(reason=NOT_AS_ASKED, message=wrong, warning=True)


def unready(
    resource: Resource, known: Known | None, why: Event | None, now: datetime
) -> Mapping[str, Any] | None:
    """Return the patch of a status where nothing can run; ``None`` where nothing is new.

    What was told while something ran is taken back: nobody looks at it any more.

    Args:
        resource: The resource.
        known: What the cluster shows of it; ``None`` where its spec cannot be read.
        why: What stands in the way, see :func:`objection`.
        now: In UTC.
    """
    if why is None or (known is not None and known.newest is not None):
        return None
    told = [
        Told(type=kind, holds=False, reason=why.reason, message=why.message)
        for kind in (ConditionType.READY, ConditionType.ABLE_TO_SCALE)
    ]
    before = resource.status.conditions
    after = settled(before, told, generation=resource.generation, now=now)
    if after == before and resource.status.observed_generation == resource.generation:
        return None
    conditions = [each.model_dump(mode="json", by_alias=True) for each in after]
    status = {"observedGeneration": resource.generation, "conditions": conditions}
    pods = {} if known is None else {"replicas": 0, "readyReplicas": 0}
    return {"status": {**status, **pods}}
