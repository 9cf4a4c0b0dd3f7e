"""HPA v2 by its published rules: the replica calculator, both normalisations, and whole stories."""

from __future__ import annotations

from typing import Any

import pytest

from gpupilot_agent.baselines.hpa import Hpa
from gpupilot_agent.baselines.hpa_behavior import (
    Behavior,
    HpaMemory,
    begin_sync,
    with_behavior,
    without_behavior,
)
from gpupilot_agent.baselines.hpa_metrics import (
    external_average_replicas,
    milli,
    pods_metric_replicas,
    within,
)

TARGET = 1000


def recommend(
    usage: list[int], *, current: int | None = None, unready: int = 0, missing: int = 0
) -> int | None:
    return pods_metric_replicas(
        usage,
        unready=unready,
        missing=missing,
        current=len(usage) + unready + missing if current is None else current,
        target_milli=TARGET,
    )


@pytest.mark.parametrize(
    ("usage", "replicas"),
    [
        ([1100, 1100], 2),  # at the edge of the tolerance: nothing changes
        ([1101, 1101], 3),
        ([900, 900], 2),
        ([899, 899], 2),  # ceil(0.899 * 2) = 2 all the same
        ([400, 400], 1),
        ([2500, 2500], 5),
        ([1999, 2000], 4),  # the mean is an integer: 3999 // 2 = 1999
        ([0, 0, 0], 0),
    ],
)
def test_ready_pods_only(usage: list[int], replicas: int) -> None:
    assert recommend(usage) == replicas


def test_the_tolerance_includes_its_edges() -> None:
    assert within(1.1)
    assert within(0.9)
    assert not within(1.1000001)
    assert not within(0.8999999)


def test_unready_pods_count_as_idle_when_scaling_up() -> None:
    # Two pods at 2.0 with two starting: (2 + 2 + 0 + 0) / 4 is on target, so nothing changes.
    assert recommend([2000, 2000], unready=2) == 4
    # With one starting: 4 / 3 = 1.33 over three pods is four.
    assert recommend([2000, 2000], unready=1) == 4
    assert recommend([3000, 3000], unready=2) == 6


def test_unready_pods_are_left_out_when_scaling_down() -> None:
    # Half the load on two ready pods: one is enough, whatever is still starting.
    assert recommend([500, 500], unready=3) == 1


def test_missing_pods_count_as_on_target_when_scaling_down() -> None:
    # (0.2 + 1.0) / 2 = 0.6 of two pods is two: the unknown pod keeps the count.
    assert recommend([200], missing=1) == 2
    # (0.1 * 3 + 1.0) / 4 = 0.325 of four pods is two.
    assert recommend([100, 100, 100], missing=1) == 2


def test_missing_pods_count_as_idle_when_scaling_up() -> None:
    assert recommend([4000], missing=1) == 4  # (4 + 0) / 2 = 2 of two pods
    assert recommend([1200], missing=1) == 2  # (1.2 + 0) / 2 turns the direction: nothing


def test_a_count_that_contradicts_the_direction_is_dropped() -> None:
    # Usage is above target, but the pods that were counted are fewer than spec.replicas.
    assert recommend([3000], unready=1, current=8) == 8


def test_no_ready_pod_with_a_metric_is_an_error() -> None:
    assert recommend([], unready=2) is None


def test_external_average_value_counts_running_pods_ready_or_not() -> None:
    assert external_average_replicas(milli(220.0), running=2, target_milli=milli(100.0)) == 2
    assert external_average_replicas(milli(221.0), running=2, target_milli=milli(100.0)) == 3
    assert external_average_replicas(milli(99.0), running=2, target_milli=milli(100.0)) == 1
    assert external_average_replicas(milli(250.0), running=0, target_milli=milli(100.0)) == 3
    assert external_average_replicas(0, running=3, target_milli=milli(100.0)) == 0


BOUNDS = (1, 100)


def synced(now_s: float, current: int, *recommendations: tuple[float, int]) -> HpaMemory:
    return HpaMemory(recommendations=recommendations, seen=(now_s, current))


def test_the_first_sync_records_what_runs_as_a_recommendation() -> None:
    assert begin_sync(None, 7.0, 5).recommendations == ((7.0, 5),)
    outcome = without_behavior(begin_sync(None, 7.0, 5), 7.0, 1, BOUNDS)
    assert (outcome.replicas, outcome.reason) == (5, "ScaleDownStabilized")


def test_without_behavior_growth_is_capped_at_twice_or_four() -> None:
    assert without_behavior(synced(0.0, 1), 0.0, 50, BOUNDS).replicas == 4
    assert without_behavior(synced(0.0, 3), 0.0, 50, BOUNDS).replicas == 6
    assert without_behavior(synced(0.0, 3), 0.0, 50, BOUNDS).reason == "ScaleUpLimit"
    capped = without_behavior(synced(0.0, 9), 0.0, 50, (1, 12))
    assert (capped.replicas, capped.reason) == (12, "TooManyReplicas")
    low = without_behavior(synced(0.0, 3), 0.0, 0, BOUNDS)
    assert (low.replicas, low.reason) == (1, "TooFewReplicas")


def test_without_behavior_the_window_keeps_raw_recommendations_and_its_edge() -> None:
    # 40 was recommended but capped; it is the raw 40 that holds the count up afterwards.
    held = synced(300.0, 8, (0.0, 40), (100.0, 2))
    assert without_behavior(held, 300.0, 2, BOUNDS).replicas == 16
    assert without_behavior(held, 300.1, 2, BOUNDS).replicas == 2


