"""Predicted against measured, number by number, each with its limit and a verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from gpupilot_envs.fidelity.outcome import Measured, Outcome, measured
from gpupilot_envs.fidelity.replay import predicted, saturation_rps
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.runs import Requests, RunCard

STEADY = 0.95
"""Largest share of saturation at which latencies are judged: above, they are never steady."""

OVERLOADED = 1.0
"""Least share of saturation from which the growth of latency is judged."""

SEEDS = 8

CALIBRATED = {"emulated": "mobilenetv4-edge-emulated", "cpu": "mobilenetv4-cpu-triton"}
"""Embedded profile that calibration made of the shipped recordings, by flavour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How far a prediction may be off.

    Attributes:
        most: Largest error that passes, relative, or a difference where ``absolute``.
        absolute: Whether the error is a difference.
        applies: Whether it is judged at a load, a share of saturation.
        shown: Whether it is shown where it is not judged.
    """

    most: float
    absolute: bool = False
    applies: Callable[[float], bool]
    shown: bool = True

    def error(self, said: float, was: float) -> float:
        """Return how far a prediction is off, positive where it says too much."""
        return said - was if self.absolute or not was else said / was - 1.0


def _always(_: float) -> bool:
    return True


def _steady(load: float) -> bool:
    return load <= STEADY


def _overloaded(load: float) -> bool:
    return load > OVERLOADED


LIMITS = {
    "throughput_rps": Limit(most=0.02, applies=_always),
    "latency_mean_s": Limit(most=0.05, applies=_steady),
    "latency_p50_s": Limit(most=0.05, applies=_steady),
    "latency_p95_s": Limit(most=0.10, applies=_steady),
    "latency_p99_s": Limit(most=0.15, applies=_steady),
    "attainment_ratio": Limit(most=0.01, absolute=True, applies=_steady),
    "batch_mean": Limit(most=0.05, applies=_always),
    "growth_ratio": Limit(most=0.10, applies=_overloaded, shown=False),
}
"""By number of an outcome; the fidelity that this project asks of its event level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One number of one run.

    Attributes:
        name: Of the number, a field of :class:`Outcome`.
        measured: What it was.
        low: Lower end of the measurement's own 95 % interval, ``None`` where not estimated.
        high: Upper end.
        predicted: What the event level says, mean over seeds.
        spread: Standard deviation over seeds.
        error: Relative, or a difference for the attainment; positive: too much was said.
        limit: Largest error that passes, ``None`` where the number is shown and not judged.
    """

    name: str
    measured: float
    low: float | None
    high: float | None
    predicted: float
    spread: float
    error: float
    limit: float | None

    @property
    def passed(self) -> bool:
        """Whether the error is within the limit; true where none is set."""
        return self.limit is None or abs(self.error) <= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFidelity:
    """How well one run was predicted.

    Attributes:
        card: What ran.
        load_ratio: Offered rate over saturation, as measured before the run, else as calibrated.
        requests: How many were sent.
        cells: Every number that could be compared.
    """

    card: RunCard
    load_ratio: float
    requests: int
    cells: tuple[Cell, ...]

    @property
    def passed(self) -> bool:
        """Whether every judged number is within its limit."""
        return all(cell.passed for cell in self.cells)


def compare(
    profile: ServiceProfile,
    card: RunCard,
    requests: Requests,
    *,
    batch_mean: float | None,
    seeds: int = SEEDS,
) -> RunFidelity:
    """Predict a run from the times its requests were sent, and hold the outcome against it.

    Args:
        profile: Calibrated on other runs.
        card: What ran.
        requests: Every request of the run.
        batch_mean: Mean batch by the server's statistics, ``None`` where it did not tell.
        seeds: Simulations, whose mean is the prediction.
    """
    was = measured(requests, target_s=card.target_ms / 1000.0, batch_mean=batch_mean)
    said = [predicted(profile, card, requests, seed) for seed in range(seeds)]
    offered_rps = (len(requests.sent_s) - 1) / float(requests.sent_s[-1])
    load = card.load_ratio or offered_rps / saturation_rps(profile, card)
    cells = (_cell(name, was, said, load) for name in LIMITS)
    return RunFidelity(
        card=card,
        load_ratio=load,
        requests=len(requests.sent_s),
        cells=tuple(cell for cell in cells if cell is not None),
    )


def _cell(name: str, was: Measured, said: Sequence[Outcome], load: float) -> Cell | None:
    """Return the comparison of one number, ``None`` where either side has none."""
    true = getattr(was.outcome, name)
    values = [value for outcome in said if (value := getattr(outcome, name)) is not None]
    if true is None or not values:
        return None
    limit = LIMITS[name]
    judged = limit.applies(load)
    if not (judged or limit.shown):
        return None
    return Cell(
        name=name,
        measured=float(true),
        low=getattr(was.low, name),
        high=getattr(was.high, name),
        predicted=float(fmean(values)),
        spread=float(stdev(values)) if len(values) > 1 else 0.0,
        error=float(limit.error(fmean(values), true)),
        limit=limit.most if judged else None,
    )
