"""The store: one state whatever the order in which it is told, and what it makes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_objects import (
    SLICES,
    SPEC,
    Watched,
    adopting,
    around,
    deployment,
    foreign_deployment,
    kind_of,
    pod,
    resource,
    scaler,
    service_of,
)
from gpupilot_envs.allocation import Allocation
from gpupilot_operator import kinds
from gpupilot_operator.granted import Granted, stated
from gpupilot_operator.plan import Batching, Resize
from gpupilot_operator.ports import Seen
from gpupilot_operator.store import Store
from gpupilot_operator.views import Name, name_of

SHOP = Name(namespace="prod", name="shop")


def told(*bodies: dict[str, Any]) -> Watched:
    watched = Watched()
    for body in bodies:
        watched.see(body)
    return watched


def only(watched: Watched) -> Seen:
    (seen,) = watched.store.services()
    return seen


def test_a_service_is_seen_once_something_runs_for_it() -> None:
    watched = told(resource())
    assert watched.store.services() == ()
    service = service_of(resource())
    watched.see(deployment(service, replicas=3, ready=2))
    assert only(watched).running == Allocation(
        replicas=3, cpu_milli=2000, memory_bytes=2 * 2**30, batch_max=8
    )
    assert watched.store.known(SHOP) is not None


def test_pods_are_counted_by_what_they_are() -> None:
    service = service_of(resource())
    waiting = pod(service, "c", ready=False)
    waiting["status"]["conditions"].append(
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    )
    watched = told(
        resource(),
        deployment(service, replicas=3),
        *around(service),
        pod(service, "a"),
        pod(service, "b", ready=False),
        waiting,
        pod(service, "d", deletionTimestamp="2026-01-01T00:00:00Z"),
    )
    seen = only(watched)
    assert (seen.ready, seen.pending, seen.unschedulable) == (1, 2, 1)


def test_too_few_pods_are_raised_at_once_and_not_taken_for_somebodys_choice() -> None:
    body = resource()
    watched = told(body, deployment(service_of(body), replicas=1))
    assert only(watched).running.replicas == 2
    watched.see(resource(autoscaling={"mode": "Paused"}))
    assert only(watched).running.replicas == 1


def test_a_grant_counts_before_the_template_and_only_under_its_spec() -> None:
    service = service_of(resource())
    given_ = Granted(
        stated=stated(service.spec.predictor),
        resize=Resize(cpu_milli=500, memory_bytes=2**30),
        batching=Batching(instances=2, batch_max=4, queue_delay_us=100),
    )
    watched = told(resource(), deployment(service, granted=given_))
    assert only(watched).running == Allocation(
        replicas=2,
        cpu_milli=500,
        memory_bytes=2**30,
        instances_per_replica=2,
        batch_max=4,
        queue_delay_us=100,
    )
    changed = json.loads(json.dumps(SPEC["predictor"]))
    changed["model"]["resources"]["limits"]["cpu"] = "4"
    watched.see(resource(predictor=changed))
    assert only(watched).running.batch_max == 8


def test_while_a_share_starts_it_is_what_is_asked_and_the_old_pods_are_what_answers() -> None:
    body = resource(gpu=SLICES)
    service = service_of(body)
    watched = told(
        body,
        *around(service, 428),
        deployment(service, 428, replicas=2),
        deployment(service, 142, replicas=5, ready=1, created="2026-01-02T00:00:00Z"),
        pod(service, "old-1", share_milli=428),
        pod(service, "old-2", share_milli=428),
        pod(service, "new-1", share_milli=142),
        pod(service, "new-2", share_milli=142, ready=False),
    )
    seen = only(watched)
    assert (seen.running.replicas, seen.running.gpu_share_milli) == (5, 142)
    assert (seen.ready, seen.pending) == (2, 1)


def test_what_belongs_to_an_earlier_resource_of_the_same_name_is_not_ours() -> None:
    earlier = service_of(resource(uid="u-0"))
    watched = told(resource(), deployment(earlier))
    assert watched.store.services() == ()


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (scaler("shop-1000"), "HorizontalPodAutoscaler/hpa-of-shop-1000"),
        (scaler("shop-1000", scaled_object="shop"), "ScaledObject/shop"),
        (scaler("shop", kind="InferenceService"), "HorizontalPodAutoscaler/hpa-of-shop"),
        (scaler("other-1000"), None),
    ],
)
def test_who_else_scales_is_found_in_any_order(other: dict[str, Any], said: str | None) -> None:
    body = resource()
    made = deployment(service_of(body))
    assert only(told(body, made, other)).other_writer == said
    assert only(told(other, made, body)).other_writer == said


def test_an_autoscaler_that_goes_is_a_conflict_no_longer() -> None:
    body = resource()
    watched = told(body, deployment(service_of(body)), scaler("shop-1000"))
    assert only(watched).other_writer is not None
    watched.see(scaler("shop-1000"), "DELETED")
    assert only(watched).other_writer is None


def test_a_deployment_is_adopted_by_its_name() -> None:
    watched = told(resource(predictor=adopting()), foreign_deployment())
    seen = only(watched)
    assert seen.running.replicas == 3
    assert (seen.running.cpu_milli, seen.running.memory_bytes) == (1500, 2**30)
    assert (seen.ready, seen.pending) == (2, 1)
    assert seen.other_writer is None
    watched.see(scaler("search-triton"))
    assert only(watched).other_writer == "HorizontalPodAutoscaler/hpa-of-search-triton"


def kserve(*, external: bool) -> dict[str, Any]:
    labels = {"serving.kserve.io/inferenceservice": "flowers", "component": "predictor"}
    notes = {"serving.kserve.io/autoscalerClass": "external"} if external else {}
    body = foreign_deployment("flowers-predictor")
    body["spec"]["template"]["metadata"] = {"labels": labels, "annotations": notes}
    return body


def test_a_kserve_service_is_adopted_if_kserve_lets_go_of_it() -> None:
    mine = resource(predictor=adopting("InferenceService", "flowers"))
    assert only(told(mine, kserve(external=True))).other_writer is None
    held = only(told(mine, kserve(external=False))).other_writer
    assert held is not None
    assert "autoscalerClass: external" in held


def test_a_transformer_is_no_predictor() -> None:
    body = kserve(external=True)
    body["spec"]["template"]["metadata"]["labels"]["component"] = "transformer"
    mine = resource(predictor=adopting("InferenceService", "flowers"))
    assert told(mine, body).store.services() == ()


def test_two_resources_of_one_target_hold_each_other() -> None:
    watched = told(
        resource("a", uid="a", predictor=adopting()),
        foreign_deployment(),
        resource("b", uid="b", predictor=adopting()),
    )
    assert [each.other_writer for each in watched.store.services()] == [
        "InferenceService/b",
        "InferenceService/a",
    ]
    watched.see(resource("b", uid="b", predictor=adopting()), "DELETED")
    assert only(watched).other_writer is None


def test_a_deployment_of_another_service_of_ours_is_not_adopted_quietly() -> None:
    shop = resource()
    watched = told(
        shop,
        deployment(service_of(shop)),
        resource("thief", uid="t", predictor=adopting(name="shop-1000")),
    )
    held = {each.service.name: each.other_writer for each in watched.store.services()}
    assert held["thief"] is not None
    assert "shop" in held["thief"]


def config_map(name: str, service: str, **data: str) -> dict[str, Any]:
    labels = {"gpupilot.dev/service": service}
    metadata = {"namespace": "prod", "name": name, "uid": name, "labels": labels}
    return {"kind": "ConfigMap", "metadata": metadata, "data": data}


def test_files_come_from_config_maps_that_name_the_service_or_that_it_names() -> None:
    reference = {"configMap": "bundles", "key": "a", "digest": f"sha256:{'0' * 64}"}
    autoscaling = {"policy": "Learned", "policyRef": reference, "profile": "profiles"}
    body = resource(autoscaling=autoscaling)
    binary = config_map("bundles", "all", **{"b": "no"}) | {"binaryData": {"a": "AAE="}}
    watched = told(
        config_map("profiles", "all", **{"profile.yaml": "p"}),
        body,
        deployment(service_of(body)),
        config_map("gate", "shop", **{"proof.json": "{}"}),
    )
    assert only(watched).artefacts.bundle is None
    watched.see(binary)
    found = only(watched).artefacts
    assert (found.profile, found.bundle, found.proof) == (b"p", b"\x00\x01", b"{}")


def test_a_quota_of_the_namespace_bounds_its_gpus() -> None:
    body = resource(gpu=SLICES)
    metadata = {"namespace": "prod", "name": "gpus", "uid": "q"}
    hard = {"requests.nvidia.com/mig-1g.10gb": "4", "requests.nvidia.com/mig-3g.40gb": "1"}
    quota = {"kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}}
    watched = told(body, deployment(service_of(body), 142))
    assert only(watched).quota_milli is None
    watched.see(quota)
    assert only(watched).quota_milli == 4 * 142 + 428
    watched.see({**quota, "spec": {"hard": {"pods": "3"}}})
    assert only(watched).quota_milli is None


def test_a_spec_that_cannot_be_read_is_kept_as_such() -> None:
    watched = told(resource(slo={}))
    kept = watched.store.resource(SHOP)
    assert kept is not None
    assert kept.invalid is not None
    assert "spec.slo.latency" in kept.invalid
    assert watched.store.known(SHOP) is None
    assert watched.store.services() == ()


def test_a_status_of_another_operator_is_written_anew() -> None:
    body = resource() | {"status": {"replicas": "many"}}
    watched = told(body, deployment(service_of(body)))
    assert only(watched).status.replicas is None


def history() -> list[tuple[str, dict[str, Any]]]:
    """Return what an API server told in this order, with objects that came, changed and went."""
    watched, body = Watched(), resource()
    service = service_of(body)
    events = [
        ("ADDED", body),
        ("ADDED", deployment(service, replicas=1, ready=0)),
        ("ADDED", pod(service, "a", ready=False)),
        ("ADDED", pod(service, "b", ready=False)),
        ("ADDED", scaler("shop-1000")),
        ("MODIFIED", deployment(service, replicas=2, ready=1)),
        ("MODIFIED", pod(service, "a")),
        ("DELETED", pod(service, "b")),
        ("DELETED", scaler("shop-1000")),
        ("ADDED", pod(service, "c")),
        ("MODIFIED", deployment(service, replicas=2, ready=2)),
        ("DELETED", resource("other", uid="o")),
        ("MODIFIED", resource(slo={"latency": {"target": "90ms"}})),
    ]
    return [(change, watched.see(told_, change)) for change, told_ in events]


HISTORY = history()


def state(events: list[tuple[str, dict[str, Any]]]) -> tuple[Any, ...]:
    store = Store()
    for change, body in events:
        store.see(kind_of(body), change, body)
        store.services()
    return (store.services(), store.known(SHOP), store.names())


@given(st.permutations(HISTORY), st.lists(st.sampled_from(HISTORY), max_size=6))
def test_any_order_and_repetition_end_in_the_same_state(
    shuffled: list[tuple[str, dict[str, Any]]], again: list[tuple[str, dict[str, Any]]]
) -> None:
    assert state([*shuffled, *again]) == state(HISTORY)


@given(st.lists(st.sampled_from(HISTORY), max_size=13, unique_by=id))
def test_a_list_makes_good_whatever_watches_left_out(
    heard: list[tuple[str, dict[str, Any]]],
) -> None:
    store = Store()
    for change, body in heard:
        store.see(kind_of(body), change, body)
    newest: dict[Any, tuple[str, dict[str, Any]]] = {}
    for change, body in HISTORY:
        newest[body["kind"], name_of(body)] = (change, body)
    there = [body for change, body in newest.values() if change != "DELETED"]
    for kind in kinds.WITH_MONITORS:
        mine = [body for body in there if body["kind"] == kind.kind]
        for body in mine:
            store.see(kind, None, body)
        store.keep(kind, {name_of(body) for body in mine}, len(HISTORY))
    assert (store.services(), store.known(SHOP), store.names()) == state(HISTORY)


def test_what_came_after_a_list_is_not_let_go_of() -> None:
    watched = told(resource())
    watched.store.keep(kinds.INFERENCE_SERVICE, set(), watched.version - 1)
    assert watched.store.names() == [SHOP]
    watched.store.keep(kinds.INFERENCE_SERVICE, set(), watched.version)
    assert watched.store.names() == []


def test_only_services_that_something_changed_of_are_touched() -> None:
    body = resource()
    made = deployment(service_of(body))
    watched = told(body, made)
    assert watched.store.touched() == {SHOP}
    assert watched.store.touched() == set()
    watched.see(made)
    assert watched.store.touched() == {SHOP}  # its version, by which it is removed, is another
    watched.see(foreign_deployment())
    assert watched.store.touched() == set()
