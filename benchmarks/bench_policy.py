"""How long a policy network takes for one service and for a thousand, against torch and ONNX.

Usage: ``python benchmarks/bench_policy.py`` prints one line per contender: the median and the
least of many calls in CPU microseconds of this process, one thread each. All compute the same
logits; ours and ONNX include the choice of an action. The shipped policy also looks whether it
knows what it sees.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import statistics
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from gpupilot_agent.bundle import Bundle
from gpupilot_agent.generalist import load_generalist
from gpupilot_agent.onnx_export import model_of
from gpupilot_envs.actions import CHOICES, SIZES
from gpupilot_envs.controller import Controller
from gpupilot_envs.observation import FIELDS, HIGH, LOW

CALLS = 200
HIDDEN = 64
Work = Callable[[NDArray[np.float32]], Any]


def made_up(networks: int) -> Bundle:
    """Return a bundle of random weights of the size that training produces."""
    rng = np.random.default_rng(networks)
    widths = (len(FIELDS), HIDDEN, HIDDEN, sum(SIZES))
    return Bundle(
        networks=tuple(
            tuple(
                (rng.normal(0.0, 0.1, (a, b)).astype(np.float32), np.zeros(b, dtype=np.float32))
                for a, b in pairwise(widths)
            )
            for _ in range(networks)
        ),
        controller=Controller(),
        config={},
        seeds={},
        trace_hashes={},
        commit="unknown",
        card={},
    )


def by_torch(bundle: Bundle) -> Work:
    """Return the first network of the bundle as torch modules."""
    torch.set_num_threads(1)
    parts: list[torch.nn.Module] = []
    for weight, bias in bundle.networks[0]:
        layer = torch.nn.Linear(*weight.shape)
        layer.load_state_dict({"weight": torch.tensor(weight.T), "bias": torch.tensor(bias)})
        parts += [layer, torch.nn.Tanh()]
    module = torch.nn.Sequential(*parts[:-1])

    def work(seen: NDArray[np.float32]) -> Any:
        with torch.no_grad():
            return module(torch.from_numpy(seen)).numpy()

    return work


def by_onnx(bundle: Bundle) -> Work:
    """Return the exported model in onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model_of(bundle).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    masks = np.ones((1000, CHOICES), dtype=np.bool_)
    return lambda seen: session.run(["action"], {"observation": seen, "mask": masks[: len(seen)]})


def call_us(work: Work, seen: NDArray[np.float32]) -> tuple[float, float]:
    """Return the median and the least CPU microseconds of one call."""
    for _ in range(20):
        work(seen)
    spent = []
    for _ in range(CALLS):
        start = time.process_time()
        work(seen)
        spent.append((time.process_time() - start) * 1e6)
    return statistics.median(spent), min(spent)


def main() -> None:
    """Print the table."""
    rng = np.random.default_rng(0)
    seen = rng.uniform(LOW, HIGH, (1000, len(FIELDS))).astype(np.float32)
    masks = np.ones((1000, CHOICES), dtype=np.bool_)
    one, three = made_up(1), made_up(3)
    shipped = load_generalist()
    contenders: Mapping[str, Work] = {
        "the shipped policy": lambda rows: shipped.answer(rows, masks[: len(rows)]),
        "gpupilot, one network": lambda rows: one.act(rows, masks[: len(rows)]),
        "gpupilot, three networks": lambda rows: three.act(rows, masks[: len(rows)]),
        "torch": by_torch(one),
        "onnxruntime": by_onnx(one),
        "onnxruntime, three networks": by_onnx(three),
    }
    print(f"{'':28s} {'1 service, us':>20s} {'1,000 services, us':>22s}")
    for name, work in contenders.items():
        small, large = call_us(work, seen[:1]), call_us(work, seen)
        print(f"{name:28s} {small[0]:10.1f} ({small[1]:5.1f}) {large[0]:12.0f} ({large[1]:6.0f})")


if __name__ == "__main__":
    main()
