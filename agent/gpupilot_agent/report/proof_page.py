"""The proof as one page: the verdict, its reasons, effects with intervals, what it stands on."""

from __future__ import annotations

from pathlib import Path

from gpupilot_agent.proof import Proof
from gpupilot_agent.report.templates import template
from gpupilot_agent.results import Metric
from gpupilot_envs.atomic import write_text

Bar = tuple[float, float, float]

_NONE = "\N{EN DASH}"

_HALF_WIDTH = 46.0
"""Percent of the drawing to either side of zero."""


def write_proof_page(path: Path, proof: Proof) -> None:
    """Write the page; it needs no network and no file beside it.

    Raises:
        OutputRefused: The file cannot be written.
    """
    costs = [result.cost_at_equal_attainment for result in proof.baselines.values()]
    page = template("proof.html").render(
        proof=proof,
        bars=_bars(costs),
        span=100.0 * _reach(costs),
        percent=_percent,
        number=_number,
        change=_change,
    )
    write_text(path, page)


def _bars(costs: list[Metric]) -> list[Bar | None]:
    """Return left end, middle and right end of every interval in percent of the drawing."""
    reach = _reach(costs)

    def at(value: float) -> float:
        return 50.0 + _HALF_WIDTH * value / reach

    return [
        (at(low), at(cost.mean), at(high))
        if cost.mean is not None and low is not None and high is not None
        else None
        for cost in costs
        for low, high in [cost.ci95]
    ]


def _reach(costs: list[Metric]) -> float:
    ends = [abs(end) for cost in costs for end in (*cost.ci95, cost.mean) if end is not None]
    return max([0.01, *ends])


def _percent(metric: Metric) -> str:
    return _NONE if metric.mean is None else f"{100 * metric.mean:.2f} %"


def _number(metric: Metric) -> str:
    return _NONE if metric.mean is None else f"{metric.mean:.3g}"


def _change(metric: Metric) -> str:
    low, high = metric.ci95
    if metric.mean is None or low is None or high is None:
        return _NONE
    return f"{100 * metric.mean:+.1f} % ({100 * low:+.1f} to {100 * high:+.1f} %)"
