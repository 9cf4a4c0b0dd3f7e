"""Baselines by name: what can be built, what may be tuned, what all of them withstand."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpupilot_agent.baselines.clairvoyant import smoothed_rates
from gpupilot_agent.baselines.fixed import ScheduledPolicy, peak_rps
from gpupilot_agent.baselines.registry import SEARCH_SPACES, Dimension, make, names
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.queueing import needs, settle
from gpupilot_envs.workload.trace import RateTrace

TRACE = RateTrace(name="made-up", bin_s=10.0, rps=np.array([100.0] * 30 + [700.0] * 6 + [0.0] * 30))


def build(name: str, params: dict[str, float] | None = None) -> Any:
    return make(name, params, trace=TRACE)


@pytest.mark.parametrize("name", names())
def test_every_default_is_the_default_of_its_search_space(name: str) -> None:
    policy = build(name)
    assert policy.name == name
    assert policy.period_s > 0.0
    for field, dimension in SEARCH_SPACES[name].items():
        assert dimension.low <= dimension.default <= dimension.high
        assert getattr(policy, field) == dimension.default


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("share", [0.0, 0.37, 1.0])
def test_every_point_of_a_search_space_is_a_policy(name: str, share: float) -> None:
    params = {field: d.at(share) for field, d in SEARCH_SPACES[name].items()}
    policy = build(f"{name}-tuned", params)
    assert policy.name == f"{name}-tuned"
    assert {field: getattr(policy, field) for field in params} == pytest.approx(params)
    with pytest.raises(FrozenInstanceError):
        policy.name = "other"


@pytest.mark.parametrize("name", names())
@given(
    shown=st.lists(
        st.fixed_dictionaries(
            {
                "rate_rps": st.one_of(st.none(), st.floats(0.0, 5000.0)),
                "gpu_busy_ratio": st.one_of(st.none(), st.floats(0.0, 1.0)),
                "inflight_requests": st.one_of(st.none(), st.floats(0.0, 500.0)),
                "pending_requests": st.one_of(st.none(), st.floats(0.0, 500.0)),
                "replicas_ready": st.one_of(st.none(), st.integers(0, 40)),
                "replicas_pending": st.one_of(st.none(), st.integers(0, 40)),
            }
        ),
        min_size=1,
        max_size=20,
    ),
    replicas=st.integers(0, 32),
)
def test_no_reading_however_gappy_breaks_a_policy(
    stage: Any, name: str, shown: list[dict[str, float | None]], replicas: int
) -> None:
    service = stage(build(name), replicas=replicas, replicas_min=0)
    for reading in shown:
        asked = service.ask(**reading)
        assert isinstance(asked, int)
        assert 0 <= asked <= 10_000
        assert service.why
        service.replicas = min(asked, 32)


@pytest.mark.parametrize("name", [n for n in names() if n not in ("static-peak", "clairvoyant")])
def test_without_any_answer_only_the_constant_and_the_fallback_move(stage: Any, name: str) -> None:
    service = stage(build(name), replicas=5)
    nothing = {"replicas_ready": None, "replicas_pending": None, "age_s": None}
    answers = set(service.grant_for(600.0, **nothing))
    expected = {"static": {4}, "keda-fallback": {5, 6}, "dynamo": {5}}
    assert answers == expected.get(name, {5})


@pytest.mark.parametrize("name", names())
def test_policies_are_pure_functions_of_view_and_memory(stage: Any, name: str) -> None:
    service = stage(build(name), replicas=4)
    shown = {"gpu_busy_ratio": 0.95, "inflight_requests": 50.0, "pending_requests": 9.0}
    for rate in (300.0, 800.0, 100.0):
        service.grant(rate_rps=rate, **shown)
        before = service.memory
        first = service.policy.act(service.view(), before)
        assert service.policy.act(service.view(), before) == first


def test_wrong_names_and_parameters_are_refused_in_one_sentence() -> None:
    for name, params, said in [
        ("hpaa", None, "policy: 'hpaa' is not allowed; expected one of static, static-peak, hpa"),
        ("hpa-tuned", None, "tuned parameters"),
        ("hpa", {"target": 0.5}, "hpa parameter: 'target' is not allowed; expected one of"),
        ("hpa", {"target_ratio": float("nan")}, "hpa.target_ratio: nan is not allowed"),
        ("hpa", {"metric": 1.0}, "hpa parameter: 'metric'"),
    ]:
        with pytest.raises(InputInvalid, match=said.replace("(", r"\(")):
            make(name, params)
    for name in ("static-peak", "clairvoyant"):
        with pytest.raises(InputInvalid, match="the trace it is to know beforehand"):
            make(name)


def test_whole_numbers_stay_whole() -> None:
    assert isinstance(build("static", {"replicas": 6.0}).replicas, int)
    assert build("predictive", {"conformal": 0.0}).conformal is False


def test_dimensions_step_evenly_or_by_ratios() -> None:
    assert Dimension(low=1.0, high=100.0, default=10.0, log=True).at(0.5) == pytest.approx(10.0)
    assert Dimension(low=1, high=32, default=4, integer=True).at(0.5) == 16.0
    assert Dimension(low=0.0, high=4.0, default=1.0).at(0.25) == 1.0


def test_static_peak_buys_the_busiest_minute(stage: Any) -> None:
    assert peak_rps(TRACE) == pytest.approx(700.0)
    assert peak_rps(TRACE, over_s=120.0) == pytest.approx(400.0)
    service = stage(build("static-peak"), replicas=1)
    assert service.grant_for(60.0) == [7] * 4


def test_the_clairvoyant_sees_the_peak_one_cold_start_ahead(stage: Any) -> None:
    service = stage(build("clairvoyant", {"z": 0.0}), replicas=1)
    answers = service.grant_for(420.0, rate_rps=100.0)
    # The surge begins at 300 s. A minute centred at 270 s holds none of it; one at 285 s, which
    # is a cold start and a period after 240 s, holds 15 s: (45 * 100 + 15 * 700) / 60 = 250 rps.
    assert answers[:15] == [1] * 15
    assert answers[15] == 3
    assert answers[19] == 7
    assert max(answers) == 7
    assert answers[-1] == 1


def test_smoothed_rates_keep_the_requests_of_the_trace() -> None:
    flat = RateTrace(name="flat", bin_s=7.0, rps=np.full(60, 30.0))
    assert smoothed_rates(flat) == pytest.approx(np.full(421, 30.0))


def test_a_plan_is_played_by_the_clock(stage: Any) -> None:
    service = stage(ScheduledPolicy(plan=(2, 5, 3), interval_s=15.0), replicas=2)
    assert service.grant_for(75.0) == [5, 3, 3, 3, 3]


def test_the_queueing_model_jumps_up_and_steps_down_after_its_hold(stage: Any) -> None:
    service = stage(build("queueing", {"z": 0.0, "alpha": 1.0, "hold_s": 120.0}), replicas=2)
    assert service.grant(rate_rps=450.0, pending_requests=0.0) == 5
    assert service.grant(rate_rps=910.0, pending_requests=1500.0) == 11
    answers = service.grant_for(150.0, rate_rps=210.0, pending_requests=0.0)
    assert answers[:8] == [11] * 8
    assert answers[-1] == 3


def test_the_queueing_model_reads_what_the_kernel_reads(stage: Any) -> None:
    service = stage(build("predictive"), replicas=3)
    for rate in (200.0, None, 260.0, 340.0, 500.0):
        asked = service.ask(rate_rps=rate, pending_requests=None if rate is None else 30.0)
    rows, policy = service.history.matrix(), service.policy
    need, held, _, _ = needs(
        rows, 0, len(rows), 100.0, policy.z, policy.hold_s, 45.0, policy.alpha, policy.beta,
        policy.drain_s, policy.conformal,
    )  # fmt: skip
    assert asked == settle(3, need, held)
    assert f"need {need:.2f}, held {held:.2f}" in service.why
