"""Train, validation and test traffic that never overlap, recorded by hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

import numpy as np

from gpupilot_envs.errors import TraceInvalid
from gpupilot_envs.workload.generators import generate
from gpupilot_envs.workload.noise import generator
from gpupilot_envs.workload.randomisation import (
    HELD_OUT_FAMILIES,
    HELD_OUT_SHAPES,
    TRAINING_FAMILIES,
    TRAINING_SHAPES,
    random_params,
)
from gpupilot_envs.workload.trace import DAY_S, RateTrace

Role = Literal["train", "validation", "test"]
Shares = tuple[float, float, float]

ROLES: tuple[Role, ...] = ("train", "validation", "test")
"""The three roles, in the order of every tuple of shares."""

SHARES: Shares = (0.6, 0.2, 0.2)
"""Default shares of train, validation and test."""


class Entry(TypedDict):
    """What a result records about one trace."""

    family: str
    sha256: str
    days: list[int]
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Traces by role.

    Attributes:
        train: Traffic to train and tune on.
        validation: Traffic to select checkpoints and settings on.
        test: Traffic that only the published comparison sees.

    Raises:
        TraceInvalid: On construction, when a name or a content (but silence) comes twice.
    """

    train: tuple[RateTrace, ...]
    validation: tuple[RateTrace, ...]
    test: tuple[RateTrace, ...]

    def __post_init__(self) -> None:
        """Refuse overlap."""
        seen: dict[str, str] = {}
        for role in ROLES:
            for trace in self.role(role):
                here = f"{role}: {trace.name}"
                # silence is the same everywhere and teaches nothing
                content = (trace.sha256,) if trace.mean_rps > 0.0 else ()
                for mark in (trace.name, *content):
                    if mark in seen:
                        raise TraceInvalid(here, "given twice", f"other data than {seen[mark]}")
                    seen[mark] = here

    def role(self, role: Role) -> tuple[RateTrace, ...]:
        """Return the traces of one role."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[role]

    def manifest(self) -> dict[str, Entry]:
        """Return what to record in a result: trace name to family, sha256, days and role.

        ``days`` are the days of the source trace, counted from 0, that the trace holds.
        """
        return {
            trace.name: Entry(
                family=trace.family, sha256=trace.sha256, days=_days(trace), role=role
            )
            for role in ROLES
            for trace in self.role(role)
        }


def split_by_trace(
    traces: Sequence[RateTrace],
    *,
    held_out_families: Iterable[str] = (),
    shares: Shares = SHARES,
    salt: str = "",
) -> Split:
    """Give every whole trace one role, in the order of a hash of its content.

    Args:
        traces: Traces with different names and contents.
        held_out_families: Families whose traces all go to test.
        shares: Shares of train, validation and test among the other traces.
        salt: Another salt gives another order.

    Raises:
        TraceInvalid: Shares do not add up to 1, or a trace is given twice.
    """
    held = set(held_out_families)
    others = [trace for trace in traces if trace.family not in held]
    parts = _cut(sorted(others, key=lambda trace: _hash(salt, trace.sha256)), shares)
    test = (*parts[2], *(trace for trace in traces if trace.family in held))
    return Split(train=parts[0], validation=parts[1], test=test)


def split_by_day(
    traces: Sequence[RateTrace],
    *,
    held_out_families: Iterable[str] = (),
    shares: Shares = SHARES,
    salt: str = "",
    day_s: float = DAY_S,
) -> Split:
    """Give every whole day of every trace one role, in the order of a hash.

    Each trace is cut by itself, so that each role sees each trace. Days without traffic or
    without data are left out, and so is a last day that is not whole.

    Args:
        traces: Traces of at least a day.
        held_out_families: Families whose days all go to test.
        shares: Shares of train, validation and test among a trace's days.
        salt: Another salt gives another order.
        day_s: Length of a day in seconds.

    Raises:
        TraceInvalid: Shares do not add up to 1, a trace is shorter than a day or given twice.
    """
    held = set(held_out_families)
    roles: list[list[RateTrace]] = [[], [], []]
    for trace in traces:
        days = sorted(whole_days(trace, day_s), key=lambda day: _hash(salt, day.sha256))
        parts = ((), (), tuple(days)) if trace.family in held else _cut(days, shares)
        for role, part in zip(roles, parts, strict=True):
            role.extend(sorted(part, key=lambda day: day.name))
    return Split(train=tuple(roles[0]), validation=tuple(roles[1]), test=tuple(roles[2]))


def split_by_time(traces: Sequence[RateTrace], *, shares: Shares = SHARES) -> Split:
    """Give the earliest part of every trace to training, the next to validation, the rest to test.

    For recordings that are too short to be split by day. Test is what came last, as it is for a
    policy that was trained yesterday. Parts are named ``NAME-ROLE``.

    Args:
        traces: Traces with different names and contents.
        shares: Shares of each trace's time, all above 0.

    Raises:
        TraceInvalid: A share is not above 0, they do not add up to 1, a part is too short to hold
            a bin, or a trace is given twice.
    """
    if min(shares) <= 0.0 or abs(sum(shares) - 1.0) > 1e-9:
        raise TraceInvalid("shares", shares, "three numbers above 0 that add up to 1")
    edges = np.array([0.0, shares[0], shares[0] + shares[1], 1.0])
    parts: dict[Role, tuple[RateTrace, ...]] = {
        role: tuple(
            trace.sliced(
                trace.duration_s * float(edges[at]), trace.duration_s * float(edges[at + 1])
            ).renamed(f"{trace.name}-{role}")
            for trace in traces
        )
        for at, role in enumerate(ROLES)
    }
    return Split(train=parts["train"], validation=parts["validation"], test=parts["test"])


def whole_days(trace: RateTrace, day_s: float = DAY_S) -> list[RateTrace]:
    """Return each whole day that has traffic as a trace named ``NAME@dayNNN``.

    Raises:
        TraceInvalid: The trace is shorter than a day.
    """
    count = int(trace.duration_s / day_s * (1 + 1e-9))
    if not count:
        raise TraceInvalid(f"{trace.name}: duration_s", trace.duration_s, f"{day_s:g} or more")
    days = (
        trace.sliced(day * day_s, (day + 1) * day_s).renamed(f"{trace.name}@day{day:03d}")
        for day in range(count)
    )
    return [day for day in days if day.mean_rps > 0.0]


def demo_traffic(
    seed: int = 0,
    *,
    duration_s: float = 3600.0,
    bin_s: float = 5.0,
    day_s: float | None = None,
    per_family: tuple[int, int, int] = (3, 1, 2),
) -> Split:
    """Return the traffic of ``make demo``: generated, no files needed, mean 1 request/s each.

    Train and validation hold diurnal, regime-switching and ramping traffic with parameters drawn
    from ranges around the fits to real traces; test holds new draws of these and, held out
    entirely, flash crowds: no policy was trained or tuned on one. The daily shapes of test come
    from other real services than those of train and validation. On/off traffic is left out, it
    belongs to a service that may scale to zero.

    Args:
        seed: Decides every parameter and trace.
        duration_s: Length of each trace, minutes to days.
        bin_s: Length of a bin in seconds.
        day_s: Length of a day in seconds. By default a day is squeezed into ``duration_s`` when
            that is shorter.
        per_family: Traces of each family in train, validation and test.
    """
    squeezed_s = min(duration_s, DAY_S) if day_s is None else day_s
    seen = tuple(family for family in TRAINING_FAMILIES if family != "onoff")
    by_role = {"train": seen, "validation": seen, "test": (*seen, *HELD_OUT_FAMILIES)}
    shapes = {"train": TRAINING_SHAPES, "validation": TRAINING_SHAPES, "test": HELD_OUT_SHAPES}
    random = generator(seed)
    drawn: dict[str, list[RateTrace]] = {role: [] for role in ROLES}
    for role, count in zip(ROLES, per_family, strict=True):
        for family in by_role[role]:
            for index in range(count):
                params = random_params(family, random, shapes=shapes[role], day_s=squeezed_s)
                trace_seed = int(random.integers(2**62))
                trace = generate(params, duration_s=duration_s, bin_s=bin_s, seed=trace_seed)
                drawn[role].append(trace.renamed(f"{family}-{role}-{index}"))
    return Split(
        train=tuple(drawn["train"]),
        validation=tuple(drawn["validation"]),
        test=tuple(drawn["test"]),
    )


def _hash(salt: str, content: str) -> str:
    return hashlib.sha256(f"{salt}/{content}".encode()).hexdigest()


def _cut(
    ordered: Sequence[RateTrace], shares: Shares
) -> tuple[tuple[RateTrace, ...], tuple[RateTrace, ...], tuple[RateTrace, ...]]:
    """Cut in three; a positive share gets at least one trace when there are enough."""
    if any(share < 0 for share in shares) or abs(sum(shares) - 1.0) > 1e-9:
        raise TraceInvalid("shares", shares, "three numbers of 0 or more that add up to 1")
    count = len(ordered)
    test = _quota(shares[2], count)
    validation = min(_quota(shares[1], count), count - test)
    train = count - validation - test
    if not train and shares[0] > 0 and validation:
        train, validation = train + 1, validation - 1
    return (
        tuple(ordered[:train]),
        tuple(ordered[train : train + validation]),
        tuple(ordered[train + validation :]),
    )


def _quota(share: float, count: int) -> int:
    return max(round(share * count), 1 if share > 0 and count > 1 else 0)


def _days(trace: RateTrace) -> list[int]:
    _, cut, day = trace.name.rpartition("@day")
    if cut and day.isdigit():
        return [int(day)]
    return list(range(int(np.ceil(trace.duration_s / DAY_S))))
