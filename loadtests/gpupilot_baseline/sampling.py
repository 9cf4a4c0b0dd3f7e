"""Looks at the servers while a level runs: what they executed, their CPU and their memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil

from gpupilot_baseline.service import Service
from gpupilot_envs.errors import MetricsUnavailable
from gpupilot_envs.triton_server import batch_times

EVERY_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Counters at one time, over all replicas.

    Attributes:
        at_s: Unix time.
        executions: Batches since the servers started.
        requests: Requests in them.
        busy_s: Time they took.
        cpu_s: CPU time of the servers' processes, ``None`` where they are not ours.
        memory_bytes: Their resident memory, likewise.
    """

    at_s: float
    executions: int
    requests: int
    busy_s: float
    cpu_s: float | None
    memory_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What the servers did over a stretch of time; ``None`` where it is not known.

    Attributes:
        batch_mean: Requests per execution.
        executing: Mean number of batches in execution, over all replicas.
        cpu_cores: CPU time per time.
        memory_bytes: Most memory seen.
    """

    batch_mean: float | None
    executing: float | None
    cpu_cores: float | None
    memory_bytes: int | None


class Sampler:
    """A thread that takes a sample twice a second while the block runs."""

    def __init__(self, service: Service, model: str) -> None:
        """Remember whom to look at."""
        self._service, self._model = service, model
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.samples: list[Sample] = []

    def __enter__(self) -> Sampler:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(EVERY_S):
            # a server that is away for a moment costs a sample, not the run
            with suppress(MetricsUnavailable):
                self.samples.append(sample(self._service, self._model))


def sample(service: Service, model: str) -> Sample:
    """Read the servers' counters now.

    Raises:
        InputInvalid: A server does not know the model.
        MetricsUnavailable: A server does not answer.
    """
    at_s = time.time()
    executed = [
        (size, *counted)
        for url in service.triton
        for size, counted in batch_times(url, model).items()
    ]
    cpu_s, memory_bytes = _processes(service.pids)
    return Sample(
        at_s=at_s,
        executions=sum(count for _, count, _ in executed),
        requests=sum(size * count for size, count, _ in executed),
        busy_s=sum(busy_s for _, _, busy_s in executed),
        cpu_s=cpu_s,
        memory_bytes=memory_bytes,
    )


def use(samples: Sequence[Sample], first_s: float, last_s: float) -> Use:
    """Return what was used between two Unix times, from the samples nearest to them."""
    if len(samples) < 2:
        return Use(batch_mean=None, executing=None, cpu_cores=None, memory_bytes=None)
    begin = min(samples, key=lambda one: abs(one.at_s - first_s))
    end = min(samples, key=lambda one: abs(one.at_s - last_s))
    span_s, executions = end.at_s - begin.at_s, end.executions - begin.executions
    between = [one for one in samples if begin.at_s <= one.at_s <= end.at_s]
    seen = [one.memory_bytes for one in between if one.memory_bytes is not None]
    cpu_s = None if end.cpu_s is None or begin.cpu_s is None else end.cpu_s - begin.cpu_s
    return Use(
        batch_mean=(end.requests - begin.requests) / executions if executions > 0 else None,
        executing=(end.busy_s - begin.busy_s) / span_s if span_s > 0.0 else None,
        cpu_cores=None if cpu_s is None or span_s <= 0.0 else cpu_s / span_s,
        memory_bytes=max(seen, default=None),
    )


def _processes(pids: Sequence[int]) -> tuple[float | None, int | None]:
    """Return CPU seconds and memory of processes and their children; ``None`` of none."""
    if not pids:
        return None, None
    cpu_s, memory_bytes = 0.0, 0
    for pid in pids:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                cpu_s += times.user + times.system
                memory_bytes += process.memory_info().rss
    return cpu_s, memory_bytes
