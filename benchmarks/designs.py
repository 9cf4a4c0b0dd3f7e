"""Designs of the learned policy against each other: GPU time saved at equal attainment, by family.

    python benchmarks/designs.py [--frames 3000000] [--seed 0] [--only recipe …]

Every design is the recipe of the shipped policy with a setting changed, trained once and run on
traffic that no training sees: flash crowds, on/off traffic, smooth families and the *validation*
days of the recorded traces where they are found (``GPUPILOT_DATA``). It is compared with the best
of several queueing controllers at every margin, chosen on that very traffic: a frontier nobody
could have tuned beforehand. Interval-level world: a development figure, never a published one.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gpupilot_agent.bundle import load
from gpupilot_agent.comparison.traffic import prepared
from gpupilot_agent.fleet_validation import Act, Trade, neutral, score
from gpupilot_agent.training import train
from gpupilot_agent.training_config import TrainConfig
from gpupilot_agent.training_data import STEEPEST, prepare
from gpupilot_agent.training_file import read_generalist
from gpupilot_envs.controller import Controller
from gpupilot_envs.embedded import DEFAULT
from gpupilot_envs.fleet.rates import RateLibrary
from gpupilot_envs.following import PERIOD_S
from gpupilot_envs.scenarios import Ranges, Scenarios, busiest_minutes
from gpupilot_envs.workload.randomisation import random_traffic
from gpupilot_envs.workload.splits import Role, Split, split_by_day
from gpupilot_envs.workload.trace import RateTrace, read_trace

PRICES = (3.0, 8.0, 20.0, 50.0, 120.0, 300.0, 800.0, 2500.0)
MARGINS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
LATE = (0.03, 0.02, 0.01, 0.005)
"""Late shares at which costs are read."""

SEED, SERVICES, STEPS = 11, 128, round(3600.0 / PERIOD_S)
REPLICAS, CAPACITY_RPS, COARSEST_S = 5.0, 240.0, 600.0

HELD_OUT = ("twitter", "servegen", "azurellm23", "gentd26")
"""Recorded families that are only ever compared on."""

EVERYDAY = Ranges(
    demand_replicas=(REPLICAS, REPLICAS),
    cv=(1.0, 1.0),
    cold_start_s=(30.0, 30.0),
    lag_s=(0.0, 0.0),
    faulty_share=0.0,
)
"""Services as the published comparisons have them."""

CLASSICAL = (
    Controller(hold_s=38.0, lead_ratio=0.58, alpha=0.86, beta=0.1, drain_s=55.0, conformal=False),
    Controller(hold_s=140.0, lead_ratio=1.32, alpha=0.63, beta=0.2, drain_s=37.0),
    Controller(hold_s=44.0, lead_ratio=0.4, alpha=0.93, beta=0.0, drain_s=4.3),
    Controller(hold_s=313.0, lead_ratio=1.11, alpha=0.86, beta=0.02, drain_s=3.2),
)
"""The cheapest of 120 drawn at random at prices of 5 to 250, on generated and training traffic."""

Change = Callable[[TrainConfig], TrainConfig]

DESIGNS: dict[str, Change] = {
    "recipe": lambda recipe: recipe,
    "untrained": lambda recipe: replace(recipe, frames=1),
    "broad exploration": lambda recipe: replace(
        recipe, ppo=replace(recipe.ppo, neutral_logit=1.0, keep_noise=1)
    ),
    "fresh noise each decision": lambda recipe: replace(
        recipe, ppo=replace(recipe.ppo, keep_noise=1)
    ),
    "short sight": lambda recipe: replace(recipe, ppo=replace(recipe.ppo, gamma=0.97)),
    "no copies": lambda recipe: replace(recipe, copies=1, curriculum=0.0),
    "no curriculum": lambda recipe: replace(recipe, curriculum=0.0),
    "no mean for the forecast": lambda recipe: replace(
        recipe, controller=replace(recipe.controller, anchor_miss=0.0)
    ),
}
"""Changes of the recipe by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Services on one kind of traffic, and what the classical controllers cost on them."""

    name: str
    services: Scenarios
    classical: Trade


def main() -> None:
    """Train every design and print a row each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--frames", type=int, default=3_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=list(DESIGNS))
    parser.add_argument("--out", type=Path, default=Path("results/designs"))
    asked = parser.parse_args()
    recipe = replace(read_generalist(out=asked.out), frames=asked.frames, seed=asked.seed)
    days = recorded("train")
    judged = list(grounds(recipe))
    levels = ", ".join(f"{late:.1%}" for late in LATE)
    print(f"saved at {levels} late, %; - where one of the two frontiers does not reach")
    print(f"| design | {' | '.join(ground.name for ground in judged)} | CPU-s |")
    print("|---|" + "---|" * (len(judged) + 1))
    for name in asked.only:
        started = time.process_time()
        out = asked.out / f"{name} {asked.seed}".replace(" ", "-")
        config = replace(DESIGNS[name](recipe), out=out)
        bundle = load(train(config, traffic=Split(train=days, validation=(), test=())))
        spent = time.process_time() - started
        cells = [saved(ground, bundle.act, bundle.controller) for ground in judged]
        print(f"| {name} | {' | '.join(cells)} | {spent:.0f} |", flush=True)


