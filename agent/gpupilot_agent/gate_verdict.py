"""From the runs of a gate to its verdict: effects with intervals, and every reason to hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpupilot_agent.comparison.table import Results
from gpupilot_agent.evaluation import Estimate, estimate, mean, ratio
from gpupilot_agent.proof import BaselineResult, Code, PolicyResult, Why
from gpupilot_agent.results import Metric
from gpupilot_agent.tuned import Choice, Search

Floats = NDArray[np.float64]

UNFAMILIAR_MAX = 0.25
"""Most decisions outside of its training that a policy may take and be promoted."""

COLLAPSED = 10.0
"""Times the allowed lateness beyond which a baseline's setting has collapsed: between one that
loses nearly all requests and one that loses none lies no line along which a cost could be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What the runs say.

    Attributes:
        reasons: Why to hold, or the one reason to promote.
        decisive: The baseline that was hardest to beat.
        policy: What the policy did.
        baselines: Each baseline, and the policy against it.
    """

    reasons: tuple[Why, ...]
    decisive: str
    policy: PolicyResult
    baselines: Mapping[str, BaselineResult]

    @property
    def promotes(self) -> bool:
        """Whether the only thing to say is that the policy is cheaper."""
        return all(reason.code is Code.CHEAPER for reason in self.reasons)


def ruling(
    results: Results,
    policy: str,
    searches: Mapping[str, Search],
    *,
    target: float,
    margin: float,
) -> Ruling:
    """Judge a policy against tuned baselines.

    Promoted when its attainment misses neither the objective nor the hardest baseline by more
    than its interval, and the interval of its cost at equal attainment ends below ``margin``
    against every baseline, none of which met the objective for surely less as it ran.

    Args:
        results: Runs of the policy as it would be deployed, and of every setting of the baselines.
        policy: Its name in the results.
        searches: Search of each baseline, by its name in the results.
        target: Attainment of the objective.
        margin: Where the interval of the cost must end, as a share; 0 asks for cheaper, more
            for not worse by more than that.
        judged_hours: Recorded hours behind the results, to say how many more are needed.
    """
    compared = {
        name: _baseline(results, policy, name, search, target) for name, search in searches.items()
    }
    decisive = max(compared, key=lambda name: _end(compared[name].cost_at_equal_attainment))
    found = _policy(results, policy)
    reasons = [
        *_attainment(found, compared[decisive], decisive, target),
        *_cost(compared, decisive, margin, target, judged_hours(results, policy)),
        *_familiarity(found),
    ]
    promoted = _promoted(compared[decisive], decisive, found)
    return Ruling(
        reasons=tuple(reasons) or (promoted,),
        decisive=decisive,
        policy=found,
        baselines=compared,
    )


def judged_hours(results: Results, policy: str) -> float:
    """Return the recorded hours that were scored, each counted once."""
    scored_s = results.of_runs(results.mains[policy], "scored_s")
    return float(scored_s.sum()) / results.by_run.seeds / 3600.0


def _policy(results: Results, name: str) -> PolicyResult:
    main, by_run = results.mains[name], results.by_run
    overridden, unfamiliar, decisions, p95 = (
        results.of_runs(main, column)
        for column in ("overridden", "unfamiliar", "decisions", "latency_p95_ms")
    )
    return PolicyResult(
        attainment_ratio=_metric(results.attainment(main)),
        gpu_hours=_metric(results.gpu_hours(main)),
        latency_p95_ms=Metric.of(estimate(mean, p95, design=by_run)),
        overridden_ratio=Metric.of(estimate(ratio, overridden, decisions, design=by_run)),
        unfamiliar_ratio=Metric.of(estimate(ratio, unfamiliar, decisions, design=by_run)),
    )


def _baseline(
    results: Results, policy: str, name: str, search: Search, target: float
) -> BaselineResult:
    own, other = results.mains[policy], results.mains[name]
    attained, spent = results.attainment(own), results.gpu_hours(own)
    frontier = results.frontier(name).reaching(1.0 - COLLAPSED * (1.0 - target))
    # beyond its best setting a baseline is granted that setting's cost, which favours it
    equal = frontier.samples(frontier.within(attained))
    chosen: Choice = search.chosen[f"{target:g}"]
    return BaselineResult(
        params=search.trials[chosen.trial].params,
        met_when_tuned=chosen.meets,
        attainment_ratio=_metric(results.attainment(other)),
        gpu_hours=_metric(results.gpu_hours(other)),
        cost_at_equal_attainment=_metric(spent / equal - 1.0),
        cost_as_they_ran=_metric(spent / results.gpu_hours(other) - 1.0),
        attainment_difference=_metric(attained - results.attainment(other)),
    )


def _attainment(found: PolicyResult, rival: BaselineResult, name: str, target: float) -> list[Why]:
    _, high = found.attainment_ratio.ci95
    _, difference = rival.attainment_difference.ci95
    if high is None or difference is None or high >= target or difference >= 0.0:
        return []
    text = (
        f"the policy kept {_percent(found.attainment_ratio)} of requests in time: less than the "
        f"objective of {100 * target:g} % and less than {name} ({_percent(rival.attainment_ratio)})"
        ", by more than the intervals"
    )
    return [Why(code=Code.ATTAINMENT_WORSE, text=text)]


def _cost(
    compared: Mapping[str, BaselineResult],
    decisive: str,
    margin: float,
    target: float,
    hours: float,
) -> list[Why]:
    for name, rival in compared.items():
        if _surely_cheaper_as_it_ran(rival, target):
            text = (
                f"{name} met the objective for less: as they ran the policy costs "
                f"{_change(rival.cost_as_they_ran)}"
            )
            return [Why(code=Code.BASELINE_CHEAPER, text=text)]
    cost = compared[decisive].cost_at_equal_attainment
    low, high = cost.ci95
    if cost.mean is None or low is None or high is None:
        text = f"{decisive} has no cost to compare with, or too few runs for an interval"
        return [Why(code=Code.TOO_LITTLE_DATA, text=text)]
    if high < margin:
        return []
    said = f"against {decisive} at equal attainment the policy costs {_change(cost)}"
    if low > margin:
        return [Why(code=Code.BASELINE_CHEAPER, text=said)]
    return [Why(code=Code.NO_DIFFERENCE, text=said + _needed(cost.mean, high, margin, hours))]


def _surely_cheaper_as_it_ran(rival: BaselineResult, target: float) -> bool:
    low, _ = rival.cost_as_they_ran.ci95
    met = (rival.attainment_ratio.mean or 0.0) >= target
    return met and low is not None and low > 0.0


def _needed(value: float, high: float, margin: float, judged_hours: float) -> str:
    """Return how much traffic would tell the difference; intervals narrow with its square root."""
    if value >= margin:
        return "; more data would not change the sign"
    hours = judged_hours * ((high - value) / (margin - value)) ** 2
    return (
        f"; to be sure of that about {hours:.0f} h to judge on are needed, not {judged_hours:.0f} h"
    )


def _familiarity(found: PolicyResult) -> list[Why]:
    share = found.unfamiliar_ratio.mean
    if share is None or share <= UNFAMILIAR_MAX:
        return []
    text = (
        f"{100 * share:.0f} % of its decisions lay outside of what it was trained on; "
        f"at most {100 * UNFAMILIAR_MAX:.0f} % may"
    )
    return [Why(code=Code.UNFAMILIAR, text=text)]


def _promoted(rival: BaselineResult, name: str, found: PolicyResult) -> Why:
    text = (
        f"at equal attainment the policy costs {_change(rival.cost_at_equal_attainment)} against "
        f"{name}, the baseline that came closest, and kept {_percent(found.attainment_ratio)} of "
        "requests in time"
    )
    return Why(code=Code.CHEAPER, text=text)


def _end(cost: Metric) -> float:
    """Return the upper end of the interval; an unknown one is the hardest to beat."""
    high = cost.ci95[1]
    return float("inf") if high is None else high


def _change(metric: Metric) -> str:
    low, high = metric.ci95
    if metric.mean is None or low is None or high is None:
        return "an unknown amount"
    return f"{100 * metric.mean:+.1f} % ({100 * low:+.1f} to {100 * high:+.1f} %)"


def _percent(metric: Metric) -> str:
    return "an unknown share" if metric.mean is None else f"{100 * metric.mean:.2f} %"


def _metric(samples: Floats) -> Metric:
    return Metric.of(Estimate.of(samples))
