"""From what a tick found out to the status: conditions, decisions, and when nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.reasons import Reason
from gpupilot_operator.facts import Cause, Facts, Grant, MetricsState, Observed, PolicyState, Rung
from gpupilot_operator.manual import Hand
from gpupilot_operator.service import Service
from gpupilot_operator.spec_autoscaling import Mode
from gpupilot_operator.status import holds_back, status_of, status_patch
from gpupilot_operator.status_fields import (
    HISTORY_MOST,
    Condition,
    ConditionType,
    InferenceServiceStatus,
    Where,
)

Maker = Callable[..., Service]
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NOTHING = InferenceServiceStatus()
FOUR = Allocation(replicas=4)
USERS = Observed(p50_s=0.012, p95_s=0.048, p99_s=0.09, attainment_ratio=0.9996, source="gateway")


def grant(asked: int, granted: int, *reasons: Reason) -> Grant:
    return Grant(
        asked=replace(FOUR, replicas=asked),
        granted=replace(FOUR, replicas=granted),
        reasons=reasons or (Reason.DESIRED_WITHIN_RANGE,),
        policy="generalist",
    )


def facts(**changes: Any) -> Facts:
    base: dict[str, Any] = {
        "running": FOUR,
        "ready": 4,
        "mode": Mode.ACT,
        "metrics": MetricsState.FOUND,
        "policy": PolicyState.PROVEN,
        "rung": Rung.POLICY,
        "grant": grant(4, 4),
        "observed": USERS,
    }
    return Facts(**(base | changes))


def condition(status: InferenceServiceStatus, kind: ConditionType) -> Condition:
    (found,) = [each for each in status.conditions if each.type == kind]
    return found


@pytest.fixture
def service(service_of: Maker) -> Service:
    return service_of(predictor={"targetRef": {"name": "t"}, "minReplicas": 2, "maxReplicas": 8})


@pytest.mark.parametrize(
    ("changes", "kind", "status", "reason"),
    [
        ({}, ConditionType.READY, "True", "PodsReady"),
        ({"ready": 1}, ConditionType.READY, "False", "PodsNotReady"),
        ({}, ConditionType.METRICS_AVAILABLE, "True", "MetricsFound"),
        (
            {"metrics": MetricsState.STALE},
            ConditionType.METRICS_AVAILABLE,
            "False",
            "MetricsStale",
        ),
        ({}, ConditionType.ABLE_TO_SCALE, "True", "ReadyToScale"),
        ({"mode": Mode.OBSERVE}, ConditionType.ABLE_TO_SCALE, "False", "Observing"),
        ({"mode": Mode.PAUSED}, ConditionType.ABLE_TO_SCALE, "False", "Paused"),
        ({"other_writer": "HPA/x"}, ConditionType.ABLE_TO_SCALE, "False", "ReplicaConflict"),
        ({"other_writer": "HPA/x"}, ConditionType.REPLICA_CONFLICT, "True", "OtherWriter"),
        ({"grant": None}, ConditionType.SCALING_LIMITED, "Unknown", "NotDecidedYet"),
        ({}, ConditionType.SCALING_LIMITED, "False", "DesiredWithinRange"),
        (
            {"grant": grant(9, 8, Reason.TOO_MANY_REPLICAS)},
            ConditionType.SCALING_LIMITED,
            "True",
            "TooManyReplicas",
        ),
        ({"policy": PolicyState.UNPROVEN}, ConditionType.POLICY_READY, "False", "ProofMissing"),
        ({"policy": PolicyState.OVERRIDDEN}, ConditionType.POLICY_READY, "True", "GateOverridden"),
        ({}, ConditionType.FALLBACK, "False", "PolicyDecides"),
        (
            {"rung": Rung.SAFE, "cause": Cause.BLIND},
            ConditionType.FALLBACK,
            "True",
            "SignalsMissing",
        ),
    ],
    ids=lambda value: value.value if isinstance(value, ConditionType) else None,
)
def test_a_condition_says_what_is_so_and_why(
    service: Service, changes: dict[str, Any], kind: ConditionType, status: str, reason: str
) -> None:
    said = condition(status_of(service, facts(**changes), NOTHING, NOW), kind)
    assert (said.status, said.reason, said.observed_generation) == (status, reason, 3)
    assert said.message


def test_every_condition_is_told_at_every_look(service: Service) -> None:
    told = status_of(service, facts(), NOTHING, NOW).conditions
    assert [each.type for each in told] == [kind.value for kind in ConditionType]


def test_a_quiet_service_costs_no_write(service: Service) -> None:
    first = status_of(service, facts(), NOTHING, NOW)
    slower = replace(USERS, p95_s=0.05)
    later = status_of(service, facts(observed=slower), first, NOW + timedelta(hours=1))
    assert status_patch(first, later) is None


def test_a_patch_holds_what_differs_and_takes_away_what_is_gone(service: Service) -> None:
    first = status_of(service, facts(), NOTHING, NOW)
    starting = facts(ready=3, grant=grant(4, 4, Reason.COOLING_DOWN), observed=None)
    patch = status_patch(first, status_of(service, starting, first, NOW, lasted=True))
    assert patch is not None
    assert set(patch["status"]) == {"readyReplicas", "conditions", "autoscaling", "latency"}
    assert patch["status"]["latency"] is None


def test_what_went_within_a_part_is_taken_away_too(service: Service) -> None:
    """A merge patch keeps what it does not name: a manual count would stand there for ever."""
    hand = Hand(replicas=3, at=Where.RESOURCE, since_s=0.0, until_s=900.0)
    kept = status_of(service, facts(hand=hand), NOTHING, NOW)
    patch = status_patch(kept, status_of(service, facts(), kept, NOW))
    assert patch == {"status": {"autoscaling": {"manual": None}}}


def test_a_time_of_transition_moves_with_the_status_alone(service: Service) -> None:
    first = status_of(service, facts(), NOTHING, NOW)
    later = NOW + timedelta(minutes=5)
    fewer = status_of(service, facts(ready=3), first, later)
    assert condition(fewer, ConditionType.READY).last_transition_time == "2026-01-02T03:04:05Z"
    none = status_of(service, facts(ready=0), fewer, later)
    assert condition(none, ConditionType.READY).last_transition_time == "2026-01-02T03:09:05Z"


def test_history_holds_the_last_changes_newest_first(service: Service) -> None:
    status = NOTHING
    for count in range(1, 9):
        running = replace(FOUR, replicas=count)
        made = facts(running=running, grant=grant(count + 1, count + 1))
        status = status_of(service, made, status, NOW)
        still = replace(FOUR, replicas=count + 1)
        calm = facts(running=still, grant=grant(count + 1, count + 1))
        status = status_of(service, calm, status, NOW)
    assert status.autoscaling is not None
    granted = [each.granted_replicas for each in status.autoscaling.history]
    assert granted == [9, 8, 7, 6, 5][:HISTORY_MOST]


def test_a_decision_is_told_in_a_sentence(service: Service) -> None:
    limited = facts(grant=grant(9, 8, Reason.STEP_LIMITED, Reason.TOO_MANY_REPLICAS))
    told = status_of(service, limited, NOTHING, NOW).autoscaling
    assert told is not None
    assert told.last_decision is not None
    assert told.last_decision.message.startswith("generalist asked for 9, 8 granted: more replicas")
    assert told.last_decision.constraints_applied == ("StepLimited", "TooManyReplicas")


def test_users_latency_is_told_in_whole_milliseconds_and_never_rounded_up_to_all(
    service: Service,
) -> None:
    told = status_of(service, facts(), NOTHING, NOW).latency
    assert told is not None
    assert (told.p50, told.p95, told.p99) == ("12ms", "48ms", "90ms")
    assert (told.attainment_percent, told.source) == ("99.9", "gateway")


def test_no_requests_are_none_and_not_zero(service: Service) -> None:
    silent = Observed(p50_s=None, p95_s=None, p99_s=None, attainment_ratio=None, source="gateway")
    told = status_of(service, facts(observed=silent), NOTHING, NOW).latency
    assert told is not None
    assert {told.p50, told.p95, told.p99, told.attainment_percent} == {"none"}


def test_what_is_only_shown_is_told_when_it_lasts(service: Service) -> None:
    first = status_of(service, facts(mode=Mode.OBSERVE), NOTHING, NOW)
    other = facts(mode=Mode.OBSERVE, grant=grant(5, 5, Reason.CONSOLIDATION_REFUSED))
    assert status_patch(first, status_of(service, other, first, NOW)) is None
    assert holds_back(service, other, first, NOW)
    assert status_of(service, other, first, NOW, lasted=True).desired_replicas == 5


def test_what_is_done_is_told_at_once(service: Service) -> None:
    first = status_of(service, facts(), NOTHING, NOW)
    more = status_of(service, facts(grant=grant(6, 6)), first, NOW)
    assert more.desired_replicas == 6


def test_what_limits_a_decision_is_told_with_it(service: Service) -> None:
    first = status_of(service, facts(), NOTHING, NOW)
    cooling = facts(grant=grant(3, 4, Reason.COOLING_DOWN))
    assert status_patch(first, status_of(service, cooling, first, NOW)) is None
    later = status_of(service, cooling, first, NOW, lasted=True)
    assert condition(later, ConditionType.SCALING_LIMITED).reason == "CoolingDown"
    assert later.autoscaling is not None
    assert later.autoscaling.last_decision is not None
    assert later.autoscaling.last_decision.reason == "CoolingDown"


def test_another_decider_and_another_spec_are_told_at_once(service_of: Maker) -> None:
    service = service_of()
    first = status_of(service, facts(mode=Mode.OBSERVE), NOTHING, NOW)
    other = replace(grant(5, 5), policy="queueing")
    told = status_of(service, facts(mode=Mode.OBSERVE, grant=other), first, NOW)
    assert told.desired_replicas == 5
    changed = replace(service, generation=4)
    told = status_of(changed, facts(mode=Mode.OBSERVE, grant=grant(5, 5)), first, NOW)
    assert (told.desired_replicas, told.observed_generation) == (5, 4)


GRANTS = st.builds(grant, st.integers(0, 20), st.integers(0, 20)) | st.none()
FACTS = st.builds(
    Facts,
    running=st.builds(Allocation, replicas=st.integers(0, 20)),
    ready=st.integers(0, 20),
    mode=st.sampled_from(Mode),
    metrics=st.sampled_from(MetricsState),
    policy=st.sampled_from(PolicyState),
    rung=st.sampled_from(Rung),
    grant=GRANTS,
    observed=st.just(USERS) | st.none(),
    other_writer=st.sampled_from([None, "HorizontalPodAutoscaler/shop"]),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(made=st.lists(FACTS, min_size=1, max_size=6))
def test_whatever_happens_the_same_again_is_no_change(service_of: Maker, made: list[Facts]) -> None:
    service, status = service_of(), NOTHING
    for each in made:
        status = status_of(service, each, status, NOW)
        again = status_of(service, each, status, NOW)
        assert status_patch(status, again) is None
        later = status_of(service, each, status, NOW, lasted=True)
        assert holds_back(service, each, status, NOW) == (status_patch(status, later) is not None)
        assert not holds_back(service, each, later, NOW)
    assert status.autoscaling is not None
    assert len(status.autoscaling.history) <= HISTORY_MOST


def test_where_requests_go_and_how_far_the_model_is(service_of: Maker) -> None:
    begun = status_of(service_of(), facts(ready=1), NOTHING, NOW)
    assert begun.url == "http://shop.prod.svc:8000"
    assert begun.model_status is not None
    assert (begun.model_status.transition_status, begun.model_status.copies) == ("InProgress", 1)
    whole = status_of(service_of(), facts(ready=4), begun, NOW)
    assert whole.model_status is not None
    assert whole.model_status.transition_status == "UpToDate"


def test_of_a_target_neither_is_said(service: Service) -> None:
    told = status_of(service, facts(), NOTHING, NOW)
    assert told.url is None
    assert told.model_status is None


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"ready": 1, "trouble": "shop-a: Unschedulable"}, "Ready", "(shop-a: Unschedulable)"),
        ({"refused": "Service/shop is there already"}, "Ready", "Service/shop is there already"),
        ({"mode": Mode.PAUSED}, "AbleToScale", "mode Paused: nothing is decided"),
        ({"mode": Mode.PAUSED, "pause": "both"}, "AbleToScale", "gpupilot.dev/pause=both: nothing"),
        ({"mode": Mode.PAUSED, "pause": "dwn"}, "AbleToScale", "pause=dwn is none of up, down"),
        ({"pause": "down"}, "AbleToScale", "carried out, but no pod is removed: the annotation"),
        ({"policy": PolicyState.UNPROVEN}, "PolicyReady", "yet; the queueing controller acts"),
        (
            {"policy": PolicyState.UNPROVEN, "mode": Mode.OBSERVE},
            "PolicyReady",
            "yet; the queueing controller would act in mode Act",
        ),
        ({"policy": PolicyState.INFEASIBLE}, "PolicyReady", "objective; what runs is kept"),
        ({"policy": PolicyState.HELD, "policy_said": "costs more"}, "PolicyReady", "(costs more)"),
    ],
)
def test_a_condition_tells_a_person_what_to_look_at(
    service: Service, changes: dict[str, Any], kind: str, words: str
) -> None:
    status = status_of(service, facts(**changes), NOTHING, NOW)
    assert words in condition(status, ConditionType(kind)).message


def test_objects_that_are_not_as_asked_are_not_ready_however_many_pods_answer(
    service: Service,
) -> None:
    status = status_of(service, facts(refused="Deployment/shop: 422"), NOTHING, NOW)
    ready = condition(status, ConditionType.READY)
    assert (ready.status, ready.reason) == ("False", "ReconcileFailed")
