"""The tables of the report as HTML: values with their intervals, misses marked in words and red."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from gpupilot_agent.report.reading import Reading, percent
from gpupilot_agent.results import Metric, Score

Row = Sequence[str]

_UNKNOWN = Metric(mean=None, ci95=(None, None))


def overall(reading: Reading) -> str:
    """Return one row per policy with every metric and its interval."""
    head = (
        "policy", "in time", "GPU-hours", "of oracle", "energy kWh", "CO2 g", "p50 ms", "p95 ms",
        "p99 ms", "changes / h", "restarts", "recovery s",
    )  # fmt: skip
    rows = [_overall_row(reading, name, score) for name, score in reading.summary.policies.items()]
    return _table(head, rows, focus=reading.focus)


def levels(reading: Reading) -> str:
    """Return GPU-hours at each level by policy."""
    read, intervals = reading.summary.at_attainment, reading.summary.at_attainment_ci95
    head = ("policy", *(f"at {percent(float(level))}" for level in read))
    rows = []
    for name in reading.roles:
        cells = [
            _cell(Metric(mean=read[level][name], ci95=intervals[level][name]), 2) for level in read
        ]
        rows.append((escape(name), *cells))
    note = '<p class="quiet">&ndash;: no measured setting on both sides of the level.</p>'
    return _table(head, rows, focus=reading.focus) + note


def references(reading: Reading) -> str:
    """Return the learned policy against each reference over all traces."""
    rows = [
        row
        for row in reading.summary.rows
        if row.relative.mean is not None or (row.note and row.kind != "bursts")
    ]
    body = [
        (
            escape(row.policy),
            escape(f"{row.against}, late requests" if row.kind == "bursts" else row.against),
            "&ndash;" if row.attainment is None else percent(row.attainment),
            _change(row.relative),
            f'<span class="why">{escape(row.note)}</span>',
        )
        for row in rows
    ]
    return _table(("policy", "against", "at", "difference", ""), body)


def references_by_family(reading: Reading) -> str:
    """Return the learned policy against each reference on each family, at the objective."""
    rows = [row for row in reading.summary.rows if row.attainment == reading.target]
    names = {row.policy for row in rows}
    head = [row.against if len(names) == 1 else f"{row.policy} / {row.against}" for row in rows]
    body = [
        (
            escape(_family(reading, family)),
            *(_change(row.families.get(family, _UNKNOWN)) for row in rows),
        )
        for family in reading.summary.families
    ]
    return _table(("family", *head), body)


def families(reading: Reading) -> str:
    """Return attainment and GPU-hours at the objective of every policy on every family."""
    level = f"{reading.target:g}"
    rows = []
    for family, scores in reading.summary.families.items():
        cells = [
            f"{_attained(reading, score.attainment_ratio)}{_cell(score.at_attainment[level], 2)}"
            for score in scores.values()
        ]
        rows.append((escape(_family(reading, family)), *cells))
    return _table(("family", *reading.summary.policies), rows)


def trainings(reading: Reading) -> str:
    """Return what each training of the learned policy did by itself."""
    levels = [f"{float(level):g}" for level in reading.summary.at_attainment]
    head = (
        "training",
        "bundle",
        "in time",
        "GPU-hours",
        *(f"at {percent(float(x))}" for x in levels),
    )
    rows = [
        (
            escape(f"{row.policy} {at}"),
            f"<code>{escape(row.bundle[:12])}</code>",
            _attained(reading, row.attainment_ratio),
            _cell(row.gpu_hours, 2),
            *(_cell(row.at_attainment[level], 2) for level in levels),
        )
        for at, row in enumerate(reading.summary.trainings)
    ]
    return _table(head, rows)


def by_trace(reading: Reading) -> str:
    """Return attainment and cost of every policy on every trace; the cheapest that met in bold."""
    names = list(reading.roles)
    rows = []
    for trace, scores in reading.summary.traces.items():
        winner = reading.winner(trace)
        cells = [_trace_cell(reading, scores[name], best=name == winner) for name in names]
        rows.append((escape(trace), *cells))
    return _table(("trace", *names), rows)


def settings(reading: Reading) -> str:
    """Return every measured setting of every policy."""
    head = ("policy", "setting", "parameters", "in time", "GPU-hours")
    rows = [
        (
            escape(name),
            escape(point.setting),
            escape(_params(point.params)),
            _attained(reading, point.attainment_ratio),
            _cell(point.gpu_hours, 2),
        )
        for name, points in reading.summary.frontiers.items()
        for point in points
    ]
    return _table(head, rows)


def hashes(reading: Reading) -> str:
    """Return what identifies the inputs and the machine."""
    inputs = dict(reading.summary.hashes)
    for seen in ("tuned_on", "trained_on"):
        if seen in inputs:
            inputs[seen] = f"{len(inputs[seen])} traces, in summary.json"
    rows = [
        *_flat("sha256", inputs),
        *_flat("environment", reading.summary.environment),
    ]
    return _table(("input", "value"), rows)


def _overall_row(reading: Reading, name: str, score: Score) -> Row:
    return (
        escape(name),
        _attained(reading, score.attainment_ratio),
        _cell(score.gpu_hours, 2),
        _cell(score.gpu_hours_vs_oracle, 3),
        _cell(score.energy_kwh, 2),
        _cell(score.co2_g, 0),
        _cell(score.latency_ms.p50, 1),
        _cell(score.latency_ms.p95, 1),
        _cell(score.latency_ms.p99, 1),
        _cell(score.scale_events_per_hour, 1),
        _cell(score.pod_restarts, 1),
        _cell(score.recovery_s, 0),
    )


def _family(reading: Reading, family: str) -> str:
    """Return a family's name with how much of it was scored."""
    hours = reading.windows(family)
    return f"{family} ({len(hours)} x {sum(hours) / len(hours):.2g} h)"


