"""Gears: what is on a menu, and what the planner chooses from it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.embedded import find_profile
from gpupilot_envs.errors import InputInvalid, SloInfeasible
from gpupilot_envs.gear_plan import (
    change_price,
    lasting_costs,
    margin_over,
    plan_gear,
    replicas_in,
)
from gpupilot_envs.gears import GEARS_MAX, Gear, Menu, menu, stated
from gpupilot_envs.limits import Targets
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.serving.capacity import Capacity, capacity, rough_slo_rps
from gpupilot_envs.serving.measure import allocation_of
from gpupilot_envs.signals import SIGNAL_FIELDS, SIGNAL_INDEX

TARGETS = Targets(latency_s=0.06)


def gear(share_milli: int, slo_rps: float, **settings: int) -> Gear:
    able = Capacity(slo_rps=slo_rps, saturation_rps=1.2 * slo_rps, idle_latency_s=0.01)
    allocation = Allocation(replicas=1, gpu_share_milli=share_milli, **settings)
    return Gear(allocation=allocation, capacity=able, cost_milli=share_milli)


SLICES = Menu(gears=(gear(142, 50.0), gear(428, 180.0), gear(1000, 300.0)), base=2)


@pytest.fixture(scope="module")
def shareable() -> ServiceProfile:
    return find_profile("resnet50-a100-mig")


def test_a_menu_ascends_and_holds_the_stated_setting(shareable: ServiceProfile) -> None:
    found = menu(shareable, TARGETS)
    assert 2 <= len(found) <= GEARS_MAX
    assert found.gears[found.base].allocation == allocation_of(shareable)
    shares = [each.allocation.gpu_share_milli for each in found.gears]
    assert shares == sorted(shares)
    carried = [each.capacity.slo_rps for each in found.gears]
    assert carried == sorted(carried)


def test_every_larger_share_on_a_menu_carries_more_per_share(shareable: ServiceProfile) -> None:
    """The stated share apart, which is there because it is stated."""
    found = menu(shareable, TARGETS)
    own = found.gears[found.base].cost_milli
    others = [each for each in found.gears if each.cost_milli != own]
    worths = [each.capacity.slo_rps / each.cost_milli for each in others]
    assert len(worths) >= 2
    assert all(later > earlier for earlier, later in pairwise(worths))


def test_no_setting_tried_beats_the_menu_at_its_share(shareable: ServiceProfile) -> None:
    found = menu(shareable, TARGETS)
    for each in found.gears:
        if each.cost_milli == found.gears[found.base].cost_milli:
            continue
        for instances, batch in ((1, 8), (1, 16), (2, 16), (1, 32), (2, 32)):
            other = replace(each.allocation, instances_per_replica=instances, batch_max=batch)
            assert capacity(shareable, TARGETS, other).slo_rps < 1.03 * each.capacity.slo_rps


def test_actuators_are_moved_only_where_they_are_named(shareable: ServiceProfile) -> None:
    own = allocation_of(shareable)
    for each in menu(shareable, TARGETS, ("limits",)).gears:
        assert replace(each.allocation, gpu_share_milli=1000) == own
    for each in menu(shareable, TARGETS, ("batching",)).gears:
        assert each.allocation.gpu_share_milli == 1000
    assert menu(shareable, TARGETS, ()).gears == stated(shareable, TARGETS).gears


def test_the_menu_of_a_cpu_service_is_its_limits() -> None:
    found = menu(find_profile("mobilenetv4-cpu"), TARGETS, ("limits",))
    assert [each.cost_milli for each in found.gears] == [250, 500, 1000, 2000]
    assert all(each.allocation.cpu_milli == each.cost_milli for each in found.gears)


def test_a_target_that_no_share_meets_is_refused(shareable: ServiceProfile) -> None:
    with pytest.raises(SloInfeasible):
        menu(shareable, Targets(latency_s=0.003))


def test_a_share_too_slow_for_the_target_is_left_out(shareable: ServiceProfile) -> None:
    slow = replace(allocation_of(shareable), gpu_share_milli=142)
    targets = Targets(latency_s=0.01)
    assert rough_slo_rps(shareable, targets, slow) == 0.0
    assert all(each.cost_milli > 142 for each in menu(shareable, targets).gears)


def test_the_first_look_agrees_with_the_measurement(shareable: ServiceProfile) -> None:
    own = allocation_of(shareable)
    exact = capacity(shareable, TARGETS, own).slo_rps
    assert rough_slo_rps(shareable, TARGETS, own) == pytest.approx(exact, rel=0.03)


def test_a_menu_knows_which_gear_runs() -> None:
    for index, each in enumerate(SLICES.gears):
        assert SLICES.index_of(each.allocated(7)) == index
    assert SLICES.index_of(Allocation(replicas=1, gpu_share_milli=500)) is None
    rows = SLICES.rows()
    assert rows[1, 0] == 180.0
    assert np.isnan(rows[len(SLICES) :]).all()


def test_a_menu_without_order_is_refused() -> None:
    with pytest.raises(InputInvalid, match="ascending"):
        Menu(gears=SLICES.gears[::-1], base=0)
    with pytest.raises(InputInvalid, match="base"):
        Menu(gears=SLICES.gears, base=3)


def readings(rates: list[float]) -> np.ndarray:
    rows = np.full((len(rates), len(SIGNAL_FIELDS)), np.nan)
    rows[:, SIGNAL_INDEX["at_s"]] = 15.0 * np.arange(len(rates))
    rows[:, SIGNAL_INDEX["rate_rps"]] = rates
    return rows


def lasting(
    rates: list[float], margin_rps: float, lasting_s: float, replicas_max: int
) -> np.ndarray:
    rows, costs = readings(rates), np.empty(len(SLICES.rows()))
    times_s, seen = rows[:, SIGNAL_INDEX["at_s"]], rows[:, SIGNAL_INDEX["rate_rps"]]
    last, count = len(rates) - 1, len(rates)
    looked = last, count, margin_rps, lasting_s, 1, replicas_max
    lasting_costs(SLICES.rows(), len(SLICES), times_s, seen, *looked, costs)
    return costs


def plan(
    rates: list[float],
    *,
    running: int,
    current: int = 1,
    need_rps: float | None = None,
    payback_s: float = 600.0,
    cold_start_s: float = 30.0,
    replicas_max: int = 64,
) -> int:
    need_rps = rates[-1] if need_rps is None else need_rps
    costs = lasting(rates, margin_over(need_rps, rates[-1]), 600.0, replicas_max)
    gears = SLICES.rows(), len(SLICES), running, current, costs
    return int(plan_gear(*gears, need_rps, need_rps, cold_start_s, payback_s))


@pytest.mark.parametrize(("rate_rps", "best"), [(40.0, 0), (170.0, 1), (1700.0, 1)])
def test_the_cheapest_gear_is_taken(rate_rps: float, best: int) -> None:
    """One slice for little, the share that carries most per GPU for much."""
    for running in range(len(SLICES)):
        assert plan([rate_rps] * 20, running=running, payback_s=1e6) == best


def test_a_change_that_does_not_pay_back_is_not_made() -> None:
    """At 100 rps two slices cost 284 against 428: worth it in the long run, not within a minute."""
    rates = [100.0] * 20
    assert plan(rates, running=1, payback_s=600.0) == 0
    assert plan(rates, running=1, payback_s=30.0) == 1
    assert plan(rates, running=1, payback_s=600.0, cold_start_s=600.0) == 1


def test_a_gear_that_the_quota_cannot_carry_is_left() -> None:
    assert plan([500.0] * 20, running=0, current=3, replicas_max=3) == 1
    assert plan([880.0] * 20, running=1, current=3, replicas_max=3) == 2


def test_one_spike_does_not_choose_the_gear() -> None:
    """Nineteen quiet readings and a peak: the mean decides, the replicas follow the need."""
    rates = [40.0] * 19 + [200.0]
    assert plan(rates, running=0, need_rps=200.0) == 0
    slices = SLICES.rows()
    assert replicas_in(slices[0], slices[0], 1, 200.0, 200.0) == 4


def test_without_readings_the_gear_is_kept() -> None:
    assert plan([np.nan] * 5, running=1, need_rps=np.nan) == 1
    assert plan([np.nan] * 5, running=2, need_rps=10.0) == 2
    assert replicas_in(SLICES.rows()[0], SLICES.rows()[2], 2, np.nan, np.nan) == 12


@settings(deadline=None)
@given(
    rates=st.lists(st.floats(0.0, 5000.0), min_size=1, max_size=40),
    share=st.integers(0, 2),
    margin_rps=st.floats(0.0, 500.0),
)
def test_the_lasting_cost_is_the_mean_of_rounded_replicas(
    rates: list[float], share: int, margin_rps: float
) -> None:
    each = SLICES.gears[share]
    found = lasting(rates, margin_rps, 1e9, 10_000)[share]
    carried = (np.array(rates) + margin_rps) / each.capacity.slo_rps
    expected = np.maximum(np.ceil(carried - 1e-9), 1.0).mean() * each.cost_milli
    assert found == pytest.approx(expected)


def test_only_new_pods_have_a_price() -> None:
    rows = SLICES.rows()
    assert change_price(rows[1], rows[1], 5, 30.0, 600.0) == 0.0
    assert change_price(rows[1], rows[0], 5, 30.0, 600.0) == pytest.approx(5 * 428 * 0.05)
