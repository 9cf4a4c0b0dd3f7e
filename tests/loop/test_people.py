"""What people say beside the spec, and what others do: hands, pauses, other writers, quotas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from looping import ENOUGH, START_S, only, run

from gpupilot_envs.reasons import Reason
from gpupilot_operator.memory import State
from gpupilot_operator.spec_autoscaling import Mode

Maker = Callable[..., Any]


def test_a_count_set_by_hand_is_kept_for_its_time_and_then_taken_back(
    shop_of: Maker, town_of: Maker, felt: Maker, state: State
) -> None:
    shop = shop_of(manualHoldSeconds=60)
    shop.reading = felt(ENOUGH)
    shop.shown["set_by_hand"] = 8
    town = town_of(shop)
    reports = run(town, state, 60.0)
    assert shop.running.replicas == 8
    grant = only(reports[0]).grant
    assert grant is not None
    assert grant.reasons == (Reason.SET_BY_HAND,)
    manual = shop.status.autoscaling.manual
    assert (manual.replicas, manual.since, manual.until) == (
        8,
        "2026-11-22T12:00:00Z",
        "2026-11-22T12:01:00Z",
    )
    run(town, state, 600.0, START_S + 60.0)
    assert "set_by_hand" not in shop.shown
    assert shop.status.autoscaling.manual is None
    assert shop.running.replicas < 8


def test_a_restart_does_not_prolong_what_was_set_by_hand(
    shop_of: Maker, town_of: Maker, felt: Maker, state_of: Callable[[], State]
) -> None:
    shop = shop_of(manualHoldSeconds=60)
    shop.reading = felt(ENOUGH)
    shop.shown["set_by_hand"] = 8
    town = town_of(shop)
    run(town, state_of(), 50.0)
    run(town, state_of(), 20.0, START_S + 50.0)
    assert "set_by_hand" not in shop.shown


def test_a_deployment_scaled_by_hand_is_respected_for_the_same_time(
    shop_of: Maker, town_of: Maker, felt: Maker, state: State
) -> None:
    shop = shop_of(manualHoldSeconds=60)
    shop.reading = felt(ENOUGH)
    town = town_of(shop)
    run(town, state, 150.0)
    asked = shop.running.replicas
    shop.running = replace(shop.running, replicas=8)
    reports = run(town, state, 55.0, START_S + 150.0)
    assert shop.running.replicas == 8
    assert only(reports[-1]).hand is not None
    assert shop.status.autoscaling.manual.at == "deployment"
    run(town, state, 900.0, START_S + 205.0)
    assert shop.running.replicas == asked
    assert shop.status.autoscaling.manual is None


@pytest.mark.parametrize(("before", "after", "by_hand"), [(1, 2, False), (2, 5, True)])
def test_pods_brought_to_the_minimum_were_not_set_by_hand(
    shop_of: Maker, state: State, before: int, after: int, by_hand: bool
) -> None:
    shop = shop_of(replicas=before, predictor={"minReplicas": 2})
    state.open([shop.seen()], START_S)
    shop.running = replace(shop.running, replicas=after)
    state.open([shop.seen()], START_S + 5.0)
    assert (state.records[shop.service.key].hand is not None) is by_hand


@pytest.mark.parametrize(
    ("pause", "rate_rps", "stays"),
    [
        ("up", ENOUGH, True),
        ("down", ENOUGH, False),
        ("down", 1.0, True),
        ("up", 1.0, False),
        ("both", ENOUGH, True),
        ("sideways", ENOUGH, True),
    ],
)
def test_a_pause_holds_back_its_direction_alone(
    shop_of: Maker, town_of: Maker, felt: Maker, state: State,
    pause: str, rate_rps: float, stays: bool,
) -> None:  # fmt: skip
    shop = shop_of()
    shop.shown["annotations"] = {"gpupilot.dev/pause": pause}
    shop.reading = felt(rate_rps)
    reports = run(town_of(shop), state, 600.0)
    assert (shop.running.replicas == 2) is stays
    assert (only(reports[-1]).mode is Mode.PAUSED) == (pause in ("both", "sideways"))


def test_another_writer_holds_everything_and_is_told(
    shop_of: Maker, town_of: Maker, felt: Maker, state: State
) -> None:
    shop = shop_of()
    shop.reading = felt(ENOUGH)
    shop.shown["other_writer"] = "HorizontalPodAutoscaler/shop"
    town = town_of(shop)
    run(town, state, 60.0)
    assert not town.changes
    able = next(c for c in shop.status.conditions if c.type == "AbleToScale")
    assert (able.status, able.reason) == ("False", "ReplicaConflict")


def test_a_quota_is_shared_by_the_services_of_its_namespace_alone(
    shop_of: Maker, town_of: Maker, felt: Maker, state: State
) -> None:
    shops = [shop_of(name) for name in ("a", "b")]
    other = shop_of("a", namespace="elsewhere", uid="u-2")
    for shop in (*shops, other):
        shop.reading = felt(1500.0)
    for shop in shops:
        shop.shown["quota_milli"] = 7000
    reports = run(town_of(*shops, other), state, 60.0)
    assert sum(shop.running.replicas for shop in shops) == 7
    assert abs(shops[0].running.replicas - shops[1].running.replicas) <= 1
    assert other.running.replicas == 7
    grant = reports[-1].services[0].facts.grant
    assert grant is not None
    assert Reason.QUOTA_REACHED in grant.reasons
