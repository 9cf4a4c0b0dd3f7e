"""What is told where nothing can run, and of events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from cluster_objects import Watched, adopting, deployment, resource, service_of
from gpupilot_operator.ports import Event
from gpupilot_operator.telling import NOTE_MOST, event, objection, unready
from gpupilot_operator.views import Name

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
AT = Name(namespace="prod", name="shop")


def told(*bodies: dict[str, Any], wrong: str | None = None) -> Any:
    watched = Watched()
    for body in bodies:
        watched.see(body)
    found, known = watched.store.resource(AT), watched.store.known(AT)
    assert found is not None
    return unready(found, known, objection(found, known, wrong), NOW)


def test_a_spec_that_cannot_be_read_is_told_with_its_field_once() -> None:
    body = resource(slo={})
    patch = told(body)["status"]
    ready, able = patch["conditions"]
    assert (ready["type"], ready["status"], ready["reason"]) == ("Ready", "False", "SpecInvalid")
    assert (able["type"], able["status"], able["reason"]) == ("AbleToScale", "False", "SpecInvalid")
    assert "spec.slo.latency" in ready["message"]
    assert ready["message"].endswith("nothing of it was changed")
    assert ready["observedGeneration"] == patch["observedGeneration"] == 1
    assert told(body | {"status": patch}) is None


def test_of_a_target_that_went_nothing_is_told_that_nobody_looks_at_any_more() -> None:
    kept = {
        "type": "PolicyReady",
        "status": "True",
        "reason": "ClassicalPolicy",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "observedGeneration": 1,
    }
    status = {"conditions": [kept], "replicas": 3, "readyReplicas": 3}
    patch = told(resource(predictor=adopting()) | {"status": status})["status"]
    assert [each["type"] for each in patch["conditions"]] == ["Ready", "AbleToScale"]
    assert {each["reason"] for each in patch["conditions"]} == {"TargetNotFound"}
    assert "no Deployment/search-triton in this namespace" in patch["conditions"][0]["message"]
    assert (patch["replicas"], patch["readyReplicas"]) == (0, 0)


def test_objects_that_are_refused_are_told_while_nothing_runs() -> None:
    body, wrong = resource(), "Deployment/shop-1000: 422: requests must not exceed limits"
    patch = told(body, wrong=wrong)["status"]
    ready = patch["conditions"][0]
    assert (ready["status"], ready["reason"], ready["message"]) == (
        "False",
        "ReconcileFailed",
        wrong,
    )
    assert told(body | {"status": patch}, wrong=wrong) is None
    assert told(body, deployment(service_of(body)), wrong=wrong) is None


def test_nothing_is_told_of_a_service_that_runs_or_is_about_to() -> None:
    body = resource()
    assert told(body) is None
    assert told(body, deployment(service_of(body))) is None


def test_an_event_is_of_the_resource_and_never_too_long() -> None:
    said = Event(reason="ScaledUp", message="é" * 2000, warning=True)
    made = event(AT, "u-1", said, by="operator-0", now=NOW)
    assert made["regarding"]["uid"] == "u-1"
    assert (made["type"], made["reason"], made["action"]) == ("Warning", "ScaledUp", "ScaledUp")
    assert len(made["note"].encode()) <= NOTE_MOST
    assert made["eventTime"] == "2026-01-01T12:00:00.000000Z"
