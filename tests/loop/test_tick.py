"""One tick: what is decided, carried out, told and kept, for services of every kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from looping import ENOUGH, START_S, only, run, settled

from gpupilot_envs.reasons import Reason
from gpupilot_operator.control import tick
from gpupilot_operator.facts import Cause, MetricsState, PolicyState, Rung
from gpupilot_operator.memory import State
from gpupilot_operator.ports import Failure

Maker = Callable[..., Any]


@pytest.mark.parametrize(
    ("spec", "policy"),
    [
        ({"policy": "Queueing"}, "queueing"),
        ({"policy": "KEDA"}, "keda"),
        ({"policy": "KPA"}, "kpa-rps"),
        ({"policy": "Static", "fallback": {"replicas": 5}}, "static"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_policy_of_the_spec_scales_up_under_load(
    shop_of: Maker, town_of: Maker, felt: Maker, state: State, spec: dict[str, Any], policy: str
) -> None:
    shop = shop_of(**spec)
    shop.reading = felt(ENOUGH)
    report = run(town_of(shop), state, 30.0)[0]
    grant = only(report).grant
    assert grant is not None
    assert grant.policy == policy
    assert shop.running.replicas > 2


def test_hpa_scales_on_busy_gpus_without_any_profile(
    shop_of: Maker, town_of: Maker, felt: Maker, state: State
) -> None:
    shop = shop_of(policy="HPA", profile=None)
    shop.reading = felt(ENOUGH, gpu_busy_ratio=1.0)
    run(town_of(shop), state, 15.0)
    assert shop.running.replicas == 3


@pytest.mark.parametrize("mode", ["Observe", "Paused"])
def test_nothing_is_changed_unless_the_mode_is_act(
    shop_of: Maker, town_of: Maker, felt: Maker, state: State, mode: str
) -> None:
    shop = shop_of(mode=mode)
    shop.reading = felt(ENOUGH)
    town = town_of(shop)
    reports = run(town, state, 60.0)
    assert not town.changes
    decided = only(reports[-1]).grant
    assert (decided is None) == (mode == "Paused")
    if decided is not None:
        assert decided.granted.replicas > 2


def test_a_quiet_service_costs_no_write(
    shop_of: Maker, town_of: Maker, felt: Maker, state: State
) -> None:
    shops = [shop_of(f"shop-{n}", policy=p) for n, p in enumerate(("Queueing", "Learned", "KEDA"))]
    for shop in shops:
        shop.reading = felt(100.0)
        shop.running = replace(shop.running, replicas=1)
    town = town_of(*shops)
    run(town, state, 300.0)
    town.tellings.clear()
    town.changes.clear()
    run(town, state, 60.0, START_S + 300.0)
    assert (town.changes, town.tellings) == ([], [])


def test_between_two_decisions_a_baseline_is_not_said_to_ask_for_what_it_is_not_given(
    shop_of: Maker, town_of: Maker, felt: Maker, state: State
) -> None:
    shop = shop_of(policy="KEDA", mode="Observe")
    shop.reading = felt(ENOUGH)
    town = town_of(shop)
    observed = [only(each).grant for each in run(town, state, 20.0)]
    assert len({(g.asked, g.granted, g.reasons) for g in observed if g is not None}) == 1
    shop.service = shop_of(policy="KEDA", mode="Act").service
    acting = run(town, state, 60.0, START_S + 20.0)
    for grant in (only(each).grant for each in acting):
        assert grant is not None
        assert (grant.asked == grant.granted) == (grant.reasons == (Reason.DESIRED_WITHIN_RANGE,))
    assert shop.running.replicas > 2


def test_an_unproven_policy_rehearses_while_its_controller_acts(
    shop_of: Maker, town_of: Maker, felt: Maker, state: State
) -> None:
    shop = shop_of(policy="Learned")
    shop.reading = felt(ENOUGH)
    town = town_of(shop)
    facts = only(run(town, state, 5.0)[0])
    assert (facts.rung, facts.cause) == (Rung.CONTROLLER, Cause.PROOF)
    assert facts.policy is PolicyState.UNPROVEN
    assert facts.grant is not None
    assert facts.grant.policy == "queueing"
    assert facts.shadow is not None
    assert facts.shadow.policy == "generalist"
    assert [each.policy for each in town.noted] == ["generalist", "queueing"]
    assert shop.status.autoscaling.proof.verdict == "none"
    assert shop.status.autoscaling.shadow.policy == "generalist"


def test_a_rehearsal_that_changes_at_every_tick_is_told_once_a_minute(
    shop_of: Maker, town_of: Maker, felt: Maker, state: State
) -> None:
    shop = shop_of(policy="Learned")
    # what acts is held, so that the rehearsal alone moves
    shop.shown["annotations"] = {"gpupilot.dev/pause": "up"}
    town = town_of(shop)
    settled(town, state)
    told, wanted = [], set()
    for n in range(60):
        shop.reading = felt(ENOUGH if n % 2 else 2.0 * ENOUGH)
        report = tick(town.ports, state, START_S + 5.0 * n)
        shadow = only(report).shadow
        assert shadow is not None
        wanted.add(shadow.granted.replicas)
        told.append(shop.status.autoscaling.shadow.time)
    assert len(wanted) > 1
    assert len(set(told)) <= 5


def test_in_observe_an_unproven_policy_shows_what_it_would_do(
    shop_of: Maker, town_of: Maker, felt: Maker, state: State
) -> None:
    shop = shop_of(policy="Learned", mode="Observe")
    shop.reading = felt(ENOUGH)
    facts = only(run(town_of(shop), state, 5.0)[0])
    assert facts.grant is not None
    assert (facts.rung, facts.grant.policy, facts.shadow) == (Rung.POLICY, "generalist", None)


def test_a_service_without_a_profile_is_held_and_told_why(
    shop_of: Maker, town_of: Maker, felt: Maker, state: State
) -> None:
    shop = shop_of(profile=None)
    shop.reading = felt(ENOUGH)
    facts = only(run(town_of(shop), state, 30.0)[-1])
    assert (facts.rung, facts.policy) == (Rung.HOLD, PolicyState.PROFILE_MISSING)
    assert shop.running.replicas == 2
    ready = next(c for c in shop.status.conditions if c.type == "PolicyReady")
    assert (ready.status, ready.reason) == ("False", "ProfileMissing")


def test_no_answer_of_prometheus_keeps_what_runs_and_is_told_once(
    shop_of: Maker, town_of: Maker, felt: Maker, state: State
) -> None:
    shop = shop_of(replicas=4)
    shop.reading = felt(1.0)
    town = town_of(shop)
    run(town, state, 30.0)
    kept = shop.running.replicas
    town.down = "Prometheus at http://there did not answer within 3 s"
    town.tellings.clear()
    reports = run(town, state, 100.0, START_S + 30.0)
    assert shop.running.replicas == kept
    assert reports[-1].query_error == town.down
    assert only(reports[-1]).metrics is MetricsState.MISSING
    told = [event.reason for telling in town.tellings for event in telling.events]
    assert told == ["MetricsMissing"]


def test_no_traffic_is_not_a_missing_series(
    shop_of: Maker, town_of: Maker, felt: Maker, state: State
) -> None:
    shops = {rate: shop_of(f"shop-{rate}", replicas=4) for rate in (0.0, None)}
    for rate, shop in shops.items():
        shop.reading = felt(rate)
    run(town_of(*shops.values()), state, 600.0)
    assert shops[0.0].running.replicas == 1
    assert shops[None].running.replicas == 4


def test_what_was_declared_safe_is_asked_for_after_its_time_and_never_shrinks(
    shop_of: Maker, town_of: Maker, state: State
) -> None:
    fallback = {"replicas": 4, "afterSeconds": 60}
    small = shop_of("small", fallback=fallback)
    large = shop_of("large", fallback=fallback, replicas=7)
    town = town_of(small, large)
    run(town, state, 60.0)
    assert small.running.replicas == 2
    reports = run(town, state, 30.0, START_S + 60.0)
    assert (small.running.replicas, large.running.replicas) == (4, 7)
    facts = reports[-1].services[0].facts
    assert (facts.rung, facts.cause) == (Rung.SAFE, Cause.BLIND)
    assert facts.grant is not None
    assert Reason.SAFE_REPLICAS in facts.grant.reasons


def test_a_change_that_fails_is_tried_again_and_told_once(
    shop_of: Maker, town_of: Maker, felt: Maker, state: State
) -> None:
    shop = shop_of()
    shop.reading = felt(ENOUGH)
    town = town_of(shop)
    town.refuses = Failure(said="the API server answers 500")
    reports = run(town, state, 30.0)
    assert len(town.changes) == 6
    assert reports[-1].change_errors == 1
    told = [event.reason for telling in town.tellings for event in telling.events]
    assert told == ["ScalingFailed"]
    town.refuses = None
    run(town, state, 5.0, START_S + 30.0)
    assert shop.running.replicas > 2


def test_a_change_that_was_overtaken_is_decided_anew_and_no_trouble(
    shop_of: Maker, town_of: Maker, felt: Maker, state: State
) -> None:
    """It is no change either: nothing cools down for it, and nobody is told of one."""
    shop = shop_of()
    shop.reading = felt(ENOUGH)
    town = town_of(shop)
    town.refuses = Failure(said="replicas are no longer 2: decided anew", passing=True)
    reports = run(town, state, 30.0)
    assert len(town.changes) == 6
    assert [each.change_errors for each in reports] == [0] * 6
    assert [each.services[0].failure for each in reports] == [None] * 6
    told = {event.reason for telling in town.tellings for event in telling.events}
    assert not told & {"ScalingFailed", "ScaledUp"}
    town.refuses = None
    run(town, state, 5.0, START_S + 30.0)
    assert shop.running.replicas > 2


def test_a_status_that_could_not_be_written_is_written_later(
    shop_of: Maker, town_of: Maker, felt: Maker, state: State
) -> None:
    shop = shop_of(replicas=1)
    shop.reading = felt(100.0)
    town = town_of(shop)
    town.deaf = "the API server answers 429"
    reports = run(town, state, 20.0)
    assert reports[-1].telling_errors == 1
    town.deaf = None
    run(town, state, 5.0, START_S + 20.0)
    assert shop.status.conditions


def test_after_a_restart_or_a_hole_nothing_is_removed_before_there_is_history(
    shop_of: Maker, town_of: Maker, felt: Maker, state: State
) -> None:
    shop = shop_of(replicas=6, behavior={"warmUpSeconds": 120})
    shop.reading = felt(1.0)
    town = town_of(shop)
    run(town, state, 100.0)
    later_s = START_S + 100.0 + 3600.0
    reports = run(town, state, 120.0, later_s)
    assert shop.running.replicas == 6
    grant = only(reports[-1]).grant
    assert grant is not None
    assert Reason.WARMING_UP in grant.reasons
    run(town, state, 600.0, later_s + 120.0)
    assert shop.running.replicas < 6


def test_only_resources_for_which_nothing_runs_are_reported_beside_the_services(
    shop_of: Maker, town_of: Maker, felt: Maker, state: State
) -> None:
    shop = shop_of()
    shop.reading = felt(100.0)
    town = town_of(shop)
    town.wrong = {"prod/shop": "ReconcileFailed", "prod/search": "TargetNotFound"}
    assert run(town, state, 5.0)[0].unready == {"prod/search": "TargetNotFound"}


def test_services_come_and_go_and_begin_with_nothing_of_another(
    shop_of: Maker, town_of: Maker, felt: Maker, state: State
) -> None:
    shops = [shop_of(f"shop-{n}", replicas=4) for n in range(3)]
    for shop in shops:
        shop.reading = felt(1.0)
    town = town_of(*shops)
    run(town, state, 40.0)
    again = shop_of("shop-1", uid="u-another", replicas=4)
    again.reading = felt(1.0)
    del town.shops["prod/shop-0"]
    town.shops["prod/shop-1"] = again
    run(town, state, 30.0, START_S + 40.0)
    assert set(state.records) == {"prod/shop-1", "prod/shop-2"}
    assert again.running.replicas == 4
    assert shops[2].running.replicas < 4


def test_a_changed_spec_takes_effect_and_keeps_the_history(
    shop_of: Maker, town_of: Maker, felt: Maker, state: State
) -> None:
    shop = shop_of(behavior={"warmUpSeconds": 120})
    shop.reading = felt(ENOUGH)
    town = town_of(shop)
    run(town, state, 200.0)
    assert shop.running.replicas > 2
    shop.service = shop_of(behavior={"warmUpSeconds": 120}, predictor={"maxReplicas": 2}).service
    run(town, state, 5.0, START_S + 200.0)
    assert shop.running.replicas == 2
    shop.service = shop_of(behavior={"warmUpSeconds": 120}).service
    shop.reading = felt(1.0)
    # for a quarter of an hour the error of the fall keeps a margin
    reports = run(town, state, 1300.0, START_S + 205.0)
    assert shop.running.replicas == 1
    reasons = {r for each in reports if (g := only(each).grant) for r in g.reasons}
    assert Reason.WARMING_UP not in reasons


def test_another_profile_is_measured_before_anybody_decides_by_it(
    shop_of: Maker, town_of: Maker, felt: Maker, state: State
) -> None:
    shop = shop_of(policy="KEDA")
    shop.reading = felt(ENOUGH)
    town = town_of(shop)
    run(town, state, 60.0)
    shop.service = shop_of(policy="KEDA", profile="bert-large-a100-mig").service
    facts = only(tick(town.ports, state, START_S + 60.0))
    assert facts.policy is PolicyState.MEASURING
    settled(town, state)
    facts = only(tick(town.ports, state, START_S + 65.0))
    assert facts.policy is not PolicyState.MEASURING
