"""KEDA as it ships: 1 to N through the HPA, activation, cooldown, empty results, fallback."""

from __future__ import annotations

from typing import Any

from gpupilot_agent.baselines.keda import Keda, query
from gpupilot_envs.signals import Signals

UP = {"gpu_busy_ratio": 0.5}
"""Something the source answers beside the rate: it is up."""


def test_above_one_replica_it_is_an_hpa_on_the_rate(stage: Any) -> None:
    keda = stage(Keda(), replicas=4)
    assert keda.grant(rate_rps=340.0) == 4  # 340 / (80 * 4) is within the tolerance
    assert keda.grant(rate_rps=360.0) == 5
    assert keda.grant(rate_rps=3600.0) == 10  # twice what runs at most


def test_an_empty_result_reads_as_no_traffic_and_scales_in(stage: Any) -> None:
    keda = stage(Keda(stabilization_s=0.0), replicas=6)
    keda.grant(rate_rps=480.0)
    assert keda.ask(rate_rps=None, **UP) == 1
    assert keda.ask(rate_rps=float("nan"), **UP) == 1


def test_an_unreachable_source_holds(stage: Any) -> None:
    keda = stage(Keda(stabilization_s=0.0), replicas=6)
    assert keda.grant_for(600.0) == [6] * 40
    assert keda.why.startswith("TriggerError")


def test_the_fallback_speaks_when_failures_exceed_the_threshold(stage: Any) -> None:
    keda = stage(Keda(fallback=True, failure_threshold=3, fallback_replicas=6), replicas=4)
    assert keda.grant_for(45.0) == [4, 4, 4]
    assert keda.grant() == 6
    assert keda.grant(rate_rps=480.0) == 6
    assert keda.grant() == 6
    assert keda.memory.failures == 1  # one answer reset the count


def test_the_fallback_may_also_remove_replicas(stage: Any) -> None:
    keda = stage(Keda(fallback=True, fallback_replicas=2, stabilization_s=0.0), replicas=8)
    assert keda.grant_for(60.0) == [8, 8, 8, 2]


def test_the_last_replica_goes_after_the_cooldown_only_with_a_minimum_of_zero(stage: Any) -> None:
    idle = {"rate_rps": 0.0}
    kept = stage(Keda(stabilization_s=0.0), replicas=1)
    assert set(kept.grant_for(900.0, **idle)) == {1}
    keda = stage(Keda(stabilization_s=0.0), replicas=1, replicas_min=0)
    keda.grant(rate_rps=5.0)
    answers = keda.grant_for(315.0, **idle)
    assert answers[:19] == [1] * 19
    assert answers[-1] == 0


def test_activity_is_looked_at_once_a_polling_interval(stage: Any) -> None:
    keda = stage(Keda(), replicas=0, replicas_min=0)
    assert keda.grant(rate_rps=0.0) == 0
    assert keda.grant(rate_rps=9.0) == 0  # 15 s after the last look
    assert keda.grant(rate_rps=9.0) == 1


def test_the_activation_threshold_must_be_exceeded(stage: Any) -> None:
    keda = stage(Keda(activation_rps=5.0, polling_s=15.0), replicas=0, replicas_min=0)
    assert keda.ask(rate_rps=5.0) == 0
    assert keda.ask(rate_rps=5.1) == 1


def test_an_error_never_scales_to_zero(stage: Any) -> None:
    keda = stage(Keda(cooldown_s=30.0), replicas=1, replicas_min=0)
    assert set(keda.grant_for(300.0)) == {1}


def test_what_counts_as_an_error() -> None:
    assert query(None) is None
    assert query(Signals(at_s=0.0, window_s=1.0, replicas_ready=3, age_s=4.0)) is None
    assert query(Signals(at_s=0.0, window_s=1.0, inflight_requests=0.0)) == 0.0
    assert query(Signals(at_s=0.0, window_s=1.0, rate_rps=float("inf"))) == 0.0
    assert query(Signals(at_s=0.0, window_s=1.0, rate_rps=3.0)) == 3.0
