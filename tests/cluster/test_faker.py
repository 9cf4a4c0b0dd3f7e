"""What the fake kubelets say, without a cluster."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from gpupilot_testbed import fake_pods
from gpupilot_testbed.api import Answer
from gpupilot_testbed.faker import heard

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LIMITS = {"limits": {"cpu": "1"}}


def pod(**status: Any) -> dict[str, Any]:
    container = {"name": "web", "image": "none", "resources": LIMITS}
    return {"metadata": {}, "spec": {"nodeName": "n", "containers": [container]}, "status": status}


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_cannot_answer_yet_is_asked_again(status: int) -> None:
    with pytest.raises(ConnectionError, match="fills its caches"):
        heard(Answer(status=status, body={"message": "fills its caches"}))


def test_a_pod_that_has_gone_is_no_reason_to_ask_again() -> None:
    assert heard(Answer(status=404, body={"message": "not found"})).refused


def test_what_was_said_once_is_not_said_again() -> None:
    fresh = pod(phase="Pending")
    assert not fake_pods.is_up_to_date(fresh)
    said = fake_pods.running(fresh, address="127.18.0.9", now=NOW)
    assert fake_pods.is_up_to_date({**fresh, "status": said})


def test_changed_limits_are_something_new_to_say() -> None:
    said = fake_pods.running(pod(), address="127.18.0.9", now=NOW)
    changed = {**pod(), "status": said}
    changed["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "2"}}
    assert not fake_pods.is_up_to_date(changed)


def test_a_pod_keeps_its_address_and_its_start() -> None:
    first = fake_pods.running(pod(), address="127.18.0.9", now=NOW)
    later = datetime(2026, 1, 2, 4, 0, 0, tzinfo=UTC)
    second = fake_pods.running(pod(**first), address="127.18.0.10", now=later)
    assert second["podIP"] == "127.18.0.9"
    assert second["startTime"] == "2026-01-02T03:04:05Z"


def test_a_pod_starts_at_once_unless_it_says_otherwise() -> None:
    assert fake_pods.start_seconds(pod()) == 0.0
    slow = {**pod(), "metadata": {"annotations": {fake_pods.START_ANNOTATION: "2.5"}}}
    assert fake_pods.start_seconds(slow) == 2.5


def test_a_lease_is_renewed_to_the_microsecond() -> None:
    """The API server takes nothing coarser for a lease."""
    lease = fake_pods.fake_lease("n", now=NOW)
    assert lease["spec"]["renewTime"] == "2026-01-02T03:04:05.000000Z"