def recorded(role: Role) -> tuple[RateTrace, ...]:
    """Return the days of the recorded traces in a role, in honest bins; none without the data."""
    folder = Path(os.environ.get("GPUPILOT_DATA", "../shared/data")) / "traces"
    found: list[RateTrace] = []
    for path in sorted(folder.glob("*.parquet")):
        trace = read_trace(path)
        if trace.family not in HELD_OUT and trace.bin_s <= COARSEST_S:
            found += [day for day in split_by_day([trace]).role(role) if day.mean_rps > 0.0]
    return tuple(prepared(day, replicas=REPLICAS, capacity_rps=CAPACITY_RPS) for day in found)


def grounds(recipe: TrainConfig) -> Iterator[Ground]:
    """Yield every kind of traffic that designs are judged on, as far as it is there."""
    traffic = {
        "recorded days": list(recorded("validation")),
        "flash": _generated(("flash",), 16),
        "on/off": _generated(("onoff",), 16),
        "smooth": _generated(("diurnal", "regimes", "ramps"), 6),
    }
    plain = replace(
        recipe,
        profiles=(DEFAULT,),
        geared=(),
        objectives=(),
        latency_ratios=(),
        ranges=EVERYDAY,
        generated=4,
    )
    services = prepare(plain).validation
    for name, traces in traffic.items():
        if traces:
            met = services.meeting(RateLibrary.of(traces))
            yield Ground(name=name, services=met, classical=_classical(met))


def _generated(families: tuple[str, ...], each: int) -> list[RateTrace]:
    drawn = [
        random_traffic(
            50_000 + 100 * place + k,
            duration_s=21_600.0,
            bin_s=5.0,
            families=(family,),
            day_s=21_600.0,
        )
        for place, family in enumerate(families)
        for k in range(each)
    ]
    met = [trace for trace in drawn if trace.mean_rps > 0.0]
    steep = busiest_minutes(RateLibrary.of(met)) > STEEPEST
    return [trace for trace, skip in zip(met, steep, strict=True) if not skip]


def _classical(services: Scenarios) -> Trade:
    settings = [replace(each, z=z) for each in CLASSICAL for z in MARGINS]
    return Trade(
        knobs=tuple(each.z for each in settings),
        scores=tuple(
            score(services.moving(each), neutral, seed=SEED, services=SERVICES, steps=STEPS)
            for each in settings
        ),
    )


def saved(ground: Ground, act: Act, controller: Controller) -> str:
    """Return the GPU time saved at each of ``LATE``, percent, as a table cell."""
    services = ground.services.moving(controller)
    found = Trade(
        knobs=PRICES,
        scores=tuple(
            score(services, act, seed=SEED, services=SERVICES, steps=STEPS, price=price)
            for price in PRICES
        ),
    )
    at = np.log(LATE)
    saved = 100.0 * (1.0 - found.cost(at) / ground.classical.cost(at))
    return " ".join("-" if np.isnan(share) else f"{share:+.1f}" for share in saved)


if __name__ == "__main__":
    main()
