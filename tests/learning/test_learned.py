"""The policy at the controls decides exactly as the vectorised path it was trained on."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpupilot_agent.baselines.queueing_model import QueueingModel
from gpupilot_agent.bundle import Bundle
from gpupilot_agent.learned import LearnedMemory, LearnedPolicy, knobs_of
from gpupilot_agent.ood import Familiar
from gpupilot_agent.policies import View, fresh_history
from gpupilot_agent.rollout import decide
from gpupilot_envs.actions import CHOICES
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.decision import Seats, Service
from gpupilot_envs.doubt import DOUBT_DECISIONS
from gpupilot_envs.following import HISTORY_ROWS, PERIOD_S
from gpupilot_envs.gears import Gear, Menu
from gpupilot_envs.guardrail import GuardrailMemory
from gpupilot_envs.observation import HIGH, LOW
from gpupilot_envs.reasons import Reason, reasons_of
from gpupilot_envs.serving.capacity import Capacity
from gpupilot_envs.signals import History, Signals

Readings = Callable[..., list[Signals]]


def _view(service: Service, history: History, running: int, now_s: float) -> View:
    return View(
        now_s=now_s,
        history=history,
        current=Allocation(replicas=running),
        limits=service.limits,
        targets=service.targets,
        profile=service.profile,
        capacity=service.capacity,
    )


def _geared(service: Service, history: History, running: Allocation, now_s: float) -> View:
    view = replace(_view(service, history, 1, now_s), current=running, menu=service.menu)
    return replace(view, capacity=view.capacity_of(running))


def _scalar(service: Service, policy: LearnedPolicy, readings: list[Signals]) -> list[Any]:
    """Drive the scalar path, :func:`decide`; return what is remembered, granted and said."""
    history, memory, guard = fresh_history(policy), None, GuardrailMemory()
    running = replace(_stated(service), replicas=3)
    seen: list[Any] = []
    for reading in readings:
        history = history.push(reading)
        view = _geared(service, history, running, reading.at_s)
        decided = decide(policy, view, memory, guard)
        memory, guard = decided.memory, decided.guard_memory
        running = decided.decision.granted
        known, before = memory.known.tobytes(), memory.before.tobytes()
        gear = 0 if service.menu is None else service.menu.index_of(running)
        seen.append((known, before, running.replicas, decided.decision.reasons, gear))
    return seen


def _stated(service: Service) -> Allocation:
    menu = service.menu
    return Allocation(replicas=1) if menu is None else menu.gears[menu.base].allocation


def _seated(service: Service, bundle: Bundle) -> Service:
    price = bundle.price(service.targets.attainment_ratio)
    return replace(service, controller=bundle.controller, price=price)


def _batched(service: Service, bundle: Bundle, streams: list[list[Signals]]) -> list[list[Any]]:
    """Drive the vectorised path: Seats.observe, Bundle.act, Seats.decide, all services at once."""
    n = len(streams)
    seats, running = Seats(n), np.full(n, 3)
    seats.seat([_seated(service, bundle)] * n)
    seen: list[list[Any]] = [[] for _ in range(n)]
    for step in zip(*streams, strict=True):
        rows = np.stack([reading.row() for reading in step])
        answer = bundle.answer(seats.observe(np.arange(n), rows, running), seats.masks)
        now_s = np.array([reading.at_s for reading in step])
        running = seats.decide(answer.actions, running, now_s, answer.strange)
        for i in range(n):
            known, before = seats._known[i].tobytes(), seats.before[i].tobytes()
            reasons = reasons_of(int(seats.reasons[i]))
            seen[i].append((known, before, int(running[i]), reasons, int(seats.gear[i])))
    return seen


@pytest.fixture
def ordinary(service: Service, bundle: Bundle, readings: Readings) -> np.ndarray:
    """Return what ordinary readings look like to the policy."""
    policy, memory, seen = LearnedPolicy(bundle=bundle), None, []
    history = fresh_history(policy)
    for reading in readings(400, seed=9):
        history = history.push(reading)
        view = _view(service, history, 4, reading.at_s)
        seen.append(policy.see(view, memory).observation)
        memory = policy.act(view, memory).memory
    return np.stack(seen)


@pytest.fixture
def familiar(ordinary: np.ndarray) -> Familiar:
    """Return a box around what ordinary readings look like to the policy."""
    width = ordinary.shape[1]
    return Familiar(
        low=ordinary.min(axis=0) - 0.05,
        high=ordinary.max(axis=0) + 0.05,
        whitening=np.eye(width, dtype=np.float32),
        centre=np.zeros(width, dtype=np.float32),
        distance_max=1e3,
    )


@pytest.mark.parametrize("networks", [0, 1, 3])
def test_scalar_and_vectorised_decisions_are_equal_bit_for_bit(
    service: Service,
    bundle: Bundle,
    make_bundle: Callable[[int], Bundle],
    ordinary: np.ndarray,
    familiar: Familiar,
    readings: Readings,
    networks: int,
) -> None:
    """Beyond the ring, with missing values, memory carried, and doubts that come and go."""
    others = tuple(make_bundle(seed).networks[0] for seed in range(1, networks))
    bundle = replace(bundle, networks=(*bundle.networks, *others))
    if networks:
        anything = np.ones((len(ordinary), CHOICES), dtype=np.bool_)
        spreads = bundle.answer(ordinary, anything).spreads
        most = np.quantile(spreads, 0.99) if networks > 1 else np.inf
        bundle = replace(bundle, familiar=replace(familiar, spread_max=float(most)))
    streams = [
        readings(HISTORY_ROWS + 60, seed=seed, missing=0.1 * (seed % 2)) for seed in range(6)
    ]
    together = _batched(service, bundle, streams)
    for stream, batched in zip(streams, together, strict=True):
        assert _scalar(service, LearnedPolicy(bundle=bundle), stream) == batched
    doubted = [Reason.OUT_OF_DISTRIBUTION in row[3] for batched in together for row in batched]
    assert any(doubted) == bool(networks)
    assert not all(doubted)


def _slice(share_milli: int, batch_max: int, slo_rps: float) -> Gear:
    able = Capacity(slo_rps=slo_rps, saturation_rps=1.3 * slo_rps, idle_latency_s=0.012)
    allocation = Allocation(replicas=1, gpu_share_milli=share_milli, batch_max=batch_max)
    return Gear(allocation=allocation, capacity=able, cost_milli=share_milli)


@pytest.fixture
def geared(service: Service) -> Service:
    """Return the service with slices, of which one also knows another batching."""
    slices = ((142, 8, 12.0), (285, 8, 27.0), (428, 8, 44.0), (1000, 8, 100.0), (1000, 16, 103.0))
    return replace(service, menu=Menu(gears=tuple(_slice(*each) for each in slices), base=3))


@pytest.mark.parametrize("cooldown_s", [0.0, 300.0])
def test_gears_too_are_decided_bit_for_bit(
    geared: Service, make_bundle: Callable[[int], Bundle], familiar: Familiar, cooldown_s: float
) -> None:
    """Loads far apart, values missing, cooldowns running."""
    limits = replace(geared.limits, cooldown_share_s=cooldown_s)
    geared = replace(geared, limits=limits)
    box = replace(familiar, low=LOW, high=HIGH, spread_max=np.inf)
    bundle = replace(make_bundle(1), familiar=box)
    streams = [_swinging(2 * HISTORY_ROWS, seed) for seed in range(6)]
    together = _batched(geared, bundle, streams)
    for stream, batched in zip(streams, together, strict=True):
        assert _scalar(geared, LearnedPolicy(bundle=bundle), stream) == batched
    gears = [[row[4] for row in batched] for batched in together]
    changes = [sum(a != b for a, b in pairwise(some)) for some in gears]
    assert sum(changes) > 6
    assert len(set().union(*map(set, gears))) > 2
    if cooldown_s:
        assert max(changes) <= 1 + 2 * HISTORY_ROWS * PERIOD_S / cooldown_s


def _swinging(count: int, seed: int) -> list[Signals]:
    rng = np.random.default_rng(seed)
    levels = rng.permutation([6.0, 40.0, 400.0])[np.arange(count) // (count // 3 + 1)]
    rates = levels * rng.gamma(40.0, 1.0 / 40.0, size=count)
    return [
        Signals(
            at_s=PERIOD_S * (i + 1),
            window_s=PERIOD_S,
            age_s=0.0,
            rate_rps=None if rng.random() < 0.03 else float(rates[i]),
            attainment_ratio=float(rng.uniform(0.9, 1.0)),
            replicas_ready=3,
            replicas_pending=0,
        )
        for i in range(count)
    ]


def test_scalar_and_vectorised_observations_are_equal_bit_for_bit(
    service: Service, bundle: Bundle, readings: Readings
) -> None:
    policy, memory = LearnedPolicy(bundle=bundle), None
    history = fresh_history(policy)
    seats = Seats(1)
    seats.seat([_seated(service, bundle)])
    for reading in readings(100, missing=0.05):
        history = history.push(reading)
        view = _view(service, history, 4, reading.at_s)
        seats.observe(np.array([0]), reading.row()[None, :], np.array([4]))
        seen = policy.see(view, memory)
        assert seen.observation.tobytes() == seats.observations[0].tobytes()
        assert seen.mask.tobytes() == seats.masks[0].tobytes()
        assert seen.advice.tobytes() == seats.advice[0].tobytes()
        memory = policy.act(view, memory).memory
        actions = bundle.act(seats.observations, seats.masks)
        seats.decide(actions, np.array([4]), np.array([reading.at_s]))


def test_the_neutral_network_is_the_tuned_baseline(
    service: Service, bundle: Bundle, readings: Readings
) -> None:
    """Episode 0 equals the classical controller: same asks as the baseline of the same numbers."""
    learned = LearnedPolicy(bundle=bundle.unmoved())
    numbers = asdict(bundle.controller)
    numbers["z"] = bundle.controller.margin(bundle.price(service.targets.attainment_ratio))
    del numbers["z_per_log_price"], numbers["anchor_miss"]
    baseline = QueueingModel(period_s=PERIOD_S, window_s=PERIOD_S, **numbers)
    history, memory, running = fresh_history(learned), None, 3
    for reading in readings(HISTORY_ROWS, seed=3, missing=0.05):
        history = history.push(reading)
        view = _view(service, history, running, reading.at_s)
        proposal = learned.act(view, memory)
        assert proposal.ask == baseline.act(view, None).ask
        assert proposal.why == "classical controller, unchanged"
        memory, running = proposal.memory, proposal.ask.replicas


def _bytes(memory: LearnedMemory) -> bytes:
    return b"".join(
        part.tobytes() for part in (memory.ring, memory.ordered, memory.known, memory.before)
    )


def test_act_is_pure(service: Service, bundle: Bundle, readings: Readings) -> None:
    history = History(readings=tuple(readings(20)))
    policy = LearnedPolicy(bundle=bundle)
    view = _view(service, history, 3, 300.0)
    memory = policy.act(view, None).memory
    before = _bytes(memory)
    first, second = policy.act(view, memory), policy.act(view, memory)
    assert first.ask == second.ask
    assert _bytes(memory) == before


def test_the_evidence_of_a_decision_leads_to_it_again(
    service: Service, bundle: Bundle, readings: Readings
) -> None:
    view = _view(service, History(readings=tuple(readings(20))), 3, 300.0)
    evidence = LearnedPolicy(bundle=bundle).act(view, None).evidence
    assert evidence is not None
    observation = np.array([evidence.observation], dtype=np.float32)
    possible = np.isfinite([evidence.logits])
    assert not possible.all()
    assert tuple(bundle.act(observation, possible)[0].tolist()) == evidence.action
    assert evidence.price == bundle.price(service.targets.attainment_ratio)
    answer = np.where(possible, bundle.logits(observation), -np.inf)[0]
    assert answer.tolist() == list(evidence.logits)


def test_a_restart_recovers_what_was_known_from_the_history(
    service: Service, bundle: Bundle, readings: Readings
) -> None:
    policy, memory = LearnedPolicy(bundle=bundle), None
    history = fresh_history(policy)
    for reading in readings(80):
        history = history.push(reading)
        memory = policy.act(_view(service, history, 3, reading.at_s), memory).memory
    again = policy.act(_view(service, history, 3, 400.0), None).memory
    assert memory is not None
    assert again.known.tobytes() == memory.known.tobytes()
    assert again.ring.tobytes() == memory.ring.tobytes()


def test_before_the_first_reading_nothing_changes(service: Service, bundle: Bundle) -> None:
    view = _view(service, History(), 3, 0.0)
    assert LearnedPolicy(bundle=bundle).act(view, None).ask == view.current


def test_the_price_moves_the_controller(service: Service, bundle: Bundle) -> None:
    """The one knob: a higher price never means a narrower margin."""
    view = _view(service, History(), 3, 75.0)
    scales = (0.01, 0.5, 1.0, 3.0, 100.0)
    prices = [LearnedPolicy(bundle=bundle, price_scale=scale).price(view) for scale in scales]
    margins = [knobs_of(bundle, view, price).z for price in prices]
    assert prices == pytest.approx([30.0 * scale for scale in scales])
    assert margins == sorted(margins)
    assert margins[0] < margins[-1]


def test_the_operator_side_imports_neither_torch_nor_gymnasium() -> None:
    code = (
        "import sys, gpupilot_agent.learned, gpupilot_agent.bundle;"
        "sys.exit(any(m in sys.modules for m in ('torch', 'gymnasium', 'stable_baselines3')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


NUMBERS = st.one_of(st.none(), st.sampled_from([0.0, 1e-9, 1e12, -1e6, math.inf, math.nan]))


@st.composite
def nonsense(draw: st.DrawFn) -> list[Signals]:
    """Return readings that no service gives: latencies of days, negative queues, infinities."""
    return [
        Signals(
            at_s=PERIOD_S * (1 + i),
            window_s=PERIOD_S,
            age_s=0.0,
            rate_rps=draw(st.sampled_from([0.0, 1e-6, 1e9, 1e300])),
            latency_p95_s=draw(st.sampled_from([1e6, -1.0, math.nan])),
            attainment_ratio=draw(NUMBERS),
            queue_time_s=draw(st.sampled_from([1e6, 1e300])),
            batch_mean=draw(NUMBERS),
            pending_requests=draw(st.sampled_from([1e9, 1e300])),
            gpu_busy_ratio=draw(NUMBERS),
            replicas_ready=draw(st.integers(0, 10**9)),
            replicas_pending=draw(st.integers(0, 10**9)),
        )
        for i in range(draw(st.integers(1, 8)))
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stream=nonsense())
def test_nonsense_never_acts_through_the_network(
    service: Service, bundle: Bundle, familiar: Familiar, stream: list[Signals]
) -> None:
    policy = LearnedPolicy(bundle=replace(bundle, familiar=familiar))
    classical = LearnedPolicy(bundle=bundle.unmoved())
    memory: Any = None
    history, guard = fresh_history(policy), GuardrailMemory()
    for reading in stream:
        history = history.push(reading)
        view = _view(service, history, 4, reading.at_s)
        decided = decide(policy, view, memory, guard)
        alone = decide(classical, view, memory, guard)
        assert Reason.OUT_OF_DISTRIBUTION in decided.decision.reasons
        assert "because" in decided.decision.why
        assert decided.decision.granted == alone.decision.granted
        assert (decided.memory.before == 0.0).all()
        memory, guard = decided.memory, decided.guard_memory


def test_a_doubt_lasts_a_minute_after_the_last_strange_observation(
    service: Service, bundle: Bundle, familiar: Familiar, readings: Readings
) -> None:
    everything = replace(familiar, low=LOW, high=HIGH, spread_max=np.inf)
    nothing = replace(everything, low=HIGH + 1.0, high=HIGH + 1.0)
    memory: Any = None
    doubted = []
    history = fresh_history(LearnedPolicy(bundle=bundle))
    for step, reading in enumerate(readings(40, seed=2)):
        history = history.push(reading)
        view = _view(service, history, 4, reading.at_s)
        box = nothing if step in (3, 5) else everything
        proposal = LearnedPolicy(bundle=replace(bundle, familiar=box)).act(view, memory)
        memory = proposal.memory
        doubted.append(proposal.instead is not None)
    last = 5 + DOUBT_DECISIONS
    assert doubted == [False] * 3 + [True] * (last - 3) + [False] * (40 - last)
