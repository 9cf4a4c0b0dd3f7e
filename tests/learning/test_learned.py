"""The policy at the controls decides exactly as the vectorised path it was trained on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from gpupilot_agent.baselines.registry import make
from gpupilot_agent.bundle import Bundle
from gpupilot_agent.learned import LearnedPolicy, knobs_of, observe
from gpupilot_agent.policies import View
from gpupilot_envs.actions import NEUTRAL, SIZES, knobs_row
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.decision import Seats, Service
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
    history, memory, guard, running = History(), None, GuardrailMemory(), 3
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
        seen.append((memory.budget.tobytes(), memory.before.tobytes(), running))
    return seen


def _batched(service: Service, bundle: Bundle, streams: list[list[Signals]]) -> list[list[Any]]:
    """Drive the vectorised path: Seats.observe, Bundle.act, Seats.decide, all services at once."""
    n = len(streams)
    seats, running = Seats(n), np.full(n, 3)
    seats.seat([replace(service, controller=bundle.controller)] * n)
    seen: list[list[Any]] = [[] for _ in range(n)]
    for step in zip(*streams, strict=True):
        rows = np.stack([reading.row() for reading in step])
        actions = bundle.act(seats.observe(np.arange(n), rows, running))
        running = seats.decide(actions, running, np.array([r.at_s for r in step]))
        for i in range(n):
            budget, before = seats.budget[i].tobytes(), seats.before[i].tobytes()
            seen[i].append((budget, before, int(running[i])))
    return seen


def test_scalar_and_vectorised_decisions_are_equal_bit_for_bit(
    service: Service, bundle: Bundle, readings: Readings
) -> None:
    """Over 150 decisions, beyond the ring, with missing values and with memory carried."""
    streams = [readings(150, seed=seed, missing=0.1 * (seed % 2)) for seed in range(6)]
    together = _batched(service, bundle, streams)
    for stream, batched in zip(streams, together, strict=True):
        assert _scalar(service, LearnedPolicy(bundle=bundle), stream) == batched


def test_scalar_and_vectorised_observations_are_equal_bit_for_bit(
    service: Service, bundle: Bundle, readings: Readings
) -> None:
    policy, memory, history = LearnedPolicy(bundle=bundle), None, History()
    seats = Seats(1)
    seats.seat([replace(service, controller=bundle.controller)])
    for reading in readings(100, missing=0.05):
        history = history.push(reading)
        view = _view(service, history, 4, reading.at_s)
        seats.observe(np.array([0]), reading.row()[None, :], np.array([4]))
        proposal = policy.act(view, memory)
        carried = replace(proposal.memory, before=seats.before[0])
        row = knobs_row(knobs_of(bundle, view, 0.0))
        alone = observe(view, history.matrix(), row, carried)
        assert alone.tobytes() == seats.observations[0].tobytes()
        memory = proposal.memory
        seats.decide(bundle.act(seats.observations), np.array([4]), np.array([reading.at_s]))


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
    baseline = make("predictive", {name: float(value) for name, value in numbers.items()})
    history, memory, running = History(), None, 3
    for reading in readings(120, seed=3, missing=0.05):
        history = history.push(reading)
        view = _view(service, history, running, reading.at_s)
        proposal = learned.act(view, memory)
        assert proposal.ask == baseline.act(view, None).ask
        assert proposal.why == "classical controller, unchanged"
        memory, running = proposal.memory, proposal.ask.replicas


def test_act_is_pure(service: Service, bundle: Bundle, readings: Readings) -> None:
    history = History(readings=tuple(readings(20)))
    policy = LearnedPolicy(bundle=bundle)
    view = _view(service, history, 3, 300.0)
    memory = policy.act(view, None).memory
    before = memory.budget.tobytes(), memory.before.tobytes()
    first, second = policy.act(view, memory), policy.act(view, memory)
    assert first.ask == second.ask
    assert (memory.budget.tobytes(), memory.before.tobytes()) == before


def test_the_evidence_of_a_decision_leads_to_it_again(
    service: Service, bundle: Bundle, readings: Readings
) -> None:
    view = _view(service, History(readings=tuple(readings(20))), 3, 300.0)
    evidence = LearnedPolicy(bundle=bundle).act(view, None).evidence
    assert evidence is not None
    observation = np.array([evidence.observation], dtype=np.float32)
    assert tuple(bundle.act(observation)[0].tolist()) == evidence.action
    assert bundle.logits(observation)[0].tolist() == list(evidence.logits)


def test_a_restart_recovers_the_budget_from_the_history(
    service: Service, bundle: Bundle, readings: Readings
) -> None:
    policy, memory, history = LearnedPolicy(bundle=bundle), None, History()
    for reading in readings(30):
        history = history.push(reading)
        memory = policy.act(_view(service, history, 3, reading.at_s), memory).memory
    again = policy.act(_view(service, history, 3, 450.0), None).memory
    assert memory is not None
    assert again.budget.tobytes() == memory.budget.tobytes()


def test_before_the_first_reading_nothing_changes(service: Service, bundle: Bundle) -> None:
    view = _view(service, History(), 3, 0.0)
    assert LearnedPolicy(bundle=bundle).act(view, None).ask == view.current


@pytest.mark.parametrize("margin", [-1.0, 0.0, 2.0])
def test_the_margin_moves_the_controller(
    service: Service, bundle: Bundle, readings: Readings, margin: float
) -> None:
    view = _view(service, History(readings=tuple(readings(5))), 3, 75.0)
    assert knobs_of(bundle, view, margin).z == bundle.controller.z + margin


def test_the_operator_side_imports_neither_torch_nor_gymnasium() -> None:
    code = (
        "import sys, gpupilot_agent.learned, gpupilot_agent.bundle;"
        "sys.exit(any(m in sys.modules for m in ('torch', 'gymnasium', 'stable_baselines3')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
