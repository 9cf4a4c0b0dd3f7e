"""The traffic of the demo: recorded from a real server or generated, cut into disjoint roles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpupilot_agent.gate_data import bridged
from gpupilot_envs.embedded import recorded_runs
from gpupilot_envs.errors import TraceInvalid
from gpupilot_envs.runs import RECORDING, read_run
from gpupilot_envs.workload.recording import read_recording
from gpupilot_envs.workload.splits import Shares, Split, demo_traffic, split_by_time
from gpupilot_envs.workload.trace import RateTrace

SHARES: Shares = (0.5, 0.15, 0.35)
"""Of each recording, in the order of time: to train and tune on, to choose on, to compare on."""

SHORTEST_S = 1200.0
"""Shortest recording whose last part still holds a warm-up and some minutes to score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoTraffic:
    """Traffic by role.

    Attributes:
        split: What training, validation and the comparison meet.
        search: Part of the training traffic that settings are searched on.
        told: What it is, for a person.
    """

    split: Split
    search: tuple[RateTrace, ...]
    told: str


def recorded(files: Sequence[Path] = ()) -> DemoTraffic:
    """Return recorded traffic: the earlier part of each recording to learn on, the last to test.

    Args:
        files: Recordings; without any, the runs that ship with the package as traffic.

    Raises:
        InputInvalid: A recording cannot be read.
        TraceInvalid: There is none, one is too short, or one is given twice.
    """
    traces = tuple(_of_file(path) for path in files) if files else _embedded()
    if not traces:
        raise TraceInvalid("recordings", "none", "at least one recording with a request rate")
    for trace in traces:
        if trace.duration_s < SHORTEST_S:
            raise TraceInvalid(
                f"{trace.name}: recording",
                f"{trace.duration_s / 60.0:.0f} min",
                f"{SHORTEST_S / 60.0:.0f} min or more",
            )
    split = split_by_time(traces, shares=SHARES)
    minutes = sum(trace.duration_s for trace in traces) / 60.0
    told = f"{len(traces)} recordings of a real server, {minutes:.0f} min in all"
    if files:
        told = f"{len(traces)} recordings, {minutes:.0f} min in all"
    return DemoTraffic(split=split, search=split.train, told=told)


def generated(
    seed: int, *, trace_s: float, day_s: float, per_family: tuple[int, int, int], searched: int
) -> DemoTraffic:
    """Return generated traffic; nobody is trained or tuned on a flash crowd.

    Args:
        seed: Of the traffic.
        trace_s: Length of each trace in seconds.
        day_s: Length of a day of the traffic in seconds.
        per_family: Traces of each family for training, validation and test.
        searched: Training traces of each family that settings are searched on.
    """
    split = demo_traffic(seed, duration_s=trace_s, day_s=day_s, per_family=per_family)
    search = [t for i, t in enumerate(split.train) if i % per_family[0] < searched]
    return DemoTraffic(split=split, search=tuple(search), told="generated traffic")


def _embedded() -> tuple[RateTrace, ...]:
    return tuple(
        _of_file(folder / RECORDING).renamed(f"{flavour}-{folder.name}", family=flavour)
        for folder in recorded_runs("traffic")
        for flavour in [read_run(folder).flavour]
    )


def _of_file(path: Path) -> RateTrace:
    """Return the arrival rate of a recording, named by its folder."""
    return bridged(read_recording(path).trace()).renamed(path.absolute().parent.name)
