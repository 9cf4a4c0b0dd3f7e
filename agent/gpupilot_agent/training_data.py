"""What a policy is trained and validated on: fitted services and traffic that never overlap."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np

from gpupilot_agent.comparison.traffic import prepared
from gpupilot_agent.training_config import FREE_ON_RESUME, TrainConfig
from gpupilot_envs.embedded import find_profile
from gpupilot_envs.fleet.cache import fleet_table
from gpupilot_envs.fleet.menus import FleetMenus
from gpupilot_envs.fleet.rates import RateLibrary
from gpupilot_envs.fleet.table import FleetTable, FleetTables
from gpupilot_envs.gears import Gear, Menu, menu, stated
from gpupilot_envs.limits import Targets
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.scenarios import Scenarios, busiest_minutes
from gpupilot_envs.serving.capacity import capacity
from gpupilot_envs.serving.measure import allocation_of
from gpupilot_envs.workload.randomisation import TRAINING_FAMILIES, random_traffic
from gpupilot_envs.workload.splits import Split, split_by_day
from gpupilot_envs.workload.trace import RateTrace, read_trace

GENERATED_S = 21_600.0
"""Length of a generated trace; a day of its traffic is squeezed into it."""

GENERATED_BIN_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Everything training draws from.

    Attributes:
        train: Services for training.
        validation: Services on traffic that training never sees.
        trace_hashes: SHA-256 of every trace by role and name.
    """

    train: Scenarios
    validation: Scenarios
    trace_hashes: dict[str, str]


def prepare(config: TrainConfig, traffic: Split | None = None) -> Material:
    """Fit the services and lay out the traffic.

    Args:
        config: The run.
        traffic: Traffic to use instead of the files ``config`` names; its test part is not read.

    Raises:
        InputInvalid: A profile, trace or target is wrong, or there is no traffic left.
    """
    kinds = _kinds(config)
    tables = FleetTables.of([_table(kind, gear) for kind in kinds for gear in kind.menu.gears])
    typical_rps = float(np.median(tables.plants["slo_rps"]))
    recorded = _recorded(config, typical_rps) if traffic is None else traffic
    split = _with_generated(config, recorded)

    def scenarios(traces: tuple[RateTrace, ...]) -> Scenarios:
        return Scenarios(
            tables,
            RateLibrary.of([trace for trace in traces if trace.mean_rps > 0.0]),
            batch_max=[kind.profile.batching.max_batch for kind in kinds for _ in kind.menu.gears],
            controller=config.controller,
            limits=config.limits,
            episode_s=config.episode_s,
            ranges=config.ranges,
            menus=FleetMenus.of([kind.menu for kind in kinds]),
        )

    return Material(
        train=scenarios(split.train),
        validation=scenarios(split.validation),
        trace_hashes={
            f"{role}/{trace.name}": trace.sha256
            for role in ("train", "validation")
            for trace in split.role(role)
        },
    )


def made_by(config: TrainConfig, material: Material) -> dict[str, Any]:
    """Return what a training must share with another to be able to go on from it.

    How long it goes on, and where and how it is written, may differ.
    """
    plain = config.plain()
    for name in FREE_ON_RESUME:
        del plain[name]
    tables = material.train.tables
    services = hashlib.sha256(tables.plants.tobytes() + tables.steady.tobytes())
    return {
        "config": plain,
        "services": services.hexdigest(),
        "traffic": material.trace_hashes,
    }


GENEROUS_S = 60.0
"""A latency target that any lone request meets, to measure one with."""


def latencies_s(config: TrainConfig, profile: ServiceProfile) -> tuple[float, ...]:
    """Return the latency targets a profile is trained with, in seconds, to a tenth of a ms.

    Raises:
        SloInfeasible: No request meets a target.
    """
    if not config.latency_ratios:
        return tuple(ms / 1000.0 for ms in config.latencies_ms or (config.target_ms,))
    anything = Targets(latency_s=GENEROUS_S, attainment_ratio=FITTED_AT)
    lone_s = capacity(profile, anything).idle_latency_s
    return tuple(round(ratio * lone_s, 4) for ratio in config.latency_ratios)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """A service at one objective, and the gears it may run in."""

    profile: ServiceProfile
    targets: Targets
    menu: Menu


def _kinds(config: TrainConfig) -> list[_Kind]:
    """Return every profile at every target and objective; those named so with all their gears."""
    kinds = []
    for name in config.profiles:
        profile, offer = find_profile(name), menu if name in config.geared else stated
        for latency_s in latencies_s(config, profile):
            for ratio in config.objectives or (config.attainment_ratio,):
                targets = Targets(latency_s=latency_s, attainment_ratio=ratio)
                kinds.append(_Kind(profile=profile, targets=targets, menu=offer(profile, targets)))
    return kinds


FITTED_AT = 0.99
"""Objective at which tables are fitted; how latencies fall does not depend on it."""


def _table(kind: _Kind, gear: Gear) -> FleetTable:
    """Return a gear's table at one objective; one fit of its latency target serves them all."""
    targets = replace(kind.targets, attainment_ratio=FITTED_AT)
    own = gear.allocation == allocation_of(kind.profile)
    fitted = fleet_table(kind.profile, targets, None if own else gear.allocation)
    plant = fitted.plant.copy()
    plant["slo_rps"] = gear.capacity.slo_rps
    plant["attainment_ratio"] = kind.targets.attainment_ratio
    return replace(fitted, plant=plant)


def _recorded(config: TrainConfig, typical_rps: float) -> Split:
    """Return the days of the recorded traces, in bins that can be scaled to a typical service.

    The rate of a small service is counted a few requests at a time; scaled up as it is, it would
    teach noise that no larger service has.
    """
    if not config.traces:
        return Split(train=(), validation=(), test=())
    split = split_by_day([read_trace(path) for path in config.traces])
    replicas = math.sqrt(math.prod(config.ranges.demand_replicas))

    def honest(days: tuple[RateTrace, ...]) -> tuple[RateTrace, ...]:
        busy = (day for day in days if day.mean_rps > 0.0)
        return tuple(prepared(day, replicas=replicas, capacity_rps=typical_rps) for day in busy)

    return replace(split, train=honest(split.train), validation=honest(split.validation))


def _with_generated(config: TrainConfig, split: Split) -> Split:
    """Add generated traffic: a handful of traces would be learned by heart."""
    held_back = math.ceil(config.generated / 4)
    return Split(
        train=(
            *split.train,
            *(_generated(config.seed, "train", k) for k in range(config.generated)),
        ),
        validation=(
            *split.validation,
            *(_generated(config.seed, "validation", k) for k in range(held_back)),
        ),
        test=(),
    )


STEEPEST = 6.0
"""Busiest minute over the mean beyond which generated traffic is drawn again.

Where it is more, one is late whatever one does, or pays for the peak all day: little is learned.
"""


def _generated(seed: int, role: str, index: int) -> RateTrace:
    first = {"train": 0, "validation": 500_000}[role]
    for attempt in count():
        trace = random_traffic(
            1_000_000 * seed + first + index + 10_000 * attempt,
            duration_s=GENERATED_S,
            bin_s=GENERATED_BIN_S,
            families=TRAINING_FAMILIES,
            day_s=GENERATED_S,
        )
        if trace.mean_rps > 0.0 and busiest_minutes(RateLibrary.of([trace]))[0] <= STEEPEST:
            break
    return trace.renamed(f"generated-{trace.family}-{role}-{index}")
