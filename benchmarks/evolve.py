"""A small residual evolved instead of trained: CMA-ES on few numbers, by the designs' yardstick.

    python benchmarks/evolve.py [--seconds 300] [--seed 0]

Every axis in ``MOVED`` is moved by a weighted sum of the fields in ``SEEN``, rounded to its nearest
value, around the controller of the shipped policy's recipe. CMA-ES (N. Hansen, arXiv:1604.00772)
finds the weights on training services, other ones in every generation; judged is the mean of its
last generation, on the traffic of ``designs.py``: validation days and generated families, never a
test day. Interval-level world: a development figure, never a published one.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cmaes import CMA
from designs import LATE, grounds, recorded, saved
from numpy.typing import NDArray

from gpupilot_agent.fleet_validation import neutral, paid
from gpupilot_agent.training_data import prepare
from gpupilot_agent.training_file import read_generalist
from gpupilot_envs.actions import AXES, NEUTRAL, SIZES
from gpupilot_envs.controller import REFERENCE_PRICE
from gpupilot_envs.observation import FIELDS
from gpupilot_envs.scenarios import Scenarios
from gpupilot_envs.workload.splits import Split

MOVED = ("margin", "hold", "lift", "memory")
SEEN = ("price", "miss_15", "variability_5", "trend_1_5", "late_5min", "bursts")
"""What a weighted sum is over, beside a constant."""

PRICES = (12.0, 60.0, 300.0)
"""Prices of a late request at which a residual is judged while it is sought."""

SERVICES, STEPS = 128, 360
FIRST_STEP = 0.5
"""Deviation of the first weights: some move an axis by one value, most by none."""

_FIELDS_AT = [[field.name for field in FIELDS].index(name) for name in SEEN]
_AXES_AT = [[axis.name for axis in AXES].index(name) for name in MOVED]
_STARTS = np.concatenate([[0], np.cumsum(SIZES)[:-1]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """A linear residual.

    Attributes:
        weights: Of a constant and of every field in ``SEEN``, shape ``(axes moved, fields + 1)``.
    """

    weights: NDArray[np.float64]

    @classmethod
    def of(cls, numbers: NDArray[np.float64]) -> Residual:
        """Return the residual of so many plain numbers."""
        return cls(weights=numbers.reshape(len(MOVED), 1 + len(SEEN)))

    def act(self, observations: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the actions, the neutral value where another cannot be chosen."""
        rows = np.arange(len(observations))
        seen = np.column_stack([np.ones(len(rows)), observations[:, _FIELDS_AT]])
        moves = np.rint(seen @ self.weights.T).astype(np.int64)
        actions = neutral(observations, masks)
        for move, axis in zip(moves.T, _AXES_AT, strict=True):
            wanted = np.clip(NEUTRAL[axis] + move, 0, SIZES[axis] - 1)
            possible = masks[rows, _STARTS[axis] + wanted]
            actions[:, axis] = np.where(possible, wanted, NEUTRAL[axis])
        return actions


def main() -> None:
    """Evolve a residual and print its row beside the controller's own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=300.0, help="CPU time of the search")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    recipe = read_generalist(out=Path("unused"))
    days = Split(train=recorded("train"), validation=(), test=())
    found = evolved(prepare(recipe, days).train, seconds=asked.seconds, seed=asked.seed)
    judged = list(grounds(recipe))
    print(f"saved at {', '.join(f'{late:.1%}' for late in LATE)} late, %")
    print(f"| design | {' | '.join(ground.name for ground in judged)} |")
    print("|---|" + "---|" * len(judged))
    for name, act in (("the controller alone", neutral), ("evolved residual", found.act)):
        cells = [saved(ground, act, recipe.controller) for ground in judged]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    with np.printoptions(precision=2, suppress=True):
        print(f"weights of 1, {', '.join(SEEN)}:")
        for name, weights in zip(MOVED, found.weights, strict=True):
            print(f"{name:>7} {weights}")


def evolved(services: Scenarios, *, seconds: float, seed: int) -> Residual:
    """Return the mean of the last generation that fits into ``seconds`` of CPU time."""
    search = CMA(mean=np.zeros(len(MOVED) * (1 + len(SEEN))), sigma=FIRST_STEP, seed=seed)
    until_s = time.process_time() + seconds
    while time.process_time() < until_s:
        drawn = [search.ask() for _ in range(search.population_size)]
        chance = 1_000 * (seed + 1) + search.generation
        tried = [(numbers, burden(services, Residual.of(numbers), chance)) for numbers in drawn]
        search.tell(tried)
        least = min(cost for _, cost in tried)
        alone = burden(services, Residual.of(np.zeros_like(search.mean)), chance)
        print(f"generation {search.generation}: best {least / alone - 1.0:+.2%}", flush=True)
    return Residual.of(search.mean)


def burden(services: Scenarios, residual: Residual, seed: int) -> float:
    """Return cost and priced lateness, each price weighted as in training."""
    total = 0.0
    for price in PRICES:
        met = paid(services, residual.act, seed=seed, services=SERVICES, steps=STEPS, price=price)
        total += float(met.priced.mean()) * math.sqrt(REFERENCE_PRICE / price)
    return total


if __name__ == "__main__":
    main()
