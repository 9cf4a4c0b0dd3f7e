"""What a running operator and those beside it show, and what happened between two looks."""

from __future__ import annotations

import os
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpupilot_agent.stack.processes import Process
from gpupilot_testbed.operators import Operator, Scraped, scraped

WRITES = ("create", "update", "patch", "delete")
LEASES = "leases"
"""Renewed every two seconds, whatever happens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The processes that share the machine.

    Attributes:
        operator: What is measured.
        prometheus: URL of the Prometheus it asks.
        beside: Others whose CPU is told.
    """

    operator: Operator
    prometheus: str
    beside: Sequence[Process]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Counters at one time.

    Attributes:
        at_s: Unix time.
        ticks: Ticks so far.
        inference_s: Seconds in learned policies so far.
        queries: Questions to Prometheus so far.
        answering_s: Seconds Prometheus took for them, on its own account.
        cpu_s: CPU seconds of the operator.
        memory_mib: What it holds now.
        writes: Requests that wrote something, by verb and resource; not leases.
        beside_cpu_s: CPU seconds of the others, by name.
    """

    at_s: float
    ticks: float
    inference_s: float
    queries: float
    answering_s: float
    cpu_s: float
    memory_mib: float
    writes: Mapping[str, float]
    beside_cpu_s: Mapping[str, float]

    @property
    def written(self) -> float:
        """All writes so far."""
        return sum(self.writes.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """One tick, as the operator tells it, in seconds."""

    at_s: float
    read_s: float
    decide_s: float
    act_s: float

    @property
    def whole_s(self) -> float:
        """All of it."""
        return self.read_s + self.decide_s + self.act_s


def look(world: World) -> Look:
    """Return the counters as they are."""
    now = world.operator.scraped()
    asked = {"handler": "/api/v1/query"}
    return Look(
        at_s=time.time(),
        ticks=now.value("gpupilot_tick_seconds_count"),
        inference_s=now.value("gpupilot_inference_seconds_sum"),
        queries=now.value("gpupilot_queries_total"),
        answering_s=_page(world.prometheus).value(
            "prometheus_http_request_duration_seconds_sum", **asked
        ),
        cpu_s=_cpu_s(world.operator.process.pid),
        memory_mib=now.value("process_resident_memory_bytes") / 2**20,
        writes=_writes(now),
        beside_cpu_s={each.name: _cpu_s(each.pid) for each in world.beside},
    )


def ticks(operator: Operator, count: int, every_s: float) -> list[Tick]:
    """Return what the next ticks take, each scraped once, in the middle between two."""
    found: dict[float, Tick] = {}
    while len(found) <= count:
        tick = _last_tick(operator.scraped())
        found[tick.at_s] = tick
        time.sleep(max(tick.at_s + 1.5 * every_s - time.time(), 0.1))
    return list(found.values())[1:]


def _last_tick(now: Scraped) -> Tick:
    phases = {
        f"{phase}_s": now.value("gpupilot_last_tick_seconds", phase=phase)
        for phase in ("read", "decide", "act")
    }
    return Tick(at_s=now.value("gpupilot_last_tick_timestamp_seconds"), **phases)


def _writes(now: Scraped) -> dict[str, float]:
    counts: dict[str, float] = {}
    for sample in now.samples:
        if sample.name != "gpupilot_api_calls_total" or sample.labels["verb"] not in WRITES:
            continue
        if sample.labels["resource"] != LEASES:
            name = f"{sample.labels['verb']} {sample.labels['resource']}"
            counts[name] = counts.get(name, 0.0) + sample.value
    return counts


def _page(url: str) -> Scraped:
    with urllib.request.urlopen(f"{url}/metrics", timeout=10.0) as answer:
        return scraped(answer.read().decode("utf-8"))


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
