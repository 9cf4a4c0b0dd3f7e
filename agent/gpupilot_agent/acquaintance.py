"""What a policy sees while it runs the services it was trained on, for its box of the familiar."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gpupilot_agent import ood
from gpupilot_agent.bundle import Bundle
from gpupilot_envs.fleet_control import FleetControl
from gpupilot_envs.scenarios import Scenarios

EVERY = 4
"""Of the observations, every so manieth is kept: neighbours are nearly alike."""


def acquainted(
    bundle: Bundle, scenarios: Scenarios, *, seed: int, services: int, steps: int
) -> Bundle:
    """Return the bundle with the box around what it sees, and how often its training leaves it.

    The policy itself runs the fleet, so that the box holds the states it brings about. The share
    of strange observations is then measured on other services of the same kinds.

    Args:
        bundle: The policy.
        scenarios: The services it was trained on.
        seed: Draws them.
        services: Services of the fleet.
        steps: Decisions of each.
    """
    seen, spreads = observed(bundle, scenarios, seed=seed, services=services, steps=steps)
    found = ood.fit(seen, spreads)
    again, apart = observed(bundle, scenarios, seed=seed + 1, services=services, steps=steps)
    card = {
        "observations": len(seen),
        "strange": {"training, other services": float(found.strange(again, apart).mean())},
    }
    return replace(bundle, familiar=found, card={**bundle.card, "familiar": card})


def observed(
    bundle: Bundle, scenarios: Scenarios, *, seed: int, services: int, steps: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return observations, shape ``(n, fields)``, and how far apart the networks are on each.

    Every service pays the price at which the policy meets its objective, times the factor it was
    drawn with.
    """
    prices = np.array([bundle.price(ratio) for ratio in scenarios.objectives])
    control = FleetControl(services, scenarios, multiplier=prices)
    seen = control.reset(np.random.default_rng(seed), stagger=True)
    kept, apart = [], []
    for step in range(steps):
        answer = bundle.answer(seen, control.masks)
        if step % EVERY == 0:
            kept.append(seen.copy())
            apart.append(answer.spreads)
        seen = control.step(answer.actions).observations
    return np.concatenate(kept), np.concatenate(apart)
