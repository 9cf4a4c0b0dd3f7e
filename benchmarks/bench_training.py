"""Training throughput, end to end, and what the trained policy saves at equal attainment.

    python benchmarks/bench_training.py [--seconds 75] [--frames 5000000] [--seed 0]

Prints service-decisions per CPU-second of the whole process (simulating, observing, deciding,
learning, validating, checkpoints included), where they go, and the validation scores: the fleet's
interval-level world, so a development figure, never a published one.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from gpupilot_agent.bundle import load
from gpupilot_agent.fleet_validation import neutral
from gpupilot_agent.training import train
from gpupilot_agent.training_config import Progress, TrainConfig
from gpupilot_agent.training_data import prepare
from gpupilot_envs.fleet_control import FleetControl
from gpupilot_envs.scenarios import Scenarios


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=75.0)
    parser.add_argument("--frames", type=int, default=5_000_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(
            out=Path(folder), frames=asked.frames, max_seconds=asked.seconds, seed=asked.seed
        )
        scenarios = _timed_preparation(config)
        _control_speed(scenarios)
        _training(config)


def _timed_preparation(config: TrainConfig) -> Scenarios:
    started = time.process_time()
    material = prepare(config)
    print(f"fitting the service and drawing traffic: {time.process_time() - started:.1f} CPU-s")
    return material.train


def _control_speed(scenarios: Scenarios) -> None:
    """Print the cost of one service-decision without learning."""
    control = FleetControl(512, scenarios, multiplier=25.0)
    seen = control.reset(np.random.default_rng(0), stagger=True)
    control.step(neutral(seen, control.masks))
    started, steps = time.process_time(), 200
    for _ in range(steps):
        seen = control.step(neutral(seen, control.masks)).observations
    rate = steps * control.n / (time.process_time() - started)
    print(f"world, observation and decision alone: {rate:,.0f} service-decisions per CPU-s")


def _training(config: TrainConfig) -> None:
    first: list[tuple[float, int]] = []

    def tell(progress: Progress) -> None:
        if progress.phase == "training":
            first.append((time.process_time(), progress.frames))

    started = time.process_time()
    bundle = load(train(config, tell))
    (begun, before), (ended, after) = first[0], first[-1]
    print(f"training: {(after - before) / (ended - begun):,.0f} frames per CPU-s end to end")
    print(f"whole run: {after:,} frames in {time.process_time() - started:.0f} CPU-s")
    card = bundle.card
    for name in ("classical", "validation"):
        for knob, row in zip(card[name]["knobs"], card[name]["scores"], strict=True):
            late, cost = row["late_ratio"], row["cost_ratio"]
            print(f"{name:>10} {knob:>6g}: late {late:.4%}  cost {cost:.4f}")
    print(f"saved at equal attainment: {_percent(card['saving_at_equal_attainment'])}")
    for row in card["curve"]:
        print(f"  {row['frames']:>9,} frames  saving {_percent(row['saving'])}")


def _percent(share: float | None) -> str:
    return "off the scale" if share is None else f"{share:+.2%}"


if __name__ == "__main__":
    main()
