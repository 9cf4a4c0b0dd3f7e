"""Why pods do not answer, from statuses as the kubelet and the controllers write them."""

from __future__ import annotations

from typing import Any

import pytest

from gpupilot_operator.troubles import failure, trouble

READY = {"type": "Ready", "status": "True"}
NO_ROOM = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
ENDED = {"terminated": {"exitCode": 1}}


def waiting(word: str, **more: Any) -> dict[str, Any]:
    return {"ready": False, "restartCount": 0, "state": {"waiting": {"reason": word}}, **more}


RUNS = {"ready": False, "restartCount": 0, "state": {"running": {}}, "lastState": {}}
WELL = {"ready": True, "restartCount": 3, "state": {"running": {}}, "lastState": ENDED}


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({}, None),
        ({"conditions": [READY], "containerStatuses": [WELL]}, None),
        ({"conditions": [NO_ROOM]}, "Unschedulable"),
        ({"containerStatuses": [RUNS]}, None),
        ({"containerStatuses": [waiting("ContainerCreating")]}, None),
        ({"containerStatuses": [WELL, waiting("InvalidImageName")]}, "InvalidImageName"),
        ({"containerStatuses": [waiting("ErrImagePull")]}, "ImagePullBackOff"),
        ({"containerStatuses": [waiting("ImagePullBackOff")]}, "ImagePullBackOff"),
        (
            {"initContainerStatuses": [waiting("ImageInspectError", name="storage")]},
            "storage ImageInspectError",
        ),
    ],
)
def test_a_pod_says_why_it_does_not_answer(status: dict[str, Any], said: str | None) -> None:
    assert trouble(status) == said


def test_a_container_that_keeps_ending_is_told_the_same_between_its_starts() -> None:
    again = {**RUNS, "restartCount": 2, "lastState": ENDED}
    off = waiting("CrashLoopBackOff", restartCount=2, lastState=ENDED)
    told = [trouble({"containerStatuses": [each]}) for each in (again, off)]
    assert told == ["CrashLoopBackOff", "CrashLoopBackOff"]


def test_a_deployment_says_why_it_can_make_no_pods() -> None:
    condition = {"type": "ReplicaFailure", "reason": "FailedCreate", "message": "no such account"}
    held, over = ({"conditions": [condition | {"status": status}]} for status in ("True", "False"))
    assert failure(held) == "FailedCreate: no such account"
    assert (failure(over), failure({})) == (None, None)
