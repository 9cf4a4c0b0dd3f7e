"""Ray Serve, Dynamo and WVA by their published rules."""

from __future__ import annotations

from math import factorial
from typing import Any

import numpy as np
import pytest

from gpupilot_agent.baselines.dynamo import Dynamo, engine_latency_s
from gpupilot_agent.baselines.kalman import P_START, Q_LEVEL, Q_TREND, LocalTrend, R
from gpupilot_agent.baselines.ray_serve import RayServe
from gpupilot_agent.baselines.state_dependent import batch_rates, largest_rate, solve
from gpupilot_agent.baselines.wva import Wva


def test_ray_grows_after_unbroken_agreement_only(stage: Any) -> None:
    ray = stage(RayServe(), replicas=2)
    assert ray.grant_for(30.0, inflight_requests=12.0) == [2] * 15  # int(30 / 2) loops agree
    assert ray.grant(inflight_requests=12.0) == 6
    assert ray.memory == 0


def test_ray_starts_counting_again_after_one_loop_on_target(stage: Any) -> None:
    ray = stage(RayServe(), replicas=2)
    ray.grant_for(30.0, inflight_requests=12.0)
    ray.grant(inflight_requests=4.0)
    assert ray.grant_for(30.0, inflight_requests=12.0) == [2] * 15


def test_ray_applies_the_last_value_not_the_largest(stage: Any) -> None:
    ray = stage(RayServe(), replicas=2)
    ray.grant_for(30.0, inflight_requests=40.0)
    assert ray.grant(inflight_requests=5.0) == 3


def test_ray_shrinks_after_ten_minutes_and_stops_at_one(stage: Any) -> None:
    ray = stage(RayServe(), replicas=6, replicas_min=0)
    answers = ray.grant_for(602.0, inflight_requests=0.0)
    assert answers[:-1] == [6] * 300
    assert answers[-1] == 1
    assert ray.grant_for(602.0, inflight_requests=0.0)[-1] == 0


def test_ray_rounds_up_and_unsticks_a_small_down_factor(stage: Any) -> None:
    ray = stage(RayServe(down_factor=0.2, down_delay_s=0.0), replicas=4)
    assert ray.grant(inflight_requests=6.0) == 3  # ceil(4 - 0.2) = 4 is stuck, so one less


def test_ray_wakes_from_zero_at_once_and_holds_without_metrics(stage: Any) -> None:
    asleep = stage(RayServe(), replicas=0, replicas_min=0)
    assert asleep.ask(inflight_requests=0.0) == 0
    assert asleep.ask(inflight_requests=1.0) == 1
    assert stage(RayServe(), replicas=5).grant(inflight_requests=None) == 5


def test_the_kalman_predictor_matches_the_matrix_form() -> None:
    transition, seen = np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([[1.0, 0.0]])
    noise = np.diag([Q_LEVEL, Q_TREND])
    values = [40.0, 44.0, 51.0, 49.0, 60.0, 71.0]
    state, cov = np.array([[values[0]], [0.0]]), np.eye(2) * P_START
    state, cov = transition @ state, transition @ cov @ transition.T + noise
    trend = LocalTrend.begin(values[0])
    for value in values[1:]:
        gain = cov @ seen.T / (seen @ cov @ seen.T + R)
        state = state + gain * (value - seen @ state)
        cov = (np.eye(2) - gain @ seen) @ cov
        state, cov = transition @ state, transition @ cov @ transition.T + noise
        trend = trend.observe(value)
    assert (trend.level, trend.trend) == pytest.approx((state[0, 0], state[1, 0]))


def test_dynamo_adds_one_when_every_engine_misses_the_objective(stage: Any) -> None:
    dynamo = stage(Dynamo(), replicas=4)
    # Nine in flight each: a whole batch ahead (50 ms) and two together (20 ms) exceed 60 ms.
    assert dynamo.grant(inflight_requests=36.0, rate_rps=300.0) == 5
    assert dynamo.why == "scale_up"


def test_dynamo_refuses_a_consolidation_that_would_not_hold(stage: Any) -> None:
    dynamo = stage(Dynamo(), replicas=2)
    # Three each: 30 ms now; six on the survivor: 45 ms, still below 0.8 * 60 = 48 ms.
    assert engine_latency_s(dynamo.view(), 6.0) == pytest.approx(0.045)
    assert dynamo.ask(inflight_requests=6.0, rate_rps=100.0) == 1
    # Seven on the survivor: 50 ms is within the objective, but not within 80 % of it.
    assert engine_latency_s(dynamo.view(), 7.0) == pytest.approx(0.050)
    assert dynamo.ask(inflight_requests=7.0, rate_rps=100.0) == 2
    assert dynamo.why == "scale_down_refused_consolidation"


