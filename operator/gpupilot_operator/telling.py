"""What is told of a service outside the control loop's own status: events, and why nothing runs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from gpupilot_operator import naming
from gpupilot_operator.conditions import Told, settled
from gpupilot_operator.known import Known
from gpupilot_operator.ports import Event
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


def unready(resource: Resource, known: Known | None, now: datetime) -> Mapping[str, Any] | None:
    """Return the patch of a status that says why nothing can run; ``None`` where nothing is new.

    Args:
        resource: The resource.
        known: What the cluster shows of it; ``None`` where its spec cannot be read.
        now: In UTC.
    """
    told = _why(resource, known)
    if told is None:
        return None
    before = resource.status.conditions
    (ready,) = settled(before, [told], generation=resource.generation, now=now)
    after = (ready, *(each for each in before if each.type != ready.type))
    if after == before and resource.status.observed_generation == resource.generation:
        return None
    conditions = [each.model_dump(mode="json", by_alias=True) for each in after]
    return {"status": {"observedGeneration": resource.generation, "conditions": conditions}}


def _why(resource: Resource, known: Known | None) -> Told | None:
    if resource.invalid is not None:
        said = f"{resource.invalid}; nothing of it was changed"
        return _not_ready(SPEC_INVALID, said)
    if known is None or known.newest is not None:
        return None
    target = known.service.spec.predictor.target_ref
    if target is None:
        return None
    said = f"there is no {target.kind.value}/{target.name} in this namespace that could be scaled"
    return _not_ready(TARGET_NOT_FOUND, said)


def _not_ready(reason: str, message: str) -> Told:
    return Told(type=ConditionType.READY, holds=False, reason=reason, message=message)
