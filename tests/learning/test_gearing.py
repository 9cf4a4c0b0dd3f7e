"""A policy trained on replicas alone, at the controls of a service with every actuator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gpupilot_agent.bundle import Bundle
from gpupilot_agent.gearing import in_gear
from gpupilot_agent.learned import LearnedPolicy
from gpupilot_agent.policies import View
from gpupilot_envs.actions import NEUTRAL, SIZES
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.decision import Service
from gpupilot_envs.gears import Gear, Menu
from gpupilot_envs.guardrail import GuardrailMemory
from gpupilot_envs.serving.capacity import Capacity
from gpupilot_envs.signals import History, Signals


def gear(share_milli: int, slo_rps: float) -> Gear:
    able = Capacity(slo_rps=slo_rps, saturation_rps=1.3 * slo_rps, idle_latency_s=0.012)
    allocation = Allocation(replicas=1, gpu_share_milli=share_milli)
    return Gear(allocation=allocation, capacity=able, cost_milli=share_milli)


MENU = Menu(gears=(gear(200, 30.0), gear(1000, 100.0)), base=1)


def view(service: Service, rate_rps: float, menu: Menu | None, readings: int = 180) -> View:
    shown = tuple(
        Signals(at_s=5.0 * k, window_s=5.0, age_s=0.0, rate_rps=rate_rps) for k in range(readings)
    )
    return View(
        now_s=5.0 * readings,
        history=History(readings=shown, capacity=192),
        current=Allocation(replicas=2),
        limits=service.limits,
        targets=service.targets,
        profile=service.profile,
        capacity=service.capacity,
        menu=menu,
    )


@pytest.mark.parametrize("menu", [None, Menu(gears=MENU.gears[1:], base=0)])
def test_with_nothing_to_choose_it_asks_for_replicas_alone(
    service: Service, bundle: Bundle, menu: Menu | None
) -> None:
    policy = LearnedPolicy(bundle=bundle)
    plain = policy.act(view(service, 250.0, None), None)
    same = policy.act(view(service, 250.0, menu), None)
    assert same.ask == plain.ask
    assert same.why == plain.why


def test_what_it_wants_is_carried_by_the_cheapest_gear(service: Service, bundle: Bundle) -> None:
    policy = LearnedPolicy(bundle=_patient(bundle, 2))
    plain = policy.act(view(service, 110.0, None), None)
    geared = policy.act(view(service, 110.0, MENU), None)
    assert geared.ask.gpu_share_milli == 200
    wanted_rps = plain.ask.replicas * service.capacity.slo_rps
    assert (geared.ask.replicas - 1) * 30.0 < wanted_rps <= geared.ask.replicas * 30.0
    assert geared.why == plain.why + ", gear 1 of 2"


def _patient(bundle: Bundle, index: int) -> Bundle:
    """Return the bundle with a head that is the classical controller but for the last axis."""
    *hidden, (weight, _) = bundle.networks[0]
    taken = zip(SIZES, (*NEUTRAL[:-1], index), strict=True)
    bias = np.concatenate([np.arange(size) == at for size, at in taken]).astype(np.float32)
    return replace(bundle, networks=((*hidden, (np.zeros_like(weight), bias)),))


def test_without_patience_the_gear_is_kept_and_with_more_it_is_changed_sooner(
    service: Service, bundle: Bundle
) -> None:
    """Two whole GPUs against seven fifths that start in a minute: repaid in 140 s."""
    cold = service.profile.cold_start_s.model_copy(update={"mean": 60.0})
    slow = replace(service, profile=service.profile.model_copy(update={"cold_start_s": cold}))
    shares = []
    for index in range(SIZES[-1]):
        policy = LearnedPolicy(bundle=_patient(bundle, index))
        shares.append(policy.act(view(slow, 190.0, MENU), None).ask.gpu_share_milli)
    assert shares == [1000, 1000, 200, 200]


def test_a_gear_that_the_guardrail_would_refuse_is_not_asked_for(
    service: Service, bundle: Bundle
) -> None:
    policy = LearnedPolicy(bundle=bundle)
    free = view(service, 110.0, MENU)
    just = replace(free, guard=GuardrailMemory(share_changed_at_s=free.now_s - 60.0))
    offered = [policy.see(each, None).mask[-SIZES[-1] :].tolist() for each in (free, just)]
    assert offered == [[True] * 4, [False, False, True, False]]


def test_a_gear_that_is_on_no_menu_is_kept(service: Service) -> None:
    odd = replace(view(service, 110.0, MENU), current=Allocation(replicas=2, gpu_share_milli=500))
    assert in_gear(odd, odd.history.matrix(), 1.1, 3) == replace(odd.current, replicas=3)


def test_without_a_rate_the_gear_is_kept(service: Service) -> None:
    blind = view(service, float("nan"), MENU)
    assert in_gear(blind, blind.history.matrix(), np.nan, 2) == blind.current
