"""The live loop decides what the simulator decides: the same services, requests and readings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from gpupilot_agent.generalist import load_generalist
from gpupilot_agent.learned import LearnedPolicy
from gpupilot_agent.policies import Policy
from gpupilot_agent.rollout import Decision, rollout
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.live_reading import LiveReading
from gpupilot_envs.serving.measure import allocation_of
from gpupilot_envs.serving.world import SimulatedWorld
from gpupilot_envs.workload.arrivals import SteadyArrivals
from gpupilot_operator.classical import policy_of
from gpupilot_operator.control import tick
from gpupilot_operator.memory import State
from gpupilot_operator.ports import Change, Failure
from gpupilot_operator.sizing import Size, shipped_profile

MINUTES = 6
MIG = {
    "sharing": "MIG",
    "minShareMilli": 142,
    "maxShareMilli": 1000,
    "shares": [
        {"milli": milli, "resources": {f"nvidia.com/mig-{milli}": 1}} for milli in (142, 285, 428)
    ]
    + [{"milli": 1000, "resources": {"nvidia.com/gpu": 1}}],
}
OVERRIDE = {"annotations": {"gpupilot.dev/override-gate": "true"}}


def world_of(shop: Any, rate_rps: float, seed: int) -> SimulatedWorld:
    spec = shop.service.spec
    return SimulatedWorld(
        shipped_profile(spec.autoscaling.profile),
        SteadyArrivals(rate_rps, seed=seed),
        targets=spec.targets,
        allocation=shop.running,
        seed=seed,
    )


def live(town: Any, shop: Any, state: State, world: SimulatedWorld, policy: Policy) -> list[Any]:
    """Let the loop drive a world at a policy's pace; return what it notes."""
    key = shop.service.key

    def carry_out(changes: Sequence[Change]) -> Mapping[str, Failure | None]:
        answers: Mapping[str, Failure | None] = type(town).carry_out(town, changes)
        world.apply(shop.running)
        return answers

    town.carry_out = carry_out
    state.open(town.services(), 0.0)
    state.sizes.of(shop.seen())
    state.sizes.wait()
    state.forget()
    for step in range(1, round(60.0 * MINUTES / policy.period_s) + 1):
        now_s = policy.period_s * step
        world.advance(now_s)
        signals = world.read(policy.window_s)
        ready, pending = signals.replicas_ready, signals.replicas_pending
        shop.shown |= {"ready": ready, "pending": pending}
        shop.reading = LiveReading(signals=signals, sources={"rate_rps": "gateway"})
        tick(town.ports, state, now_s)
    assert {each.service.key for each in town.noted} == {key}
    return list(town.noted)


def simulated(shop: Any, policy: Policy, world: SimulatedWorld, size: Size) -> tuple[Decision, ...]:
    limits, targets = shop.service.spec.limits, shop.service.spec.targets
    return rollout(
        policy,
        world,
        limits=limits,
        targets=targets,
        profile=size.profile,
        capacity=size.capacity,
        duration_s=60.0 * MINUTES,
        menu=size.menu,
    ).decisions


@pytest.mark.parametrize(
    ("profile", "predictor", "gpu", "rate_rps"),
    [
        ("mobilenetv4-edge", {"model": None, "targetRef": {"name": "shop"}}, {}, 900.0),
        ("resnet50-a100-mig", {}, MIG, 3000.0),
    ],
    ids=["replicas", "gears"],
)
def test_a_learned_policy_decides_live_what_it_decides_in_the_simulator(
    shop_of: Callable[..., Any],
    town_of: Callable[..., Any],
    state_of: Callable[[], State],
    profile: str,
    predictor: dict[str, Any],
    gpu: dict[str, Any],
    rate_rps: float,
) -> None:
    shop = shop_of(profile=profile, policy="Learned", predictor=predictor, gpu=gpu)
    shop.shown |= OVERRIDE
    shop.running = first = allocation_of(shipped_profile(profile), replicas=2)
    state, policy = state_of(), LearnedPolicy(bundle=load_generalist())
    noted = live(town_of(shop), shop, state, world_of(shop, rate_rps, 1), policy)
    shop.running = first
    size = state.sizes.of(shop.seen())
    assert isinstance(size, Size)
    assert (size.menu is not None) == bool(gpu)
    expected = simulated(shop, policy, world_of(shop, rate_rps, 1), size)
    assert [_answer(each) for each in noted] == [
        (d.at_s, d.ask, d.granted, d.reasons, d.evidence.action if d.evidence else None)
        for d in expected
    ]
    seen = [d.evidence.observation for d in expected if d.evidence]
    assert [tuple(each.observation.tolist()) for each in noted] == seen
    assert len({d.granted for d in expected}) > 1


@pytest.mark.parametrize("kind", ["HPA", "KEDA", "KPA"])
def test_a_classical_policy_decides_live_what_it_decides_in_the_simulator(
    shop_of: Callable[..., Any],
    town_of: Callable[..., Any],
    state_of: Callable[[], State],
    kind: str,
) -> None:
    shop = shop_of(policy=kind)
    policy = policy_of(shop.service)
    state = state_of()
    noted = live(town_of(shop), shop, state, world_of(shop, 900.0, 2), policy)
    shop.running = Allocation(replicas=2)
    size = state.sizes.of(shop.seen())
    assert isinstance(size, Size)
    # a baseline leaves limits and batching alone, and is given no menu to do so
    expected = simulated(shop, policy, world_of(shop, 900.0, 2), replace(size, menu=None))
    assert [_answer(each)[:4] for each in noted] == [
        (d.at_s, d.ask, d.granted, d.reasons) for d in expected
    ]
    assert {d.granted for d in expected} != {shop.running}


def _answer(noted: Any) -> tuple[Any, ...]:
    action = None if noted.action is None else tuple(noted.action.tolist())
    return noted.at_s, noted.grant.asked, noted.grant.granted, noted.grant.reasons, action
