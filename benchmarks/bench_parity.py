"""From nothing to parity with the tuned queueing controller: seconds of one core, and the proof.

    python benchmarks/bench_parity.py [--frames 1500000] [--seed 0]

Trains a policy from the controller that nobody tuned, everything included: fitting the service,
drawing traffic, validations, checkpoints. Then, not counted, sets its frontier on validation
services that did not choose its checkpoint against two: that of the controller it started from, and
that of the controller of the shipped policy's recipe, the cheapest of 222, each at margins chosen
in hindsight. Interval-level world: a development figure, never a published one.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from gpupilot_agent.bundle import load
from gpupilot_agent.fleet_validation import Yardstick
from gpupilot_agent.training import train
from gpupilot_agent.training_config import TrainConfig
from gpupilot_agent.training_data import prepare
from gpupilot_agent.training_file import read_generalist

DRAWS = (101, 202, 303)
"""Seeds of the services that are judged on."""

SERVICES, STEPS = 384, 480


def main() -> None:
    """Train, then judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--frames", type=int, default=1_500_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(out=Path(folder), frames=asked.frames, seed=asked.seed)
        wall_s, cpu_s = time.monotonic(), time.process_time()
        bundle = load(train(config))
        wall_s, cpu_s = time.monotonic() - wall_s, time.process_time() - cpu_s
    print(f"{asked.frames:,} decisions: {wall_s:.0f} s, {cpu_s:.0f} CPU-s, everything included")
    services = prepare(config).validation
    controllers = {
        "the controller it started from": config.controller,
        "the tuned controller": read_generalist(out=config.out).controller,
    }
    for name, controller in controllers.items():
        told = []
        for draw in DRAWS:
            yardstick = Yardstick(services, controller, seed=draw, services=SERVICES, steps=STEPS)
            told.append(f"{yardstick.saving(yardstick.trade(bundle.act)):+.1%}")
        print(f"saved against {name}: {', '.join(told)}")


if __name__ == "__main__":
    main()
