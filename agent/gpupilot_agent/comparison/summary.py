"""From the scores of all runs to ``summary.json``: means, intervals, pairs and frontiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from gpupilot_agent.comparison.contenders import ORACLE, Contender
from gpupilot_agent.comparison.table import Results
from gpupilot_agent.evaluation import Estimate, Statistic, estimate, mean, ratio
from gpupilot_agent.frontier import Frontier
from gpupilot_agent.results import FrontierPoint, LatencyMs, Metric, Paired, Score

Floats = NDArray[np.float64]


def policy_scores(results: Results) -> dict[str, Score]:
    """Return every policy's score over all runs in ``results``."""
    return {name: _score(results, contender) for name, contender in results.mains.items()}


def trace_scores(results: Results) -> dict[str, dict[str, Score]]:
    """Return every policy's score trace by trace."""
    return {trace: policy_scores(results.only([trace])) for trace in results.traces}


def frontiers(results: Results) -> dict[str, tuple[FrontierPoint, ...]]:
    """Return every measured setting of every policy, cheapest first."""
    return {
        name: tuple(sorted(_points(results, name), key=lambda point: point.gpu_hours.mean or 0.0))
        for name in results.mains
    }


def at_attainment(
    costs: Mapping[str, Frontier], levels: Sequence[float]
) -> dict[str, dict[str, Estimate]]:
    """Return the cost of every policy at every level with its interval."""
    return {
        f"{level:g}": {name: frontier.estimate(level) for name, frontier in costs.items()}
        for level in levels
    }


def paired(
    results: Results, costs: Mapping[str, Frontier], levels: Sequence[float]
) -> tuple[Paired, ...]:
    """Return the difference of every two policies, and of their costs at equal attainment."""
    mains = results.mains
    attained = {name: results.attainment(mains[name]) for name in mains}
    spent = {name: results.gpu_hours(mains[name]) for name in mains}
    rows: list[Paired] = []
    for a, b in combinations(mains, 2):
        rows.append(_pair(a, b, "attainment_ratio", attained, relative=False))
        rows.append(_pair(a, b, "gpu_hours", spent))
        for level in levels:
            equal = costs[a].paired(costs[b], level)
            rows.append(_pair(a, b, f"gpu_hours@{level:g}", dict(zip((a, b), equal, strict=True))))
    return tuple(rows)


def paired_by_trace(results: Results) -> dict[str, tuple[Paired, ...]]:
    """Return the differences of attainment and cost trace by trace."""
    return {trace: paired(results.only([trace]), {}, ()) for trace in results.traces}


def _score(results: Results, contender: Contender) -> Score:
    def averaged(name: str) -> Metric:
        return _metric(results, mean, results.of_runs(contender, name))

    hours = results.of_runs(contender, "scored_s") / 3600.0
    return Score(
        attainment_ratio=_sampled(results.attainment(contender)),
        gpu_hours=_sampled(results.gpu_hours(contender)),
        gpu_hours_vs_oracle=_against(results, contender),
        energy_kwh=averaged("energy_kwh"),
        co2_g=averaged("co2_g"),
        latency_ms=LatencyMs(
            p50=averaged("latency_p50_ms"),
            p95=averaged("latency_p95_ms"),
            p99=averaged("latency_p99_ms"),
        ),
        scale_events_per_hour=_metric(
            results, ratio, results.of_runs(contender, "replica_changes"), hours
        ),
        pod_restarts=averaged("pod_restarts"),
        recovery_s=averaged("recovery_s"),
        overridden_ratio=_metric(
            results,
            ratio,
            results.of_runs(contender, "overridden"),
            results.of_runs(contender, "decisions"),
        ),
    )


def _metric(results: Results, statistic: Statistic, *columns: Floats) -> Metric:
    return Metric.of(estimate(statistic, *columns, design=results.by_run))


def _sampled(samples: Floats) -> Metric:
    return Metric.of(Estimate.of(samples))


def _against(results: Results, contender: Contender) -> Metric:
    oracle = results.mains.get(ORACLE)
    if oracle is None:
        return Metric.of(Estimate(mean=None, ci95=None))
    return _sampled(results.gpu_hours(contender) / results.gpu_hours(oracle))


def _points(results: Results, name: str) -> list[FrontierPoint]:
    return [
        FrontierPoint(
            setting=contender.setting,
            params=dict(contender.params),
            asked_attainment=contender.asked,
            attainment_ratio=_sampled(results.attainment(contender)),
            gpu_hours=_sampled(results.gpu_hours(contender)),
        )
        for contender in results.variants(name)
    ]


def _pair(
    a: str, b: str, metric: str, samples: Mapping[str, Floats], *, relative: bool = True
) -> Paired:
    """Return the difference of two policies whose samples were drawn alike."""
    diff = Estimate.of(samples[a] - samples[b])
    share = Estimate.of(samples[a] / samples[b] - 1.0 if relative else np.full(1, np.nan))
    return Paired(
        a=a,
        b=b,
        metric=metric,
        diff=diff.mean,
        ci95=diff.ci95 or (None, None),
        relative=Metric.of(share),
    )
