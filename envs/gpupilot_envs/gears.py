"""Gears: the few settings of one replica worth choosing between, each with what it carries.

A gear fixes everything of an :class:`Allocation` but the replicas: GPU share, CPU limit, Triton
instances and batching. A service has a small *menu* of them, ascending in what one replica
carries. It is found by measurement: for every share or limit the profile knows, the instances and
batching that carry most within the objective; of those, the ones that carry more per share than
every smaller one. A larger gear that carries less per share is never the cheaper way to carry
anything, so it is left out. The setting that the profile states is always on the menu.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.limits import Targets
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.serving.capacity import Capacity, capacity, rough_slo_rps
from gpupilot_envs.serving.measure import allocation_of
from gpupilot_envs.serving.speed import share_held_milli

GEARS_MAX = 5
"""Most gears on a menu, and so rows of :meth:`Menu.rows`."""

Actuator = Literal["limits", "batching"]

ACTUATORS: tuple[Actuator, ...] = ("limits", "batching")
"""``limits``: GPU share and CPU limit; ``batching``: instances, largest batch and queue delay."""

GEAR_FIELDS: tuple[str, ...] = (
    "slo_rps",
    "saturation_rps",
    "idle_latency_s",
    "gpu_share_milli",
    "cpu_milli",
    "instances_per_replica",
    "batch_max",
    "queue_delay_us",
    "cost_milli",
)
"""Columns of :meth:`Menu.rows`."""

_SETTINGS = GEAR_FIELDS[3:8]

_INSTANCES = (1, 2, 4)
_BATCH_RATIOS = (0.5, 1.0, 2.0)

_WORTH_RATIO = 1.01
"""Capacity over that of the stated batching from which on another batching is worth a gear."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gear:
    """One setting of a replica.

    Attributes:
        allocation: The setting; its replicas are 1 and mean nothing.
        capacity: What one replica carries in it.
        cost_milli: What one replica is billed: thousandths of a GPU, or of a core where the
            profile's device is a CPU.
    """

    allocation: Allocation
    capacity: Capacity
    cost_milli: int

    def allocated(self, replicas: int) -> Allocation:
        """Return the allocation of ``replicas`` replicas in this gear."""
        return replace(self.allocation, replicas=replicas)

    def row(self) -> NDArray[np.float64]:
        """Return the gear as one row of :data:`GEAR_FIELDS`."""
        able, settings = self.capacity, self.allocation
        values = [getattr(able, name) for name in GEAR_FIELDS[:3]]
        values += [getattr(settings, name) for name in _SETTINGS]
        return np.array([*values, self.cost_milli], dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Menu:
    """The gears of one service, ascending in ``slo_rps`` of a replica.

    Attributes:
        gears: At least one, at most :data:`GEARS_MAX`.
        base: Index of the setting that the profile states.
    """

    gears: tuple[Gear, ...]
    base: int

    def __post_init__(self) -> None:
        """Refuse a menu without order or base."""
        carried = [gear.capacity.slo_rps for gear in self.gears]
        if not 1 <= len(carried) <= GEARS_MAX or carried != sorted(carried):
            raise InputInvalid("gears", carried, f"1 to {GEARS_MAX}, ascending in slo_rps")
        if not 0 <= self.base < len(carried):
            raise InputInvalid("base", self.base, f"an index below {len(carried)}")

    def __len__(self) -> int:
        """Return the number of gears."""
        return len(self.gears)

    def index_of(self, allocation: Allocation) -> int | None:
        """Return the gear that an allocation is in; ``None`` when it is in none."""
        for index, gear in enumerate(self.gears):
            if all(getattr(gear.allocation, n) == getattr(allocation, n) for n in _SETTINGS):
                return index
        return None

    def rows(self) -> NDArray[np.float64]:
        """Return the menu as the kernels read it, shape ``(GEARS_MAX, len(GEAR_FIELDS))``.

        Rows beyond the menu are NaN.
        """
        rows = np.full((GEARS_MAX, len(GEAR_FIELDS)), np.nan)
        rows[: len(self.gears)] = [gear.row() for gear in self.gears]
        return rows


def stated(profile: ServiceProfile, targets: Targets) -> Menu:
    """Return the menu of a service with nothing to choose: what its profile states.

    Raises:
        SloInfeasible: Even lone requests miss the target too often.
    """
    return Menu(gears=(_gear(profile, targets, allocation_of(profile)),), base=0)


@lru_cache(maxsize=64)
def menu(
    profile: ServiceProfile,
    targets: Targets,
    actuators: tuple[Actuator, ...] = ACTUATORS,
    most: int = GEARS_MAX,
) -> Menu:
    """Measure a service and return the gears worth having; takes a few seconds, once.

    Args:
        profile: What the service costs to run.
        targets: The objective.
        actuators: What may differ from the profile's statement.
        most: Most gears, 2 to :data:`GEARS_MAX`.

    Raises:
        SloInfeasible: The profile's own setting misses the target even when idle.
    """
    base = _gear(profile, targets, allocation_of(profile))
    tuned = "batching" in actuators
    limits = _limits(profile, base.allocation) if "limits" in actuators else ()
    found = [_best(profile, targets, limit, tuned) for limit in limits]
    gears = _ascending_in_worth([_gear(profile, targets, each) for each in found if each])
    gears = [gear for gear in gears if gear.cost_milli != base.cost_milli]
    better = _gear(
        profile, targets, _best(profile, targets, base.allocation, tuned) or base.allocation
    )
    if better.capacity.slo_rps > _WORTH_RATIO * base.capacity.slo_rps:
        gears = [*_spread(gears, most - 2), better]
    chosen = sorted([*_spread(gears, most - 1), base], key=lambda gear: gear.capacity.slo_rps)
    return Menu(gears=tuple(chosen), base=chosen.index(base))


def _gear(profile: ServiceProfile, targets: Targets, allocation: Allocation) -> Gear:
    on_cpu = profile.device == "cpu"
    return Gear(
        allocation=allocation,
        capacity=capacity(profile, targets, allocation),
        cost_milli=allocation.cpu_milli if on_cpu else share_held_milli(profile, allocation),
    )


def _limits(profile: ServiceProfile, base: Allocation) -> tuple[Allocation, ...]:
    """Return the profile's setting under every limit that was measured, ascending."""
    if profile.device == "cpu":
        limits = [round(milli) for milli, _ in profile.cpu.speed_by_milli]
        return tuple(replace(base, cpu_milli=milli) for milli in limits)
    if profile.gpu.sharing.mode == "exclusive":
        return (base,)
    shares = [round(milli) for milli, _ in profile.gpu.sharing.speed_by_share]
    return tuple(replace(base, gpu_share_milli=milli) for milli in shares)


def _best(
    profile: ServiceProfile, targets: Targets, limit: Allocation, tuned: bool
) -> Allocation | None:
    """Return the instances and batching that carry most under a limit; ``None`` if none does."""
    settings = _batchings(profile, limit) if tuned else [limit]
    carried = {each: rough_slo_rps(profile, targets, each) for each in settings}
    best = max(carried, key=lambda each: carried[each])
    if carried[best] <= _WORTH_RATIO * carried[limit]:
        best = limit
    return best if carried[best] > 0.0 else None


def _batchings(profile: ServiceProfile, limit: Allocation) -> list[Allocation]:
    """Return what may be changed in a running server, the stated setting first."""
    if profile.batching.enabled:
        batches = {max(round(limit.batch_max * ratio), 1) for ratio in _BATCH_RATIOS}
        delays = {limit.queue_delay_us, 0}
    else:
        batches, delays = {limit.batch_max}, {limit.queue_delay_us}
    others = [
        replace(limit, instances_per_replica=instances, batch_max=batch, queue_delay_us=delay)
        for instances, batch, delay in product(_INSTANCES, sorted(batches), sorted(delays))
    ]
    return [limit, *(each for each in others if each != limit)]


def _ascending_in_worth(gears: Iterable[Gear]) -> list[Gear]:
    """Return the gears that carry more per share than every one that carries less in all."""
    kept: list[Gear] = []
    for gear in sorted(gears, key=lambda each: (each.cost_milli, -each.capacity.slo_rps)):
        if not kept or _worth(gear) > _worth(kept[-1]):
            kept.append(gear)
    return kept


def _worth(gear: Gear) -> float:
    return gear.capacity.slo_rps / gear.cost_milli


def _spread(gears: list[Gear], most: int) -> list[Gear]:
    """Return at most ``most`` gears, the outer ones first, evenly between."""
    if len(gears) <= most:
        return gears
    places = np.unique(np.round(np.linspace(0, len(gears) - 1, most)).astype(int))
    return [gears[place] for place in places]
