"""Limits that hold back what was asked: one event as each begins, and none for what is not new."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from looping import ENOUGH, START_S, run

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.reasons import Reason
from gpupilot_operator.control import tick
from gpupilot_operator.facts import Grant
from gpupilot_operator.holding import AGAIN_S, begun, limit_event
from gpupilot_operator.memory import State
from gpupilot_operator.ports import Event
from gpupilot_operator.status_fields import (
    AutoscalingStatus,
    Decision,
    InferenceServiceStatus,
)

Maker = Callable[..., Any]
LIMITS = [Reason.TOO_MANY_REPLICAS, Reason.STEP_LIMITED, Reason.COOLING_DOWN]


def events(town: Any) -> list[Event]:
    """Return everything that was told since this was last asked."""
    told = [event for telling in town.tellings for event in telling.events]
    town.tellings.clear()
    return told


def of_limits(told: list[Event]) -> list[str]:
    return [each.reason for each in told if each.reason in set(Reason)]


def test_a_limit_that_holds_is_told_once_in_a_sentence(
    shop_of: Maker, town_of: Maker, felt: Maker, state: State
) -> None:
    shop = shop_of(replicas=3, predictor={"maxReplicas": 3})
    shop.reading = felt(10.0 * ENOUGH)
    town = town_of(shop)
    run(town, state, 300.0)
    (event,) = [each for each in events(town) if each.reason == "TooManyReplicas"]
    assert not event.warning
    assert event.message.startswith("queueing asked for ")
    assert event.message.endswith(", 3 granted: the desired count is more than the maximum")
    run(town, state, 300.0, START_S + 300.0)
    assert events(town) == []


def test_a_restart_tells_no_limit_anew(
    shop_of: Maker, town_of: Maker, felt: Maker, state_of: Callable[[], State]
) -> None:
    shops = [shop_of(f"shop-{n}", replicas=3, predictor={"maxReplicas": 3}) for n in range(5)]
    for shop in shops:
        shop.reading = felt(10.0 * ENOUGH)
    town = town_of(*shops)
    run(town, state_of(), 300.0)
    assert of_limits(events(town)).count("TooManyReplicas") == len(shops)
    run(town, state_of(), 300.0, START_S + 400.0)
    assert events(town) == []


def test_a_service_that_comes_and_goes_between_limits_is_told_once_an_hour(
    shop_of: Maker, town_of: Maker, felt: Maker, state: State
) -> None:
    shop = shop_of(replicas=1, predictor={"maxReplicas": 3}, behavior={"warmUpSeconds": 0})
    town = town_of(shop)
    told: dict[str, list[float]] = {}
    for n in range(int(AGAIN_S / 5.0)):
        shop.reading = felt(10.0 * ENOUGH if n // 120 % 2 else 1.0)
        tick(town.ports, state, START_S + 5.0 * n)
        for reason in of_limits(events(town)):
            told.setdefault(reason, []).append(5.0 * n)
    assert len(told) > 1
    assert all(len(times) == 1 for times in told.values())


@pytest.mark.parametrize(
    ("reason", "spec", "shown"),
    [
        ("ScalingPaused", {}, {"annotations": {"gpupilot.dev/pause": "up"}}),
        ("QuotaReached", {}, {"quota_milli": 2000}),
        ("BudgetReached", {"gpu": {"budgetMilli": 2000}}, {}),
    ],
)
def test_other_limits_too(
    shop_of: Maker,
    town_of: Maker,
    felt: Maker,
    state: State,
    reason: str,
    spec: dict[str, Any],
    shown: dict[str, Any],
) -> None:
    shop = shop_of(**spec)
    shop.shown.update(shown)
    shop.reading = felt(ENOUGH)
    town = town_of(shop)
    run(town, state, 120.0)
    assert of_limits(events(town)).count(reason) == 1


def test_a_count_set_by_hand_is_told_once_and_by_its_own_event(
    shop_of: Maker, town_of: Maker, felt: Maker, state: State
) -> None:
    shop = shop_of(predictor={"maxReplicas": 3})
    shop.reading = felt(ENOUGH)
    town = town_of(shop)
    run(town, state, 60.0)
    events(town)
    shop.shown["set_by_hand"] = 8
    run(town, state, 120.0, START_S + 60.0)
    told = [each for each in events(town) if each.reason == "SetByHand"]
    assert [each.message for each in told] == ["8 pods were asked for by hand, kept for 900 s"]


def told_of(grant: Grant | None) -> InferenceServiceStatus:
    """Return a status that tells a decision."""
    if grant is None:
        return InferenceServiceStatus()
    decision = Decision(
        time="2026-11-22T12:00:00Z",
        current_replicas=1,
        asked_replicas=grant.asked.replicas,
        granted_replicas=grant.granted.replicas,
        reason=grant.reasons[0].value,
        constraints_applied=tuple(each.value for each in grant.reasons if each.bit),
        policy=grant.policy,
    )
    return InferenceServiceStatus(autoscaling=AutoscalingStatus(last_decision=decision))


@st.composite
def grants(draw: st.DrawFn) -> Grant:
    """Return a decision with some limits, or none."""
    limits = tuple(draw(st.lists(st.sampled_from(LIMITS), max_size=2, unique=True)))
    return Grant(
        asked=Allocation(replicas=9),
        granted=Allocation(replicas=8 if limits else 9),
        reasons=limits or (Reason.DESIRED_WITHIN_RANGE,),
        policy="queueing",
    )


@given(steps=st.lists(st.tuples(st.floats(1.0, 2000.0), grants()), max_size=30))
def test_no_limit_is_told_twice_within_an_hour_nor_while_it_holds(
    steps: list[tuple[float, Grant]],
) -> None:
    said_s: dict[Reason, float] = {}
    now_s, last = START_S, None
    for wait_s, grant in steps:
        now_s += wait_s
        found = begun(told_of(last), told_of(grant), grant, said_s, now_s)
        assert not set(found) & set(() if last is None else last.reasons)
        assert all(now_s - said_s[each] >= AGAIN_S for each in found if each in said_s)
        assert Reason.DESIRED_WITHIN_RANGE not in found
        said_s |= dict.fromkeys(found, now_s)
        last = grant


def test_a_limit_that_took_nothing_away_is_worth_no_event() -> None:
    same = Allocation(replicas=3)
    grant = Grant(asked=same, granted=same, reasons=(Reason.COOLING_DOWN,), policy="keda")
    assert begun(told_of(None), told_of(grant), grant, {}, START_S) == ()


def test_the_event_has_the_name_that_status_and_metric_have() -> None:
    grant = Grant(
        asked=Allocation(replicas=9),
        granted=Allocation(replicas=8),
        reasons=(Reason.TOO_MANY_REPLICAS, Reason.STEP_LIMITED),
        policy="keda",
    )
    assert limit_event(grant, Reason.STEP_LIMITED) == Event(
        reason="StepLimited",
        message="keda asked for 9, 8 granted: " + Reason.STEP_LIMITED.meaning,
    )
