"""From what the cluster shows to what is done about it; nothing where nothing differs."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from cluster_objects import (
    PLATFORM,
    SLICES,
    SPEC,
    Watched,
    adopting,
    around,
    deployment,
    foreign_deployment,
    pod,
    resource,
    service_of,
)
from gpupilot_envs.errors import ChangeRefused
from gpupilot_operator.granted import Granted, stated
from gpupilot_operator.known import Known
from gpupilot_operator.plan import Batching, Plan, Resize
from gpupilot_operator.pods import telling
from gpupilot_operator.reconcile import carried, reconciled
from gpupilot_operator.service import Service
from gpupilot_operator.steps import Grant, Load, Make, Remove, Repair, Resized, Scale, Step
from gpupilot_operator.views import Name

NOW = datetime(2026, 1, 2, tzinfo=UTC)
EARLIER, LATER = "2026-01-01T00:00:00Z", "2026-01-01T23:50:00Z"
RESIZE = Resize(cpu_milli=1000, memory_bytes=2**30)
BATCHING = Batching(instances=2, batch_max=4, queue_delay_us=100)


def known(*bodies: dict[str, Any], name: str = "shop") -> Known:
    watched = Watched()
    for body in bodies:
        watched.see(body)
    found = watched.store.known(Name(namespace="prod", name=name))
    assert found is not None
    return found


def asked(found: Known) -> tuple[Step, ...]:
    return reconciled(found, PLATFORM, NOW)


def nothing_granted(service: Service) -> Granted:
    return Granted(stated=stated(service.spec.predictor))


def settled(body: dict[str, Any], **given: Any) -> Known:
    """Return a service whose objects are as they should be."""
    service = service_of(body)
    return known(body, deployment(service, **given), *around(service))


def test_everything_is_made_once() -> None:
    made = asked(known(resource()))
    assert [type(each) for each in made] == [Make, Make, Make]
    assert [each.manifest["kind"] for each in made if isinstance(each, Make)] == [
        "Deployment",
        "Service",
        "PodDisruptionBudget",
    ]
    assert isinstance(made[0], Make)
    assert made[0].replicas == 2
    assert asked(settled(resource())) == ()


def test_a_service_monitor_is_made_where_there_are_any() -> None:
    monitored = replace(PLATFORM, has_service_monitors=True)
    (made,) = reconciled(settled(resource()), monitored, NOW)
    assert isinstance(made, Make)
    assert made.manifest["kind"] == "ServiceMonitor"


def test_what_another_changed_is_repaired_and_nothing_else() -> None:
    body = resource()
    service = service_of(body)
    front, budget = around(service)
    front["spec"] = {**front["spec"], "selector": {"app": "other"}}
    (step,) = asked(known(body, deployment(service), front, budget))
    assert isinstance(step, Repair)
    assert step.manifest["kind"] == "Service"
    assert step.paths[0].startswith(".spec.selector")


def test_a_changed_spec_is_a_repair_of_the_deployment() -> None:
    body, changed = resource(), deepcopy(SPEC["predictor"])
    changed["model"]["image"] = "triton:2"
    service = service_of(body)
    (step,) = asked(known(resource(predictor=changed), deployment(service), *around(service)))
    assert isinstance(step, Repair)
    assert any("image" in path for path in step.paths)


def test_replicas_are_raised_to_the_fewest_allowed_but_not_while_paused() -> None:
    at = Name(namespace="prod", name="shop-1000")
    assert asked(settled(resource(), replicas=1)) == (Scale(at=at, seen=1, wanted=2),)
    assert asked(settled(resource(), replicas=8)) == ()
    assert asked(settled(resource(autoscaling={"mode": "Paused"}), replicas=1)) == ()


def test_a_target_is_not_touched() -> None:
    found = known(resource(predictor=adopting()), foreign_deployment(replicas=0))
    assert asked(found) == ()


def test_replicas_are_scaled_from_what_was_seen() -> None:
    at = Name(namespace="prod", name="shop-1000")
    assert carried(settled(resource()), Plan(replicas=5), PLATFORM) == (
        Scale(at=at, seen=2, wanted=5),
    )
    target = known(resource(predictor=adopting()), foreign_deployment())
    assert carried(target, Plan(replicas=5), PLATFORM) == (
        Scale(at=Name(namespace="prod", name="search-triton"), seen=3, wanted=5),
    )


@pytest.mark.parametrize(
    "plan", [Plan(replicas=5, resize=RESIZE), Plan(batching=BATCHING), Plan(share_milli=142)]
)
def test_of_a_target_only_replicas_are_changed(plan: Plan) -> None:
    target = known(resource(predictor=adopting()), foreign_deployment())
    with pytest.raises(ChangeRefused, match="only the replicas of Deployment/search-triton"):
        carried(target, plan, PLATFORM)


def test_nothing_can_be_changed_before_anything_runs() -> None:
    with pytest.raises(ChangeRefused, match="nothing runs"):
        carried(known(resource()), Plan(replicas=5), PLATFORM)


def test_pods_are_brought_to_what_was_granted_and_later_ones_too() -> None:
    body = resource()
    service = service_of(body)
    pods = [pod(service, "a"), pod(service, "b", cpu="1")]
    found = known(body, deployment(service), *around(service), *pods)
    granted_, *resized = carried(found, Plan(resize=RESIZE), PLATFORM)
    assert isinstance(granted_, Grant)
    assert [each.pod.name for each in resized if isinstance(each, Resized)] == ["a", "b"]
    later = known(
        body,
        deployment(service, granted=granted_.granted),
        *around(service),
        *pods,
        pod(service, "ending", deletionTimestamp=LATER),
    )
    assert list(asked(later)) == resized


def test_requests_follow_limits_where_they_did() -> None:
    body = resource()
    service = service_of(body)
    burstable = pod(service, "b")
    resources = burstable["spec"]["containers"][0]["resources"]
    resources["requests"] = {"cpu": "500m", "memory": "2Gi"}
    found = known(body, deployment(service), *around(service), pod(service, "a"), burstable)
    steps = [
        each for each in carried(found, Plan(resize=RESIZE), PLATFORM) if isinstance(each, Resized)
    ]
    assert steps[0].requests == steps[0].limits
    assert (steps[1].requests.cpu_milli, steps[1].requests.memory_bytes) == (500, 2**30)


def test_a_server_is_told_once_and_again_when_it_started_anew() -> None:
    body = resource()
    service = service_of(body)
    given = replace(nothing_granted(service), batching=BATCHING)
    base = (body, deployment(service, granted=given), *around(service))
    (step,) = asked(known(*base, pod(service, "a")))
    assert isinstance(step, Load)
    assert (step.pod.at.name, step.model, step.batching) == ("a", "shop", BATCHING)
    told = {"gpupilot.dev/batching": step.told}
    assert asked(known(*base, pod(service, "a", annotations=told))) == ()
    assert asked(known(*base, pod(service, "a", annotations=told, instance="run-2"))) != ()
    assert asked(known(*base, pod(service, "a", ready=False))) == ()


def test_what_a_server_was_told_names_its_run() -> None:
    service = service_of(resource())
    found = known(resource(), pod(service, "a"), pod(service, "b", instance="run-2"))
    one, other = found.pods
    assert telling(one, BATCHING) != telling(other, BATCHING)


def sliced(*bodies: dict[str, Any], serving: int = 428) -> Known:
    body = resource(gpu=SLICES)
    return known(body, *around(service_of(body), serving), *bodies)


def old(**given: Any) -> dict[str, Any]:
    service = service_of(resource(gpu=SLICES))
    return deployment(service, 428, **({"created": EARLIER} | given))


def new(*, begun: bool = True, **given: Any) -> dict[str, Any]:
    service = service_of(resource(gpu=SLICES))
    complete = nothing_granted(service) if begun else None
    return deployment(service, 142, **({"created": LATER, "granted": complete} | given))


def test_a_share_begins_beside_the_old_one() -> None:
    found = sliced(old(replicas=2))
    make, granted_ = carried(found, Plan(share_milli=142, replicas=5), PLATFORM)
    assert isinstance(make, Make)
    assert make.manifest["metadata"]["name"] == "shop-142"
    assert make.replicas == 5
    assert isinstance(granted_, Grant)
    assert asked(found) == ()


def test_what_the_old_pods_were_granted_goes_on_in_the_new_share() -> None:
    """What is planned names what changes: instances that stay are not named."""
    service = service_of(resource(gpu=SLICES))
    earlier = replace(nothing_granted(service), resize=RESIZE, batching=BATCHING)
    found = sliced(old(replicas=2, granted=earlier))
    _, granted_ = carried(found, Plan(share_milli=142), PLATFORM)
    assert isinstance(granted_, Grant)
    assert granted_.granted == earlier


def test_nothing_is_taken_from_the_old_pods_before_all_new_ones_answer() -> None:
    assert asked(sliced(old(), new(replicas=5, ready=4))) == ()


def test_then_requests_move_and_the_old_pods_go_and_then_their_deployment() -> None:
    took_over = new(replicas=5)
    front, gone = asked(sliced(old(replicas=2), took_over))
    assert isinstance(front, Repair)
    assert front.manifest["spec"]["selector"]["gpupilot.dev/share-milli"] == "142"
    assert gone == Scale(at=Name(namespace="prod", name="shop-428"), seen=2, wanted=0)
    assert asked(sliced(old(replicas=0, pods=1), took_over, serving=142)) == ()
    (last,) = asked(sliced(old(replicas=0), took_over, serving=142))
    assert isinstance(last, Remove)
    assert last.at.name == "shop-428"
    assert asked(sliced(took_over, serving=142)) == ()


def test_asking_for_the_old_share_again_gives_the_change_up() -> None:
    found = sliced(old(replicas=2), new(replicas=5, ready=4))
    back, away = carried(found, Plan(share_milli=428, replicas=3), PLATFORM)
    assert back == Scale(at=Name(namespace="prod", name="shop-428"), seen=2, wanted=3)
    assert isinstance(away, Remove)
    assert away.at.name == "shop-142"


def test_a_second_change_waits_for_the_first() -> None:
    found = sliced(old(replicas=0, pods=1), new(replicas=5), serving=142)
    with pytest.raises(ChangeRefused, match="still under way"):
        carried(found, Plan(share_milli=428), PLATFORM)


def test_fewer_replicas_asked_for_in_a_change_are_those_of_the_new_share() -> None:
    found = sliced(old(replicas=2), new(replicas=5, ready=4))
    assert carried(found, Plan(replicas=4), PLATFORM) == (
        Scale(at=Name(namespace="prod", name="shop-142"), seen=5, wanted=4),
    )


def test_more_replicas_asked_for_in_a_change_are_those_of_both_shares() -> None:
    found = sliced(old(replicas=2), new(replicas=5, ready=4))
    assert carried(found, Plan(replicas=8), PLATFORM) == (
        Scale(at=Name(namespace="prod", name="shop-428"), seen=2, wanted=3),
        Scale(at=Name(namespace="prod", name="shop-142"), seen=5, wanted=8),
    )


def test_a_load_that_both_shares_have_no_room_for_goes_before_the_change() -> None:
    body = resource(gpu={**SLICES, "budgetMilli": 1500})
    around_ = around(service_of(body), 428)
    found = known(body, *around_, old(replicas=2), new(replicas=3, ready=2))
    away, more = carried(found, Plan(replicas=7), PLATFORM)
    assert isinstance(away, Remove)
    assert away.at.name == "shop-142"
    assert more == Scale(at=Name(namespace="prod", name="shop-428"), seen=2, wanted=3)


def test_a_share_that_does_not_start_is_given_up() -> None:
    started = new(replicas=5, ready=4, created="2026-01-01T23:44:59Z")
    (away,) = asked(sliced(old(), started))
    assert isinstance(away, Remove)
    assert away.at.name == "shop-142"


def test_a_share_whose_beginner_ended_before_it_asked_for_pods_never_takes_over() -> None:
    steps = asked(sliced(old(replicas=4), new(begun=False, replicas=1, ready=1)))
    assert [type(each) for each in steps] == [Remove]


def test_a_share_that_is_no_longer_offered_is_left_for_one_that_is() -> None:
    shares = {**SLICES, "shares": [SLICES["shares"][0]], "maxShareMilli": 142}
    body = resource(gpu=shares)
    service = service_of(body)
    before = service_of(resource(gpu=SLICES))
    steps = asked(known(body, *around(service, 428), deployment(before, 428, replicas=2)))
    make, granted_ = steps
    assert isinstance(make, Make)
    assert (make.manifest["metadata"]["name"], make.replicas) == ("shop-142", 2)
    assert isinstance(granted_, Grant)