def test_with_behavior_the_edge_of_the_window_is_outside() -> None:
    held = synced(300.0, 8, (0.0, 7), (100.0, 2))
    assert with_behavior(held, 299.9, 2, BOUNDS, Behavior()).replicas == 7
    assert with_behavior(held, 300.0, 2, BOUNDS, Behavior()).replicas == 2


def test_default_behavior_adds_the_larger_of_four_pods_and_all_over_again() -> None:
    assert with_behavior(synced(0.0, 1), 0.0, 50, BOUNDS, Behavior()).replicas == 5
    assert with_behavior(synced(0.0, 4), 0.0, 50, BOUNDS, Behavior()).replicas == 8
    assert with_behavior(synced(0.0, 9), 0.0, 50, BOUNDS, Behavior()).replicas == 18


def test_the_ledger_counts_what_changed_within_the_period() -> None:
    # Five seconds ago the service went from 4 to 8; the period began with 4, so 8 is the limit.
    memory = HpaMemory(changes=((95.0, 4),), seen=(100.0, 8))
    outcome = with_behavior(memory, 100.0, 50, BOUNDS, Behavior())
    assert (outcome.replicas, outcome.reason) == (8, "ScaleUpLimit")
    # The same change exactly one period ago no longer counts.
    memory = HpaMemory(changes=((85.0, 4),), seen=(100.0, 8))
    assert with_behavior(memory, 100.0, 50, BOUNDS, Behavior()).replicas == 16
    # Pods that went within the period may come back on top.
    memory = HpaMemory(changes=((95.0, -6),), seen=(100.0, 2))
    assert with_behavior(memory, 100.0, 50, BOUNDS, Behavior()).replicas == 16


def test_percent_limits_round_up_on_growth_and_down_on_shrinkage() -> None:
    tight = Behavior(up_pods=0, up_percent=10.0, down_percent=10.0, down_window_s=0.0)
    assert with_behavior(synced(0.0, 1), 0.0, 50, BOUNDS, tight).replicas == 2
    shrunk = with_behavior(synced(0.0, 15), 0.0, 1, BOUNDS, tight)
    assert (shrunk.replicas, shrunk.reason) == (13, "ScaleDownLimit")


def test_an_up_window_takes_the_lowest_recent_recommendation() -> None:
    patient = Behavior(up_window_s=60.0)
    memory = synced(100.0, 4, (50.0, 4), (80.0, 9))
    outcome = with_behavior(memory, 100.0, 9, BOUNDS, patient)
    assert (outcome.replicas, outcome.reason) == (4, "ScaleUpStabilized")
    assert with_behavior(memory, 115.0, 9, BOUNDS, patient).replicas == 8


def test_a_missing_metric_holds_and_is_not_recorded(stage: Any) -> None:
    hpa = stage(Hpa(), replicas=4)
    hpa.grant(gpu_busy_ratio=0.8)
    before = hpa.memory.recommendations
    assert hpa.grant(gpu_busy_ratio=None) == 4
    assert hpa.why == "FailedGetPodsMetric"
    assert hpa.memory.recommendations == before


def test_outside_the_bounds_the_metric_is_not_read(stage: Any) -> None:
    assert stage(Hpa(), replicas=9, replicas_max=6).ask() == 6
    assert stage(Hpa(), replicas=1, replicas_min=3).ask() == 3
    assert stage(Hpa(), replicas=0).ask(gpu_busy_ratio=1.0) == 0


def test_on_utilisation_saturation_hides_the_demand(stage: Any) -> None:
    """A GPU is never more than 100 % busy: growth is at most x1.25 a sync, whatever waits."""
    hpa = stage(Hpa(), replicas=8)
    assert hpa.grant(gpu_busy_ratio=1.0, rate_rps=5000.0) == 10


def test_while_pods_start_no_further_pods_are_asked_for(stage: Any) -> None:
    hpa = stage(Hpa(), replicas=4)
    assert hpa.grant(gpu_busy_ratio=1.0) == 5
    assert hpa.grant(gpu_busy_ratio=1.0, replicas_ready=4, replicas_pending=1) == 5


def test_on_rate_the_first_sync_asks_for_the_whole_demand(stage: Any) -> None:
    hpa = stage(Hpa(metric="rate"), replicas=8)
    assert hpa.grant(rate_rps=1200.0) == 15


def test_scale_down_waits_five_minutes_after_the_last_peak(stage: Any) -> None:
    for behavior in (False, True):
        hpa = stage(Hpa(metric="rate", behavior=behavior), replicas=2)
        hpa.grant_for(30.0, rate_rps=640.0)
        assert hpa.replicas == 8
        answers = hpa.grant_for(315.0, rate_rps=160.0)
        assert answers[:19] == [8] * 19
        assert answers[-1] == 2


def test_the_two_normalisations_are_different_controllers(stage: Any) -> None:
    """From one replica, nil behavior may reach 4 and then doubles; the default one adds 4."""
    grown = {}
    for behavior in (False, True):
        hpa = stage(Hpa(metric="rate", behavior=behavior), replicas=1)
        grown[behavior] = hpa.grant_for(60.0, rate_rps=2560.0)
    assert grown[False] == [4, 8, 16, 32]
    assert grown[True] == [5, 10, 20, 32]
