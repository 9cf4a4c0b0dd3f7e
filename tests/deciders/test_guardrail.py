"""The guardrail's invariants hold for every ask, and each rule bites where it says."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.guardrail import (
    GuardrailMemory,
    flap_budget_spent,
    fresh_memory_rows,
    limits_row,
    remember_change,
    restrain,
    restrain_replicas,
)
from gpupilot_envs.limits import Limits
from gpupilot_envs.reasons import Reason, reasons_of
from gpupilot_envs.signals import History, Signals

NOW_S = 1000.0


def history(rate_rps: float | None = 100.0, *, age_s: float = 0.0, since_s: float = 0.0) -> History:
    readings = (
        Signals(at_s=since_s, window_s=15.0, rate_rps=rate_rps),
        Signals(at_s=NOW_S, window_s=15.0, age_s=age_s, rate_rps=rate_rps),
    )
    return History(readings=readings)


def verdict(
    ask: int,
    current: int,
    *,
    seen: History | None = None,
    limits: Limits | None = None,
    memory: GuardrailMemory | None = None,
    saturation_rps: float | None = None,
) -> Any:
    return restrain(
        Allocation(replicas=ask),
        Allocation(replicas=current),
        history() if seen is None else seen,
        limits or Limits(),
        NOW_S,
        memory or GuardrailMemory(),
        saturation_rps,
    )


@st.composite
def envelopes(draw: st.DrawFn) -> Limits:
    least = draw(st.integers(0, 6))
    return Limits(
        replicas_min=least,
        replicas_max=draw(st.integers(max(1, least), 40)),
        step_up_max=draw(st.integers(1, 40)),
        step_down_max=draw(st.integers(1, 40)),
        cooldown_up_s=draw(st.sampled_from([0.0, 30.0, 300.0])),
        cooldown_down_s=draw(st.sampled_from([0.0, 30.0, 300.0])),
        flaps_per_hour_max=draw(st.integers(0, 6)),
        gpu_budget_milli=draw(st.integers(0, 64)) * 1000,
    )


@st.composite
def memories(draw: st.DrawFn) -> GuardrailMemory:
    ages = draw(st.lists(st.floats(0.0, 7200.0), max_size=6))
    direction = draw(st.sampled_from([-1, 0, 1]))
    times = tuple(sorted(NOW_S - age for age in ages)) if direction else ()
    changed = times[-1] if times else (NOW_S - 10.0 if direction else -np.inf)
    return GuardrailMemory(changed_at_s=changed, direction=direction, reversals_s=times)


ASKS = st.integers(0, 60)


@given(ask=ASKS, current=ASKS, limits=envelopes(), memory=memories())
def test_bounds_and_budget_always_hold(
    ask: int, current: int, limits: Limits, memory: GuardrailMemory
) -> None:
    granted = verdict(ask, current, limits=limits, memory=memory).allocation.replicas
    budget = limits.gpu_budget_milli // 1000
    assert granted * 1000 <= limits.gpu_budget_milli
    assert min(limits.replicas_min, budget) <= granted <= limits.replicas_max


@given(ask=ASKS, limits=envelopes(), memory=memories(), data=st.data())
def test_within_the_bounds_no_decision_exceeds_a_step(
    ask: int, limits: Limits, memory: GuardrailMemory, data: st.DataObject
) -> None:
    limits = replace(limits, gpu_budget_milli=64_000)
    current = data.draw(st.integers(limits.replicas_min, limits.replicas_max))
    granted = verdict(ask, current, limits=limits, memory=memory).allocation.replicas
    assert current - limits.step_down_max <= granted <= current + limits.step_up_max


@given(
    ask=ASKS,
    current=ASKS,
    limits=envelopes(),
    memory=memories(),
    saturation=st.one_of(st.none(), st.floats(1.0, 200.0)),
)
def test_asking_for_the_grant_is_granted(
    ask: int, current: int, limits: Limits, memory: GuardrailMemory, saturation: float | None
) -> None:
    first = verdict(ask, current, limits=limits, memory=memory, saturation_rps=saturation)
    again = verdict(
        first.allocation.replicas, current, limits=limits, memory=memory, saturation_rps=saturation
    )
    assert again.allocation == first.allocation


@given(
    asks=st.tuples(ASKS, ASKS),
    current=ASKS,
    limits=envelopes(),
    memory=memories(),
    saturation=st.one_of(st.none(), st.floats(1.0, 200.0)),
)
def test_asking_for_more_never_grants_less(
    asks: tuple[int, int],
    current: int,
    limits: Limits,
    memory: GuardrailMemory,
    saturation: float | None,
) -> None:
    low, high = (
        verdict(ask, current, limits=limits, memory=memory, saturation_rps=saturation)
        for ask in sorted(asks)
    )
    assert low.allocation.replicas <= high.allocation.replicas


@given(ask=ASKS, current=st.integers(1, 32), memory=memories())
@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (History(), Reason.SIGNALS_MISSING),
        (history(None), Reason.SIGNALS_MISSING),
        (history(age_s=61.0), Reason.SIGNALS_STALE),
    ],
)
def test_without_fresh_signals_what_runs_is_kept_whole(
    seen: History, reason: Reason, ask: int, current: int, memory: GuardrailMemory
) -> None:
    running = Allocation(replicas=current, batch_max=4)
    wish = Allocation(replicas=ask, batch_max=8, queue_delay_us=500)
    answer = restrain(wish, running, seen, Limits(), NOW_S, memory, 10.0)
    assert answer.allocation == running
    assert answer.reasons == (reason,)
    assert answer.memory == memory


@given(
    asks=st.lists(ASKS, min_size=1, max_size=40),
    limits=envelopes(),
    rates=st.lists(st.floats(0.0, 2000.0), min_size=40, max_size=40),
)
def test_the_compiled_rule_and_the_wrapper_agree_over_a_whole_run(
    asks: list[int], limits: Limits, rates: list[float]
) -> None:
    limits = replace(limits, cooldown_down_s=30.0)
    row = fresh_memory_rows(1, limits.flaps_per_hour_max)[0]
    memory, by_row, by_wrapper = GuardrailMemory(), 3, 3
    for step, ask in enumerate(asks):
        now_s = NOW_S + 300.0 * step
        seen = History(
            readings=(
                Signals(at_s=0.0, window_s=15.0),
                Signals(at_s=now_s, window_s=15.0, rate_rps=rates[step]),
            )
        )
        granted, bits = restrain_replicas(
            ask, by_row, limits_row(limits), row, now_s, 0.0, now_s, rates[step], 50.0, 1000
        )
        remember_change(row, by_row, granted, now_s)
        answer = restrain(
            Allocation(replicas=ask),
            Allocation(replicas=by_wrapper),
            seen,
            limits,
            now_s,
            memory,
            50.0,
        )
        assert (granted, reasons_of(bits)) == (answer.allocation.replicas, answer.reasons)
        by_row, by_wrapper, memory = granted, answer.allocation.replicas, answer.memory


def test_shrinking_stops_where_the_survivors_would_saturate() -> None:
    seen = history(rate_rps=330.0)
    answer = verdict(2, 6, seen=seen, saturation_rps=100.0)
    assert (answer.allocation.replicas, answer.reasons) == (4, (Reason.CONSOLIDATION_REFUSED,))
    assert verdict(4, 6, seen=seen, saturation_rps=100.0).reasons == (Reason.DESIRED_WITHIN_RANGE,)
    assert verdict(2, 6, seen=seen).allocation.replicas == 2


def test_an_overloaded_service_is_neither_shrunk_nor_grown_by_the_check() -> None:
    answer = verdict(2, 3, seen=history(rate_rps=900.0), saturation_rps=100.0)
    assert answer.allocation.replicas == 3


def test_warm_up_forbids_shrinking_only() -> None:
    young = history(since_s=NOW_S - 30.0)
    assert verdict(1, 4, seen=young).reasons == (Reason.WARMING_UP,)
    assert verdict(1, 4, seen=young).allocation.replicas == 4
    assert verdict(9, 4, seen=young).allocation.replicas == 9


def test_a_full_history_counts_as_warm_whatever_its_span() -> None:
    readings = tuple(Signals(at_s=NOW_S - 3.0 + i, window_s=1.0, rate_rps=1.0) for i in range(4))
    full = History(readings=readings, capacity=4)
    assert verdict(1, 4, seen=full).allocation.replicas == 1


def test_cooldowns_count_from_any_change() -> None:
    limits = Limits(cooldown_up_s=60.0, cooldown_down_s=120.0)
    for age_s, up, down in [(30.0, 4, 4), (60.0, 5, 4), (120.0, 5, 3)]:
        memory = GuardrailMemory(changed_at_s=NOW_S - age_s, direction=1)
        assert verdict(5, 4, limits=limits, memory=memory).allocation.replicas == up
        assert verdict(3, 4, limits=limits, memory=memory).allocation.replicas == down
    held = verdict(5, 4, limits=limits, memory=GuardrailMemory(changed_at_s=NOW_S, direction=1))
    assert held.held
    assert held.reasons == (Reason.COOLING_DOWN,)


def test_the_flap_budget_holds_shrinking_and_never_growth() -> None:
    limits = Limits(flaps_per_hour_max=2)
    spent = GuardrailMemory(
        changed_at_s=NOW_S - 20.0, direction=1, reversals_s=(NOW_S - 3000.0, NOW_S - 20.0)
    )
    assert verdict(3, 4, limits=limits, memory=spent).reasons == (Reason.FLAP_BUDGET_SPENT,)
    assert verdict(5, 4, limits=limits, memory=spent).allocation.replicas == 5
    old = replace(spent, reversals_s=(NOW_S - 3600.0, NOW_S - 20.0))
    assert verdict(3, 4, limits=limits, memory=old).allocation.replicas == 3


@given(moves=st.lists(st.tuples(st.integers(1, 9), st.floats(1.0, 900.0)), max_size=60))
def test_removals_that_reverse_never_exceed_the_budget_in_any_hour(
    moves: list[tuple[int, float]],
) -> None:
    limits, now_s, current = Limits(flaps_per_hour_max=3, warm_up_s=0.0), 0.0, 5
    row = fresh_memory_rows(1, 3)[0]
    sizes, times = [current], [0.0]
    for ask, gap_s in moves:
        now_s += gap_s
        granted, _ = restrain_replicas(
            ask, current, limits_row(limits), row, now_s, 0.0, now_s, 1.0, np.nan, 1000
        )
        remember_change(row, current, granted, now_s)
        if granted != current:
            sizes.append(granted)
            times.append(now_s)
        current = granted
    signs = [int(np.sign(after - before)) for before, after in pairwise(sizes)]
    downs = [times[i + 1] for i, (a, b) in enumerate(pairwise(signs), start=1) if (a, b) == (1, -1)]
    for start_s in downs:
        assert sum(start_s <= at_s < start_s + 3600.0 for at_s in downs) <= 3


@given(memory=memories(), slots=st.integers(0, 8))
def test_the_memory_survives_its_row(memory: GuardrailMemory, slots: int) -> None:
    again = GuardrailMemory.from_row(memory.row(slots), memory.actuators())
    kept = memory.reversals_s[-slots:] if slots else ()
    assert again == replace(memory, reversals_s=kept)
    recent = [at_s for at_s in kept if NOW_S - at_s < 3600.0]
    assert flap_budget_spent(memory.row(slots), NOW_S) == (len(recent) >= slots)


def test_the_budget_counts_the_share_that_is_asked_for() -> None:
    half = Allocation(replicas=10, gpu_share_milli=500)
    answer = restrain(
        half,
        replace(half, replicas=3),
        history(),
        Limits(gpu_budget_milli=4000),
        NOW_S,
        GuardrailMemory(),
        None,
    )
    assert (answer.allocation.replicas, answer.allocation.gpu_share_milli) == (8, 500)
    assert answer.reasons == (Reason.BUDGET_REACHED,)


def test_bounds_outrank_steps_and_cooldowns_when_the_envelope_itself_moved() -> None:
    limits = Limits(replicas_max=4, step_down_max=1, cooldown_down_s=600.0)
    memory = GuardrailMemory(changed_at_s=NOW_S - 1.0, direction=1)
    answer = verdict(9, 9, limits=limits, memory=memory)
    assert (answer.allocation.replicas, answer.reasons) == (4, (Reason.TOO_MANY_REPLICAS,))


ALLOCATIONS = st.builds(Allocation, replicas=st.integers(0, 32), batch_max=st.sampled_from([4, 8]))


@given(wish=ALLOCATIONS, instead=ALLOCATIONS, running=ALLOCATIONS, memory=memories())
def test_where_the_policy_does_not_know_the_classical_ask_is_restrained_in_its_place(
    wish: Allocation, instead: Allocation, running: Allocation, memory: GuardrailMemory
) -> None:
    def restrained(ask: Allocation, other: Allocation | None) -> Any:
        seen = history()
        return restrain(ask, running, seen, Limits(), NOW_S, memory, 10.0, instead=other)

    doubted, classical = restrained(wish, instead), restrained(instead, None)
    assert doubted.allocation == classical.allocation
    assert doubted.memory == classical.memory
    assert doubted.held == (doubted.allocation != wish)
    others = [reason for reason in doubted.reasons if reason != Reason.OUT_OF_DISTRIBUTION]
    assert others == [r for r in classical.reasons if r != Reason.DESIRED_WITHIN_RANGE]
    assert Reason.OUT_OF_DISTRIBUTION in doubted.reasons


def test_every_reason_has_its_own_bit_and_a_meaning() -> None:
    bits = [reason.bit for reason in Reason]
    assert bits[0] == 0
    assert sorted(bits) == sorted(set(bits))
    assert all(reason.meaning and reason.value.isidentifier() for reason in Reason)
    assert reasons_of(Reason.WARMING_UP.bit | Reason.STEP_LIMITED.bit) == (
        Reason.WARMING_UP,
        Reason.STEP_LIMITED,
    )
