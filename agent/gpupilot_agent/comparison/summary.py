"""From the scores of all runs to ``summary.json``: means, intervals, pairs and frontiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from gpupilot_agent.comparison.contenders import ORACLE, Contender
from gpupilot_agent.comparison.tasks import Score as Scored
from gpupilot_agent.evaluation import (
    Estimate,
    Statistic,
    estimate,
    interval_of,
    mean,
    mean_difference,
    ratio,
    ratio_difference,
    relative_difference,
)
from gpupilot_agent.frontier import Frontier
from gpupilot_agent.results import FrontierPoint, LatencyMs, Metric, Paired, Score

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Scores of every setting of every policy, arranged by trace and seed.

    Attributes:
        traces: Names in the order of the rows.
        scores: Per contender, one list per trace of one score per seed.
    """

    traces: tuple[str, ...]
    scores: Mapping[Contender, Sequence[Sequence[Scored]]]

    def of(self, contender: Contender, name: str) -> Floats:
        """Return one number of every run, shape ``(traces, seeds)``, NaN where unknown."""
        rows = [[getattr(score, name) for score in row] for row in self.scores[contender]]
        return np.array(rows, dtype=np.float64)

    def only(self, trace: str) -> Results:
        """Return the results on one trace."""
        at = self.traces.index(trace)
        kept = {contender: [rows[at]] for contender, rows in self.scores.items()}
        return Results(traces=(trace,), scores=kept)

    @property
    def mains(self) -> dict[str, Contender]:
        """The setting of each policy that stands in tables, by the policy's name."""
        return {c.name: c for c in self.scores if c.main}

    def variants(self, name: str) -> list[Contender]:
        """Every measured setting of a policy, the main one included."""
        return [contender for contender in self.scores if contender.name == name]


def policy_scores(results: Results) -> dict[str, Score]:
    """Return every policy's score over all runs in ``results``."""
    return {name: _score(results, contender) for name, contender in results.mains.items()}


def trace_scores(results: Results) -> dict[str, dict[str, Score]]:
    """Return every policy's score trace by trace."""
    return {trace: policy_scores(results.only(trace)) for trace in results.traces}


def frontiers(results: Results) -> dict[str, tuple[FrontierPoint, ...]]:
    """Return every measured setting of every policy, cheapest first."""
    return {
        name: tuple(sorted(_points(results, name), key=lambda point: point.gpu_hours.mean or 0.0))
        for name in results.mains
    }


def read_frontiers(results: Results, levels: Sequence[float]) -> dict[str, Frontier]:
    """Return the cost of every policy at every level, read from its measured settings."""
    return {name: Frontier.of(*_settings(results, name), levels) for name in results.mains}


def at_attainment(
    costs: Mapping[str, Frontier], levels: Sequence[float]
) -> dict[str, dict[str, Estimate]]:
    """Return the cost of every policy at every level with its interval."""
    return {
        f"{level:g}": {name: frontier.estimate(at) for name, frontier in costs.items()}
        for at, level in enumerate(levels)
    }


def paired(
    results: Results, costs: Mapping[str, Frontier], levels: Sequence[float]
) -> tuple[Paired, ...]:
    """Return the difference of every two policies, and of their costs at equal attainment."""
    rows: list[Paired] = []
    for a, b in combinations(results.mains, 2):
        rows += [_attainment_pair(results, a, b), _cost_pair(results, a, b)]
        rows += [_level_pair(a, b, costs, at, level) for at, level in enumerate(levels)]
    return tuple(rows)


def paired_by_trace(results: Results) -> dict[str, tuple[Paired, ...]]:
    """Return the differences of attainment and cost trace by trace."""
    return {trace: paired(results.only(trace), {}, ()) for trace in results.traces}


