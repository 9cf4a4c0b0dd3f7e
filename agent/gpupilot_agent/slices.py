"""Where a policy stands against its own classical controller, slice by slice of its services.

A mean over everything a policy was trained for can hide services on which it does harm. So policy
and controller run the same validation services, the controller at several prices, and what they
cost at equal attainment is compared by cold start, tightness of the target, profile, traffic and
faults. Interval level: for development and the card, never a published result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpupilot_agent.fleet_validation import Act, Paid, neutral, paid
from gpupilot_envs.curriculum import Curriculum
from gpupilot_envs.scenarios import Cases, Scenarios

Floats = NDArray[np.float64]
Labels = dict[str, NDArray[np.str_]]

COLD_STARTS_S = (15.0, 45.0, 90.0)
"""Edges between the slices by cold start, seconds."""

TIGHTNESS = (2.0, 3.0, 6.0)
"""Edges between the slices by latency target over a lone request's latency."""

SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Factors on the price at which the classical controller's frontier is measured."""

RESAMPLES = 400
LEAST_LATE = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """What policy and classical controller paid on some services.

    Attributes:
        name: What the services have in common.
        services: How many there are.
        cost_ratio: GPU time of the policy over what the mean demand needs.
        late_ratio: Share of its requests not answered in time.
        classical_cost_ratio: The same of the classical controller.
        classical_late_ratio: The same of the classical controller.
        difference: GPU time of the policy over that of the controller at as many late requests,
            less 1; below 0 the policy needs less; ``None`` where the controller was never so late.
        low: Lower end of its 95 % bootstrap interval over services.
        high: Upper end.
    """

    name: str
    services: int
    cost_ratio: float
    late_ratio: float
    classical_cost_ratio: float
    classical_late_ratio: float
    difference: float | None
    low: float | None
    high: float | None


def slices(
    scenarios: Scenarios, act: Act, *, prices: Floats, seed: int, services: int, steps: int
) -> tuple[Slice, ...]:
    """Return how ``act`` does on every slice, all services first.

    Args:
        scenarios: Services it was not trained on.
        act: The policy.
        prices: Price of a late request of each of the scenarios' objectives.
        seed: Draws the services.
        services: How many.
        steps: Decisions of each.
    """

    def run(who: Act, scale: float) -> Paid:
        scaled = prices * scale
        return paid(scenarios, who, seed=seed, services=services, steps=steps, price=scaled)

    ours, theirs = run(act, 1.0), [run(neutral, scale) for scale in SCALES]
    # a fleet draws its first services as its very first step
    labels = labelled(scenarios, scenarios.cases(np.random.default_rng(seed), services))
    groups = [("all", np.ones(services, dtype=np.bool_)), *_groups(labels)]
    return tuple(_slice(name, here, ours, theirs, seed) for name, here in groups)


def regrets(scenarios: Scenarios, curriculum: Curriculum) -> list[dict[str, Any]]:
    """Return by traffic and cold start what a training still regrets, the most first.

    One row per group: ``name``, ``kept`` services and their mean ``regret``, reward per decision.
    """
    if not len(curriculum.cases):
        return []
    labels = labelled(scenarios, curriculum.cases)
    rows = [
        {"name": name, "kept": int(here.sum()), "regret": float(curriculum.regrets[here].mean())}
        for name, here in _groups({kind: labels[kind] for kind in ("traffic", "cold start")})
    ]
    return sorted(rows, key=lambda row: -row["regret"])


def labelled(scenarios: Scenarios, cases: Cases) -> Labels:
    """Return what each service is, by kind of slice, each of shape ``(len(cases),)``."""
    plants = scenarios.tables.plants[cases["profile"]]
    faulty = (cases["crashes_per_hour"] > 0.0) | (cases["silences_per_hour"] > 0.0)
    names = scenarios.tables.names
    families = np.array([_family(name) for name in scenarios.rates.names])
    return {
        "cold start": _banded(cases["cold_start_s"], COLD_STARTS_S, " s"),
        "target": _banded(plants["target_s"] / plants["idle_latency_s"], TIGHTNESS, " x lone"),
        "profile": np.array(names)[cases["profile"]],
        "traffic": families[cases["trace"]],
        "faults": np.where(faulty, "some", "none"),
    }


def plain(found: Sequence[Slice]) -> list[dict[str, Any]]:
    """Return slices as a card holds them."""
    return [asdict(each) for each in found]


def _groups(labels: Labels) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    for kind, each in labels.items():
        for label in sorted(set(each.tolist()), key=_by_number):
            yield f"{kind} {label}", each == label


def _by_number(label: str) -> tuple[float, str]:
    """Sort bands by where they begin, names by the alphabet."""
    digits = label.removeprefix("below ").partition(" ")[0]
    first = float(digits) if digits.replace(".", "").isdigit() else np.inf
    return (-1.0 if label.startswith("below ") else first, label)


def _banded(values: Floats, edges: Sequence[float], unit: str) -> NDArray[np.str_]:
    names = [
        f"below {edges[0]:g}{unit}",
        *(f"{low:g} to {high:g}{unit}" for low, high in pairwise(edges)),
        f"{edges[-1]:g}{unit} or more",
    ]
    return np.array(names)[np.digitize(values, edges)]


def _family(trace: str) -> str:
    """Return the family in a trace's name: generated ones say it, recorded ones begin with it."""
    return trace.split("-")[1] if trace.startswith("generated-") else trace.partition("_")[0]


def _slice(
    name: str, here: NDArray[np.bool_], ours: Paid, theirs: Sequence[Paid], seed: int
) -> Slice:
    rows = np.flatnonzero(here)
    picked = np.random.default_rng(seed).choice(rows, size=(RESAMPLES, len(rows)))
    again = np.array([_difference(ours, theirs, each) for each in picked])
    difference, known = _difference(ours, theirs, rows), again[~np.isnan(again)]
    sure = not np.isnan(difference) and len(known) > RESAMPLES / 2
    low, high = np.quantile(known, (0.025, 0.975)).tolist() if sure else (None, None)
    same = theirs[SCALES.index(1.0)]
    return Slice(
        name=name,
        services=len(rows),
        cost_ratio=float(ours.cost[rows].mean()),
        late_ratio=_share(ours, rows),
        classical_cost_ratio=float(same.cost[rows].mean()),
        classical_late_ratio=_share(same, rows),
        difference=difference if sure else None,
        low=low,
        high=high,
    )


def _difference(ours: Paid, theirs: Sequence[Paid], rows: NDArray[np.int64]) -> float:
    """Return what the policy costs over the controller's frontier at its own late share, less 1."""
    logs = np.log([max(_share(each, rows), LEAST_LATE) for each in theirs])
    costs = np.array([each.cost[rows].mean() for each in theirs])
    order = np.argsort(logs)
    wanted = np.log(max(_share(ours, rows), LEAST_LATE))
    frontier = np.minimum.accumulate(costs[order])
    there = np.interp(wanted, logs[order], frontier, left=np.nan, right=np.nan)
    return float(ours.cost[rows].mean() / there - 1.0)


def _share(found: Paid, rows: NDArray[np.int64]) -> float:
    return float(found.late[rows].sum() / max(found.requests[rows].sum(), 1e-9))
