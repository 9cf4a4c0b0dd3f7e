"""The tables of a comparison: every policy, the learned one against each reference, families."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpupilot_agent.cli import show

if TYPE_CHECKING:
    from gpupilot_agent.results import FamilyScore, Metric, Row, Score, Summary

COLUMNS = (
    "policy",
    "in time %",
    "GPU-h",
    "/ oracle",
    "GPU-h at target",
    "p95 ms",
    "changes/h",
)

CLASSICAL = ("tuned_queueing", "tuned_predictive")
"""References that are shown family by family."""


def print_scores(summary: Summary) -> None:
    """Print what every policy delivered and what it took, the cheapest first."""
    level = f"{summary.config['targets']['attainment_ratio']:g}"
    equal = summary.at_attainment.get(level, {})
    ranked = sorted(
        summary.policies.items(), key=lambda item: (item[1].gpu_hours.mean or 0.0, item[0])
    )
    rows = [row(name, score, equal.get(name)) for name, score in ranked]
    show.table(f"mean per run; target {100 * float(level):g} % in time", COLUMNS, rows)


def print_rows(summary: Summary) -> None:
    """Print the learned policy against each reference, its families and its trainings."""
    if not summary.rows:
        return
    shown = [_reference(row) for row in summary.rows if row.relative.mean is not None]
    if shown:
        show.table(
            "the learned policy against each reference at equal attainment; below 0 it needs less",
            ("policy", "against", "at %", "difference", "95 % interval"),
            shown,
        )
    else:
        show.line("the learned policy and the references have no attainment in common")
    for note in dict.fromkeys(row.note for row in summary.rows if row.note):
        show.line(f"  {note}")
    level = f"{summary.config['targets']['attainment_ratio']:g}"
    for name in dict.fromkeys(row.policy for row in summary.rows):
        _print_families(summary, name, level)
    for found in summary.impossible:
        show.line(
            f"BUG: {found.policy} ({found.setting}) took {found.gpu_hours:.3f} GPU-hours on "
            f"{found.trace}, seed {found.seed}; perfect information needs "
            f"{found.least_gpu_hours:.3f}"
        )


def _reference(row: Row) -> tuple[str, ...]:
    where = "-" if row.attainment is None else f"{100 * row.attainment:.4g}"
    what = f"{row.against} (late requests)" if row.kind == "bursts" else row.against
    return row.policy, what, where, _change(row.relative), _interval(row.relative)


def _print_families(summary: Summary, name: str, level: str) -> None:
    rivals = {
        row.against: row.families
        for row in summary.rows
        if row.policy == name and row.kind in CLASSICAL and f"{row.attainment:g}" == level
    }
    rows = [
        (family, *_family(scores[name], level), *(_both(rivals[rival][family]) for rival in rivals))
        for family, scores in summary.families.items()
    ]
    columns = ("family", "in time %", "GPU-h", "GPU-h at target")
    show.table(f"{name} by family", (*columns, *(f"against {rival}" for rival in rivals)), rows)


def _family(score: FamilyScore, level: str) -> tuple[str, ...]:
    return (
        _cell(score.attainment_ratio, ".2f", 100.0),
        _cell(score.gpu_hours, ".3g"),
        _cell(score.at_attainment[level], ".3g"),
    )


def _both(metric: Metric) -> str:
    return f"{_change(metric)} {_interval(metric)}".rstrip(" -") or "-"


def _change(metric: Metric) -> str:
    return "-" if metric.mean is None else f"{100.0 * metric.mean:+.1f} %"


def _interval(metric: Metric) -> str:
    low, high = metric.ci95
    return "-" if low is None or high is None else f"{100.0 * low:+.1f} to {100.0 * high:+.1f}"


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
