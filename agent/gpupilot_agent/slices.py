"""Where a policy stands against its own classical controller, slice by slice of its services.

A mean over everything a policy was trained for can hide services on which it does harm. So policy
and controller run the same validation services at the same prices, and what they pay, GPU time
plus priced lateness, is compared by cold start, tightness of the target, profile, traffic and
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

RESAMPLES = 1000


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
        difference: GPU time plus priced lateness of the policy over that of the controller, less 1;
            below 0 the policy pays less.
        low: Lower end of its 95 % bootstrap interval over services.
        high: Upper end.
    """

    name: str
    services: int
    cost_ratio: float
    late_ratio: float
    classical_cost_ratio: float
    classical_late_ratio: float
    difference: float
    low: float
    high: float


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
    ours, theirs = (
        paid(scenarios, each, seed=seed, services=services, steps=steps, price=prices)
        for each in (act, neutral)
    )
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


def _slice(name: str, here: NDArray[np.bool_], ours: Paid, theirs: Paid, seed: int) -> Slice:
    ratio = _ratio(ours.priced[here], theirs.priced[here])
    picked = np.random.default_rng(seed).integers(here.sum(), size=(RESAMPLES, int(here.sum())))
    again = [_ratio(ours.priced[here][rows], theirs.priced[here][rows]) for rows in picked]
    low, high = np.quantile(again, (0.025, 0.975))
    return Slice(
        name=name,
        services=int(here.sum()),
        cost_ratio=float(ours.cost[here].mean()),
        late_ratio=_share(ours, here),
        classical_cost_ratio=float(theirs.cost[here].mean()),
        classical_late_ratio=_share(theirs, here),
        difference=ratio,
        low=float(low),
        high=float(high),
    )


def _ratio(ours: Floats, theirs: Floats) -> float:
    return float(ours.sum() / theirs.sum() - 1.0)


def _share(found: Paid, here: NDArray[np.bool_]) -> float:
    return float(found.late[here].sum() / max(found.requests[here].sum(), 1e-9))
