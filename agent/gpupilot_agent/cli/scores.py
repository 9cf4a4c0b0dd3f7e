"""The table of a comparison: one row per policy, cheapest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpupilot_agent.cli import show

if TYPE_CHECKING:
    from gpupilot_agent.results import Metric, Score, Summary

COLUMNS = (
    "policy",
    "in time %",
    "GPU-h",
    "/ oracle",
    "GPU-h at target",
    "p95 ms",
    "changes/h",
)


def print_scores(summary: Summary) -> None:
    """Print what every policy delivered and what it took, the cheapest first."""
    level = f"{summary.config['targets']['attainment_ratio']:g}"
    equal = summary.at_attainment.get(level, {})
    ranked = sorted(
        summary.policies.items(), key=lambda item: (item[1].gpu_hours.mean or 0.0, item[0])
    )
    rows = [row(name, score, equal.get(name)) for name, score in ranked]
    show.table(f"mean per run; target {100 * float(level):g} % in time", COLUMNS, rows)


def row(name: str, score: Score, at_target: float | None) -> tuple[str, ...]:
    """Return one policy's cells; a dash where there is no number."""
    return (
        name,
        _cell(score.attainment_ratio, ".2f", 100.0),
        _cell(score.gpu_hours, ".3g"),
        _cell(score.gpu_hours_vs_oracle, ".2f"),
        "-" if at_target is None else f"{at_target:.3g}",
        _cell(score.latency_ms.p95, ".1f"),
        _cell(score.scale_events_per_hour, ".1f"),
    )


def _cell(metric: Metric, form: str, factor: float = 1.0) -> str:
    return "-" if metric.mean is None else f"{factor * metric.mean:{form}}"
