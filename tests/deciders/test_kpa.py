"""Knative's autoscaler told in fake time, as its own tests are."""

from __future__ import annotations

from typing import Any

from gpupilot_agent.baselines.kpa import Kpa

# With a batch of 8 and one instance the hard limit is 8; at 70 % the target is 5.6.
TARGET = 0.7 * 8


def test_the_stable_window_sizes_by_total_concurrency(stage: Any) -> None:
    kpa = stage(Kpa(), replicas=1)
    kpa.grant_for(120.0, inflight_requests=1.5 * TARGET)
    assert kpa.replicas == 2


def test_a_partial_window_is_averaged_over_what_there_is(stage: Any) -> None:
    kpa = stage(Kpa(), replicas=1)
    assert kpa.grant(inflight_requests=1.9 * TARGET) == 2


def test_twice_the_ready_pods_in_the_panic_window_is_panic(stage: Any) -> None:
    kpa = stage(Kpa(), replicas=2)
    kpa.memory = None
    kpa.grant_for(70.0, inflight_requests=1.5 * TARGET)
    assert kpa.memory.panic_at_s is None
    answers = kpa.grant_for(6.0, inflight_requests=10.0 * TARGET, replicas_ready=2)
    assert kpa.memory.panic_at_s == kpa.now_s
    assert answers[-1] == 10


def test_in_panic_nothing_scales_down_and_the_peak_is_the_floor(stage: Any) -> None:
    kpa = stage(Kpa(), replicas=1)
    kpa.grant_for(70.0, inflight_requests=0.5 * TARGET)
    kpa.grant_for(6.0, inflight_requests=8.0 * TARGET, replicas_ready=1)
    assert kpa.replicas == 8
    lull = kpa.grant_for(60.0, inflight_requests=0.1 * TARGET)
    assert set(lull) == {8}


def test_panic_ends_one_stable_window_after_it_was_last_extended(stage: Any) -> None:
    kpa = stage(Kpa(), replicas=1)
    kpa.grant_for(70.0, inflight_requests=0.5 * TARGET)
    kpa.grant_for(6.0, inflight_requests=8.0 * TARGET, replicas_ready=1)
    entered_s = kpa.memory.panic_at_s
    while kpa.memory.panic_at_s is not None:
        kpa.grant(inflight_requests=0.5 * TARGET)
    assert kpa.memory.panic_at_s is None
    assert kpa.now_s - entered_s == 62.0  # strictly more than the window, in ticks of 2 s
    assert kpa.memory.most_in_panic == 0


def test_a_restarted_decider_with_several_pods_starts_in_panic(stage: Any) -> None:
    kpa = stage(Kpa(), replicas=6)
    assert kpa.grant(inflight_requests=0.2 * TARGET) == 6
    assert kpa.memory.most_in_panic == 6
    alone = stage(Kpa(), replicas=1)
    alone.grant(inflight_requests=0.2 * TARGET)
    assert alone.memory.panic_at_s is None


def test_stable_mode_removes_at_most_half_a_tick(stage: Any) -> None:
    kpa = stage(Kpa(), replicas=20)
    kpa.grant_for(62.0, inflight_requests=0.1)
    assert kpa.replicas == 20  # still in the panic of its start
    assert kpa.grant_for(8.0, inflight_requests=0.1) == [10, 5, 2, 1]


def test_growth_is_rounded_up_so_that_it_never_sticks(stage: Any) -> None:
    kpa = stage(Kpa(up_rate_max=1.1), replicas=2)
    kpa.grant_for(80.0, inflight_requests=3.0 * TARGET, replicas_ready=2)
    assert kpa.replicas == 3  # ceil(1.1 * 2)


def test_the_scale_down_delay_keeps_the_largest_answer(stage: Any) -> None:
    kpa = stage(Kpa(down_delay_s=120.0), replicas=1)
    kpa.grant_for(70.0, inflight_requests=1.8 * TARGET)
    assert kpa.replicas == 2
    answers = kpa.grant_for(180.0, inflight_requests=0.5 * TARGET)
    assert answers[:60] == [2] * 60
    assert answers[-1] == 1


def test_the_activation_scale_applies_once_anything_is_needed(stage: Any) -> None:
    kpa = stage(Kpa(activation_scale=3), replicas=1)
    assert kpa.grant(inflight_requests=0.1) == 3
    assert stage(Kpa(activation_scale=3), replicas=1).grant(inflight_requests=0.0) == 1


def test_without_data_there_is_no_decision(stage: Any) -> None:
    kpa = stage(Kpa(), replicas=5)
    assert kpa.grant_for(20.0) == [5] * 10
    assert kpa.why == "no data"
    assert stage(Kpa(), replicas=5).grant(inflight_requests=99.0, replicas_ready=None) == 5


def test_ticks_without_data_are_left_out_of_the_mean(stage: Any) -> None:
    kpa = stage(Kpa(), replicas=1)
    kpa.grant_for(70.0, inflight_requests=1.5 * TARGET)
    kpa.grant_for(4.0)
    assert kpa.grant(inflight_requests=1.5 * TARGET) == 2


def test_on_requests_per_second_the_target_is_what_a_replica_carries(stage: Any) -> None:
    kpa = stage(Kpa(metric="rps"), replicas=1)
    kpa.grant_for(70.0, rate_rps=130.0)
    assert kpa.replicas == 2  # ceil(130 / 70)


def test_zero_waits_for_the_grace_and_for_a_minimum_of_zero(stage: Any) -> None:
    kpa = stage(Kpa(), replicas=1, replicas_min=0)
    kpa.grant(inflight_requests=1.0)
    answers = kpa.grant_for(100.0, inflight_requests=0.0)
    assert answers[-1] == 0
    assert 1 in answers
    assert set(stage(Kpa(), replicas=1).grant_for(100.0, inflight_requests=0.0)) == {1}