def _score(results: Results, contender: Contender) -> Score:
    def averaged(name: str) -> Metric:
        return _metric(mean, results.of(contender, name))

    hours = results.of(contender, "scored_s") / 3600.0
    return Score(
        attainment_ratio=_metric(ratio, *_attainment(results, contender)),
        gpu_hours=averaged("gpu_hours"),
        gpu_hours_vs_oracle=_against(results, contender),
        energy_kwh=averaged("energy_kwh"),
        co2_g=averaged("co2_g"),
        latency_ms=LatencyMs(
            p50=averaged("latency_p50_ms"),
            p95=averaged("latency_p95_ms"),
            p99=averaged("latency_p99_ms"),
        ),
        scale_events_per_hour=_metric(ratio, results.of(contender, "replica_changes"), hours),
        pod_restarts=averaged("pod_restarts"),
        recovery_s=averaged("recovery_s"),
    )


def _metric(statistic: Statistic, *columns: Floats) -> Metric:
    return Metric.of(estimate(statistic, *columns))


def _attainment(results: Results, contender: Contender) -> tuple[Floats, Floats]:
    return results.of(contender, "in_time"), results.of(contender, "requests")


def _against(results: Results, contender: Contender) -> Metric:
    oracle = results.mains.get(ORACLE)
    if oracle is None:
        return Metric.of(Estimate(mean=None, ci95=None))
    costs = (results.of(contender, "gpu_hours"), results.of(oracle, "gpu_hours"))
    return _metric(ratio, *costs)


def _points(results: Results, name: str) -> list[FrontierPoint]:
    return [
        FrontierPoint(
            setting=contender.setting,
            params=dict(contender.params),
            asked_attainment=contender.asked,
            attainment_ratio=_metric(ratio, *_attainment(results, contender)),
            gpu_hours=_metric(mean, results.of(contender, "gpu_hours")),
        )
        for contender in results.variants(name)
    ]


def _settings(results: Results, name: str) -> tuple[Floats, Floats, Floats]:
    """Return requests in time, all requests and cost, each ``(settings, traces, seeds)``."""
    variants = results.variants(name)
    stacks = [
        np.stack([results.of(contender, column) for contender in variants])
        for column in ("in_time", "requests", "gpu_hours")
    ]
    return stacks[0], stacks[1], stacks[2]


def _attainment_pair(results: Results, a: str, b: str) -> Paired:
    columns = _both(results, a, b, "in_time", "requests")
    diff = estimate(ratio_difference, *columns)
    return _pair(a, b, "attainment_ratio", diff, Estimate(mean=None, ci95=None))


def _cost_pair(results: Results, a: str, b: str) -> Paired:
    columns = _both(results, a, b, "gpu_hours")
    diff = estimate(mean_difference, *columns)
    return _pair(a, b, "gpu_hours", diff, estimate(relative_difference, *columns))


def _level_pair(a: str, b: str, costs: Mapping[str, Frontier], at: int, level: float) -> Paired:
    metric = f"gpu_hours@{level:g}"
    value_a, value_b = float(costs[a].costs[at]), float(costs[b].costs[at])
    if not np.isfinite([value_a, value_b]).all():
        nothing = Estimate(mean=None, ci95=None)
        return _pair(a, b, metric, nothing, nothing)
    draws_a, draws_b = costs[a].replicates[at], costs[b].replicates[at]
    diff = Estimate(mean=value_a - value_b, ci95=interval_of(draws_a - draws_b))
    relative = Estimate(mean=value_a / value_b - 1.0, ci95=interval_of(draws_a / draws_b - 1.0))
    return _pair(a, b, metric, diff, relative)


def _both(results: Results, a: str, b: str, *names: str) -> list[Floats]:
    mains = results.mains
    return [results.of(mains[policy], name) for policy in (a, b) for name in names]


def _pair(a: str, b: str, metric: str, diff: Estimate, relative: Estimate) -> Paired:
    return Paired(
        a=a,
        b=b,
        metric=metric,
        diff=diff.mean,
        ci95=diff.ci95 or (None, None),
        relative=Metric.of(relative),
    )