def _attained(reading: Reading, metric: Metric) -> str:
    if metric.mean is None:
        return "&ndash;"
    low, high = metric.ci95
    met = metric.mean >= reading.target
    value = f'<span class="{"met" if met else "miss"}">{percent(metric.mean)}</span>'
    if low is None or high is None:
        return value
    return f'{value}<span class="ci">{100 * low:.2f} &ndash; {100 * high:.2f}</span>'


def _trace_cell(reading: Reading, score: Score, *, best: bool) -> str:
    cost = "&ndash;" if score.gpu_hours.mean is None else f"{score.gpu_hours.mean:.2f}"
    share = score.attainment_ratio.mean or 0.0
    shown = f'<span class="{"met" if reading.meets(score) else "miss"}">{percent(share)}</span>'
    return f'<span class="{"best" if best else "usual"}">{cost}</span><br>{shown}'


def _cell(metric: Metric, digits: int) -> str:
    if metric.mean is None:
        return "&ndash;"
    low, high = metric.ci95
    value = f"{metric.mean:.{digits}f}"
    if low is None or high is None:
        return value
    return f'{value}<span class="ci">{low:.{digits}f} &ndash; {high:.{digits}f}</span>'


def _change(metric: Metric) -> str:
    if metric.mean is None:
        return "&ndash;"
    low, high = metric.ci95
    value = f"{100 * metric.mean:+.1f} %"
    if low is None or high is None:
        return value
    sure = "sure" if low * high > 0.0 else "open"
    span = f'<span class="ci">{100 * low:+.1f} to {100 * high:+.1f}</span>'
    return f'<span class="{sure}">{value}</span>{span}'


def _params(params: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in params.items()) or "published"


def _flat(prefix: str, value: Any) -> list[Row]:
    if isinstance(value, dict):
        return [row for key, part in value.items() for row in _flat(f"{prefix} {key}", part)]
    return [(escape(prefix), f"<code>{escape(str(value))}</code>")]


def _table(head: Row, rows: Iterable[Row], focus: str | None = None) -> str:
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    body = "".join(
        f'<tr class="{"focus" if row[0] == focus else "other"}">'
        + "".join(f"<td>{cell}</td>" for cell in row)
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"
