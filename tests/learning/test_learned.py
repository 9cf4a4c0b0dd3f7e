"""The policy at the controls decides exactly as the vectorised path it was trained on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from gpupilot_agent.baselines.queueing_model import QueueingModel
from gpupilot_agent.bundle import Bundle
from gpupilot_agent.learned import LearnedMemory, LearnedPolicy, knobs_of
from gpupilot_agent.policies import View, fresh_history
from gpupilot_envs.actions import NEUTRAL, SIZES
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.decision import Seats, Service
from gpupilot_envs.following import HISTORY_ROWS, PERIOD_S
from gpupilot_envs.guardrail import GuardrailMemory, restrain
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


def _scalar(service: Service, policy: LearnedPolicy, readings: list[Signals]) -> list[Any]:
    """Drive the scalar path: History, Policy.act, restrain; return observations and grants."""
    history, memory, guard, running = fresh_history(policy), None, GuardrailMemory(), 3
    seen: list[Any] = []
    for reading in readings:
        history = history.push(reading)
        view = _view(service, history, running, reading.at_s)
        proposal = policy.act(view, memory)
        memory = proposal.memory
        verdict = restrain(
            proposal.ask,
            view.current,
            history,
            service.limits,
            reading.at_s,
            guard,
            service.capacity.saturation_rps,
        )
        guard, running = verdict.memory, verdict.allocation.replicas
        seen.append((memory.known.tobytes(), memory.before.tobytes(), running))
    return seen


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
        actions = bundle.act(seats.observe(np.arange(n), rows, running), seats.masks)
        running = seats.decide(actions, running, np.array([r.at_s for r in step]))
        for i in range(n):
            known, before = seats._known[i].tobytes(), seats.before[i].tobytes()
            seen[i].append((known, before, int(running[i])))
    return seen


def test_scalar_and_vectorised_decisions_are_equal_bit_for_bit(
    service: Service, bundle: Bundle, readings: Readings
) -> None:
    """Beyond the ring, with missing values and with memory carried."""
    streams = [
        readings(HISTORY_ROWS + 60, seed=seed, missing=0.1 * (seed % 2)) for seed in range(6)
    ]
    together = _batched(service, bundle, streams)
    for stream, batched in zip(streams, together, strict=True):
        assert _scalar(service, LearnedPolicy(bundle=bundle), stream) == batched


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


def _neutral(bundle: Bundle) -> Bundle:
    """Return the bundle with a head that always prefers the neutral action."""
    *hidden, (weight, bias) = bundle.networks[0]
    preferred = np.zeros_like(bias)
    offsets = np.concatenate([[0], np.cumsum(SIZES[:-1])])
    preferred[offsets + np.array(NEUTRAL)] = 1.0
    return replace(bundle, networks=((*hidden, (np.zeros_like(weight), preferred)),))


def test_the_neutral_network_is_the_tuned_baseline(
    service: Service, bundle: Bundle, readings: Readings
) -> None:
    """Episode 0 equals the classical controller: same asks as the baseline of the same numbers."""
    learned = LearnedPolicy(bundle=_neutral(bundle))
    numbers = asdict(bundle.controller)
    numbers["z"] = bundle.controller.margin(bundle.price(service.targets.attainment_ratio))
    del numbers["z_per_log_price"]
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