def test_dynamo_only_observes_while_pods_start(stage: Any) -> None:
    dynamo = stage(Dynamo(), replicas=3)
    busy = {"inflight_requests": 90.0, "rate_rps": 500.0}
    assert dynamo.grant(**busy, replicas_ready=2, replicas_pending=1) == 3
    assert dynamo.why == "scaling_in_progress"
    assert dynamo.grant(**busy, replicas_ready=2, replicas_pending=0) == 3
    assert dynamo.grant(inflight_requests=None) == 3
    assert dynamo.why == "no_fpm_data"


def test_dynamo_forecasts_a_floor_under_the_load_loop(stage: Any) -> None:
    dynamo = stage(Dynamo(), replicas=5)
    dynamo.grant_for(185.0, inflight_requests=0.5, rate_rps=340.0)
    assert dynamo.memory.floor == 4
    assert dynamo.replicas == 4
    dynamo.grant_for(60.0, inflight_requests=0.5, rate_rps=10.0)
    assert dynamo.replicas == 4
    assert dynamo.why == "scale_down_capped_by_throughput"


def test_dynamo_skips_leading_idle_intervals_and_reads_gaps_as_no_load(stage: Any) -> None:
    dynamo = stage(Dynamo(), replicas=1)
    dynamo.grant_for(400.0, inflight_requests=0.0, rate_rps=0.0)
    assert dynamo.memory.trend is None
    dynamo.grant_for(180.0, inflight_requests=0.0, rate_rps=None)
    assert dynamo.memory.trend is None


def test_dynamo_engine_latency_counts_batches_ahead_of_ones_own(stage: Any) -> None:
    view = stage(Dynamo()).view()
    assert engine_latency_s(view, 0.0) == pytest.approx(0.015)
    assert engine_latency_s(view, 7.0) == pytest.approx(0.050)
    assert engine_latency_s(view, 8.0) == pytest.approx(0.050 + 0.015)
    assert engine_latency_s(view, 19.0) == pytest.approx(0.100 + 0.030)


def test_state_dependent_queue_with_one_rate_is_the_textbook_mm1k() -> None:
    rate, arrivals, places = 10.0, 7.0, 5
    rho = arrivals / rate
    shares = np.array([rho**n for n in range(places + 1)]) * (1 - rho) / (1 - rho ** (places + 1))
    throughput = arrivals * (1 - shares[-1])
    expected = throughput, float(np.arange(places + 1) @ shares) / throughput
    assert solve(np.array([rate]), arrivals, places) == pytest.approx(expected)


def test_state_dependent_queue_with_rising_rates_is_the_textbook_erlang_loss() -> None:
    arrivals, servers = 3.0, 6
    rates = np.arange(1.0, servers + 1.0)
    weights = np.array([arrivals**n / factorial(n) for n in range(servers + 1)])
    blocked = weights[-1] / weights.sum()
    throughput, seconds = solve(rates, arrivals, servers)
    assert throughput == pytest.approx(arrivals * (1 - blocked))
    assert seconds == pytest.approx(1.0)  # nobody waits, service takes one second


def test_overload_does_not_overflow() -> None:
    throughput, seconds = solve(np.array([1e-3]), 1e3, 110)
    assert throughput == pytest.approx(1e-3)
    assert np.isfinite(seconds)


def test_the_largest_rate_meets_the_target_and_hardly_more_does() -> None:
    rates = batch_rates(np.array([0.0, 0.015, 0.020, 0.025, 0.030]), 4, 1)
    assert rates.tolist() == pytest.approx([1 / 0.015, 2 / 0.020, 3 / 0.025, 4 / 0.030])
    best = largest_rate(rates, 0.040)
    seconds = [solve(rates, rate, 44)[1] for rate in np.linspace(1.0, 132.0, 400)]
    within = np.linspace(1.0, 132.0, 400)[np.array(seconds) <= 0.040].max()
    assert best == pytest.approx(within, abs=0.7)
    assert largest_rate(rates, 0.0149) == 0.0
    assert largest_rate(rates, 10.0) > 130.0


def test_wva_sizes_every_minute_and_its_hpa_waits_four(stage: Any) -> None:
    wva = stage(Wva(), replicas=2)
    wva.grant_for(15.0, rate_rps=200.0)
    first = wva.memory.desired
    wva.grant_for(60.0, rate_rps=2000.0)
    surge = wva.memory.desired
    assert surge > 5 * first
    assert wva.replicas == 2
    wva.grant_for(300.0, rate_rps=2000.0)
    assert wva.replicas == surge


def test_wva_looks_at_the_mean_only_so_a_margin_buys_the_tail(stage: Any) -> None:
    sizes = []
    for margin in (1.0, 2.0, 3.0):
        wva = stage(Wva(latency_margin=margin), replicas=2)
        wva.grant(rate_rps=500.0)
        sizes.append(wva.memory.desired)
    assert sizes == sorted(sizes)
    assert sizes[-1] > sizes[0]


def test_wva_keeps_its_last_size_without_a_rate(stage: Any) -> None:
    wva = stage(Wva(), replicas=3)
    wva.grant_for(60.0)
    assert wva.memory.desired == 3
    assert wva.replicas == 3
