"""A co-tenant that loads CPU cores and, where there is one, the GPU along a profile of levels.

python loadtests/stress.py --cpu linear:0.1-0.9 --cores 2 --period 60 --duration 300

Each core, and the GPU, works for a share of every 100 ms. At the end, and on SIGTERM, it says what
share it really had: beside a busy service that is less than it asked for.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.sharedctypes import Synchronized
from typing import Any

from gpupilot_envs.errors import GpupilotError, InputInvalid
from gpupilot_load.levels import Levels, parse

SLICE_S = 0.1
BURST = 2000
MATRIX = 2048


def main(words: list[str]) -> int:
    """Run until the duration is over or the process is told to end; returns the exit code."""
    options = _parser().parse_args(words)
    try:
        jobs = _jobs(options)
    except GpupilotError as error:
        sys.stderr.write(f"stress: {error}\n")
        return 2
    # `spawn`, because CUDA cannot be used in a forked process
    context = multiprocessing.get_context("spawn")
    worked = [context.Value("d", 0.0) for _ in jobs]
    processes = [
        context.Process(target=press, args=(kind, levels, options.duration, counter), daemon=True)
        for (kind, levels), counter in zip(jobs, worked, strict=True)
    ]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    started_s = time.monotonic()
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join()
    finally:
        _say(jobs, worked, time.monotonic() - started_s)
    return max((process.exitcode or 0) != 0 for process in processes)


def press(kind: str, levels: Levels, duration_s: float, worked_s: Synchronized[float]) -> None:
    """Work for the level's share of every slice.

    Args:
        kind: ``cpu`` or ``gpu``.
        levels: Share of each slice to work, over time.
        duration_s: Seconds to go on; 0 is for ever.
        worked_s: Where the seconds of work are added up.
    """
    work = _cpu_work if kind == "cpu" else _gpu_work()
    started_s = time.monotonic()
    index = 0
    while True:
        begin_s = started_s + index * SLICE_S
        now_s = time.monotonic()
        if duration_s and now_s - started_s >= duration_s:
            return
        if now_s < begin_s:
            time.sleep(begin_s - now_s)
        until_s = begin_s + SLICE_S * levels.at(begin_s - started_s)
        while time.monotonic() < until_s:
            work_began_s = time.process_time() if kind == "cpu" else time.monotonic()
            work()
            ended_s = time.process_time() if kind == "cpu" else time.monotonic()
            worked_s.value += ended_s - work_began_s
        index = max(index + 1, int((time.monotonic() - started_s) / SLICE_S))


def _cpu_work() -> None:
    total = 0
    for number in range(BURST):
        total += number * number


def _gpu_work() -> Callable[[], None]:
    import torch

    left = torch.rand(MATRIX, MATRIX, device="cuda")
    right = torch.rand(MATRIX, MATRIX, device="cuda")

    def multiply() -> None:
        torch.mm(left, right)
        torch.cuda.synchronize()

    return multiply


def _jobs(options: argparse.Namespace) -> list[tuple[str, Levels]]:
    shared: dict[str, Any] = {"period_s": options.period, "seed": options.seed}
    jobs: list[tuple[str, Levels]] = []
    if options.cpu:
        cores = options.cores or os.cpu_count() or 1
        jobs += [("cpu", parse("--cpu", options.cpu, **shared))] * cores
    if options.gpu:
        jobs.append(("gpu", parse("--gpu", options.gpu, **shared)))
        _require_gpu()
    if not jobs:
        raise InputInvalid("stress", "nothing to load", "--cpu LEVELS, --gpu LEVELS or both")
    return jobs


def _require_gpu() -> None:
    try:
        import torch
    except ImportError as error:
        allowed = "an environment with PyTorch, which does the work on the GPU"
        raise InputInvalid("--gpu", "PyTorch is not installed", allowed) from error
    if not torch.cuda.is_available():
        raise InputInvalid("--gpu", "no CUDA GPU", "a machine with a GPU; leave --gpu out")


def _say(jobs: list[tuple[str, Levels]], worked: list[Any], elapsed_s: float) -> None:
    for kind in ("cpu", "gpu"):
        seconds = [
            counter.value for (other, _), counter in zip(jobs, worked, strict=True) if other == kind
        ]
        if seconds:
            share = sum(seconds) / (len(seconds) * elapsed_s)
            sys.stdout.write(
                f"{kind}: {len(seconds)} workers, {100 * share:.1f} % busy over {elapsed_s:.1f} s\n"
            )
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stress", description="Load CPU and GPU along constant, linear or random levels."
    )
    levels = "constant:0.5, linear:0.1-0.9 or random:0.2-0.8"
    parser.add_argument("--cpu", default=os.environ.get("STRESS_CPU", ""), help=levels)
    parser.add_argument("--gpu", default=os.environ.get("STRESS_GPU", ""), help=levels)
    parser.add_argument("--cores", type=int, default=0, help="CPU workers; 0: one per core")
    parser.add_argument("--period", type=float, default=60.0, help="seconds of a rise or level")
    parser.add_argument("--duration", type=float, default=0.0, help="seconds; 0: until stopped")
    parser.add_argument("--seed", type=int, default=0, help="of random levels")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
