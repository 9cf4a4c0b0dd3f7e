"""The guardrail on gears: taken or refused whole, within the budget, never to carry less."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.gear_guard import fresh_actuator_rows, restrain_gear, translated
from gpupilot_envs.gears import GEAR_FIELDS
from gpupilot_envs.guardrail import GuardrailMemory, Verdict, restrain
from gpupilot_envs.guardrail_rules import fresh_memory_rows, limits_row, restrain_replicas
from gpupilot_envs.limits import Limits
from gpupilot_envs.reasons import Reason
from gpupilot_envs.signals import History, Signals

NOW_S = 10_000.0
ABLE_RPS = {142: 30.0, 285: 70.0, 428: 120.0, 1000: 200.0}
"""What a replica of each share carries."""

CHANGED_AT = {"share_changed_at_s", "cpu_changed_at_s", "batching_changed_at_s"}

SHARES = st.sampled_from(sorted(ABLE_RPS))
COUNTS = st.integers(0, 30)


def seen(rate_rps: float | None = 50.0) -> History:
    return History(
        readings=tuple(
            Signals(at_s=at_s, window_s=15.0, rate_rps=rate_rps) for at_s in (0.0, NOW_S)
        )
    )


def verdict(
    ask: Allocation,
    current: Allocation,
    *,
    limits: Limits | None = None,
    memory: GuardrailMemory | None = None,
    rate_rps: float | None = 50.0,
) -> Verdict:
    return restrain(
        ask,
        current,
        seen(rate_rps),
        limits or Limits(),
        NOW_S,
        memory or GuardrailMemory(),
        ABLE_RPS[current.gpu_share_milli],
        ABLE_RPS[ask.gpu_share_milli],
    )


def sized(replicas: int, share_milli: int) -> Allocation:
    return Allocation(replicas=replicas, gpu_share_milli=share_milli)


def row(share_milli: int) -> np.ndarray:
    values = dict.fromkeys(GEAR_FIELDS, 1.0)
    values |= {"gpu_share_milli": share_milli, "saturation_rps": ABLE_RPS[share_milli]}
    return np.array([values[name] for name in GEAR_FIELDS], dtype=np.float64)


@given(ask=COUNTS, current=COUNTS, before=SHARES, after=SHARES, budget_milli=st.integers(0, 20_000))
def test_both_generations_fit_the_budget_while_one_replaces_the_other(
    ask: int, current: int, before: int, after: int, budget_milli: int
) -> None:
    limits = Limits(gpu_budget_milli=budget_milli)
    granted = verdict(sized(ask, after), sized(current, before), limits=limits).allocation
    assert granted.replicas * granted.gpu_share_milli <= budget_milli
    if granted.gpu_share_milli != before:
        assert granted.replicas * after + current * before <= budget_milli


@given(
    ask=COUNTS,
    current=st.integers(1, 30),
    before=SHARES,
    after=SHARES,
    rate_rps=st.floats(0.0, 3000.0),
)
def test_what_is_granted_carries_the_load_or_as_much_as_before(
    ask: int, current: int, before: int, after: int, rate_rps: float
) -> None:
    limits = Limits(replicas_max=10_000, step_up_max=10_000, gpu_budget_milli=10_000_000)
    granted = verdict(
        sized(ask, after), sized(current, before), limits=limits, rate_rps=rate_rps
    ).allocation
    carried_rps = granted.replicas * ABLE_RPS[granted.gpu_share_milli]
    assert carried_rps >= min(rate_rps, current * ABLE_RPS[before]) * (1.0 - 1e-6)


@given(ask=COUNTS, current=COUNTS, share=SHARES, rate_rps=st.floats(0.0, 3000.0))
def test_without_a_change_of_gear_only_the_rules_on_replicas_apply(
    ask: int, current: int, share: int, rate_rps: float
) -> None:
    limits, memory = limits_row(Limits(step_down_max=2)), fresh_memory_rows(1, 4)[0]
    evidence = (NOW_S, 0.0, np.inf, rate_rps)
    plain = restrain_replicas(ask, current, limits, memory, *evidence, ABLE_RPS[share], share)
    never = fresh_actuator_rows(1)[0]
    gear = row(share)
    found = restrain_gear(gear, gear, ask, current, limits, memory, never, *evidence)
    assert found == (False, plain[0], current, plain[1])


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("share_changed_at_s", {"gpu_share_milli": 285}),
        ("cpu_changed_at_s", {"cpu_milli": 500}),
        ("batching_changed_at_s", {"instances_per_replica": 2}),
        ("batching_changed_at_s", {"batch_max": 4}),
        ("batching_changed_at_s", {"queue_delay_us": 100}),
    ],
)
def test_every_actuator_has_a_cooldown_of_its_own(field: str, change: dict[str, int]) -> None:
    limits = Limits(cooldown_share_s=100.0, cooldown_cpu_s=100.0, cooldown_batching_s=100.0)
    running = sized(2, 428)
    ask = replace(running, **change)
    for name, at_s, held in ((field, NOW_S - 99.0, True), (field, NOW_S - 100.0, False)):
        memory = GuardrailMemory(**{name: at_s})  # type: ignore[arg-type]
        answer = verdict(ask, running, limits=limits, memory=memory)
        assert answer.held is held
        assert (Reason.GEAR_COOLING_DOWN in answer.reasons) is held
        if held:
            assert replace(answer.allocation, replicas=running.replicas) == running
            assert getattr(answer.memory, field) == at_s
        else:
            assert getattr(answer.memory, field) == NOW_S
    recent = dict.fromkeys(CHANGED_AT - {field}, NOW_S)
    free = verdict(ask, running, limits=limits, memory=GuardrailMemory(**recent))  # type: ignore[arg-type]
    assert not free.held


def test_fewer_but_larger_pods_are_no_scale_down() -> None:
    """Seven slices become two larger ones under a cooldown that forbids shrinking."""
    memory = GuardrailMemory(changed_at_s=NOW_S - 1.0, direction=1)
    limits = Limits(cooldown_down_s=600.0)
    answer = verdict(sized(2, 428), sized(7, 142), limits=limits, memory=memory, rate_rps=100.0)
    assert answer.allocation == sized(2, 428)
    assert answer.memory.direction == 1


def test_the_consolidation_check_asks_what_the_new_gear_can_carry() -> None:
    """One whole GPU to one slice at a rate that takes four of them."""
    answer = verdict(sized(1, 142), sized(1, 1000), rate_rps=110.0)
    assert answer.allocation == sized(4, 142)
    assert Reason.CONSOLIDATION_REFUSED in answer.reasons


def test_a_refused_gear_translates_the_replicas_back() -> None:
    """Four small ones asked for, out of range: as much as they carry in what runs."""
    limits = Limits(gpu_share_min_milli=200)
    answer = verdict(sized(14, 142), sized(1, 1000), limits=limits)
    assert answer.allocation == sized(3, 1000)
    assert answer.reasons[0] is Reason.SHARE_OUT_OF_RANGE


def test_without_readings_nothing_moves() -> None:
    """Missing signals: the gear and the replicas that run are kept."""
    running = sized(3, 428)
    answer = verdict(sized(1, 142), running, rate_rps=None)
    assert answer.allocation == running
    assert Reason.SIGNALS_MISSING in answer.reasons


def test_what_a_gear_carries_may_be_unknown() -> None:
    """Then a replica counts as a replica."""
    unknown = row(142)
    unknown[1] = np.nan
    assert translated(5, unknown, row(428)) == 5
    assert translated(5, row(428), unknown) == 5
    assert translated(4, row(142), row(428)) == 1
