"""What a reader asks of a learned policy: its cost at equal attainment against each reference.

Every row is read from the frontiers measured on the same traffic, overall and on each family.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from gpupilot_agent.comparison.contenders import CLAIRVOYANT, ORACLE, Contender
from gpupilot_agent.comparison.table import Results
from gpupilot_agent.evaluation import Estimate
from gpupilot_agent.perfect import TOLERANCE, least_of_window
from gpupilot_agent.results import FamilyScore, Impossible, Metric, Row

Floats = NDArray[np.float64]
Read = Callable[[Results], Floats]

DEFAULT = "hpa"
RULES = ("hpa", "hpa-behavior", "hpa-rate", "hpa-rate-behavior", "keda", "kpa", "kpa-rps")
"""What people run today; the cheapest of them, tuned, is the one to beat."""

QUEUEING = ("queueing", "queueing-5s")
PREDICTIVE = ("predictive", "predictive-5s")
"""Classical controllers by what they forecast; of each the better period counts."""

PERFECT = "perfect-information"
MORE_COST = 0.05
"""Share of cost that a policy may spend beyond the tuned rule's in the row on bursts."""


def rows(results: Results, levels: Sequence[float]) -> tuple[Row, ...]:
    """Return the rows of every learned policy at every level."""
    learned = [name for name, main in results.mains.items() if main.role == "learned"]
    return tuple(row for name in learned for row in _rows_of(results, name, levels))


def family_scores(results: Results, levels: Sequence[float]) -> dict[str, dict[str, FamilyScore]]:
    """Return what every policy did on the traces of each family."""
    return {
        family: {name: family_score(part, name, levels) for name in part.mains}
        for family, part in results.by_family()
    }


def family_score(results: Results, name: str, levels: Sequence[float]) -> FamilyScore:
    """Return what one policy did in these results."""
    main, frontier = results.mains[name], results.frontier(name)
    return FamilyScore(
        attainment_ratio=_metric(results.attainment(main)),
        gpu_hours=_metric(results.gpu_hours(main)),
        at_attainment={f"{level:g}": Metric.of(frontier.estimate(level)) for level in levels},
    )


def perfect(results: Results, levels: Sequence[float]) -> dict[str, Metric]:
    """Return the GPU-hours no policy of replicas can go below at each level."""
    dual = results.dual()
    return {} if dual is None else {f"{level:g}": _metric(dual.least(level)) for level in levels}


def impossible(results: Results) -> tuple[Impossible, ...]:
    """Return the runs that cost less than perfect information allows; there must be none."""
    proving = [contender for contender in results.scores if contender.proves]
    if not proving:
        return ()
    return tuple(
        found
        for contender in results.scores
        for found in _impossible(results, contender, proving[0])
    )


def _impossible(results: Results, contender: Contender, proving: Contender) -> Iterator[Impossible]:
    for runs in results.scores[contender]:
        for trace, row, proofs in zip(
            results.traces, runs, results.scores[proving][0], strict=True
        ):
            for seed, (score, proof) in enumerate(zip(row, proofs, strict=True)):
                values = np.array(proof.duals).sum(axis=0)
                least = least_of_window(values, score.requests - score.in_time)
                # the proof is about replicas: batching can make one carry more
                if not score.geared and score.gpu_hours < (1.0 - TOLERANCE) * least:
                    yield Impossible(
                        policy=contender.name,
                        setting=contender.setting,
                        trace=trace,
                        seed=seed,
                        gpu_hours=score.gpu_hours,
                        least_gpu_hours=least,
                    )


def _rows_of(results: Results, name: str, levels: Sequence[float]) -> Iterator[Row]:
    if DEFAULT in results.mains:
        yield _against_default(results, name, levels)
    for level in levels:
        yield from _at_level(results, name, level)
    yield from _bursts(results, name)


def _against_default(results: Results, name: str, levels: Sequence[float]) -> Row:
    """Compare at the attainment that the default setting reached: it has no other."""

    def read(part: Results) -> Floats:
        default = part.mains[DEFAULT]
        own = part.frontier(name).samples(part.attainment(default))
        return own / part.gpu_hours(default) - 1.0

    reached = float(results.attainment(results.mains[DEFAULT])[0])
    missed = [f"{100 * level:g} %" for level in levels if reached < level]
    note = f"at the attainment that {DEFAULT} as published reached"
    if missed:
        note += f"; it has no setting at {', '.join(missed)}"
    return _row("default", name, DEFAULT, reached, results, read, note)


def _at_level(results: Results, name: str, level: float) -> Iterator[Row]:
    groups = {"tuned_rule": RULES, "tuned_queueing": QUEUEING, "tuned_predictive": PREDICTIVE}
    for kind, families in groups.items():
        best = _cheapest(results, [f"{family}-tuned" for family in families], level)
        if best is not None:
            yield _versus(kind, results, name, best, level)
    if CLAIRVOYANT in results.mains:
        yield _versus("clairvoyant", results, name, CLAIRVOYANT, level)
    if ORACLE in results.mains:
        yield _versus("oracle", results, name, ORACLE, level)
        yield _against_perfect(results, name, level)


def _versus(kind: str, results: Results, name: str, rival: str, level: float) -> Row:
    def read(part: Results) -> Floats:
        own, other = (part.frontier(each).samples(level) for each in (name, rival))
        return own / other - 1.0

    return _row(kind, name, rival, level, results, read, _unread(results, (name, rival), level))


def _unread(results: Results, names: Sequence[str], level: float) -> str:
    missing = [n for n in names if not np.isfinite(results.frontier(n).samples(level)[0])]
    told = [
        f"{each} was measured from {100 * front.attainment[0].min():.2f} "
        f"to {100 * front.attainment[0].max():.2f} %"
        for each in missing
        for front in [results.frontier(each)]
    ]
    return "; ".join(told)


def _against_perfect(results: Results, name: str, level: float) -> Row:
    def read(part: Results) -> Floats:
        dual = part.dual()
        own = part.frontier(name).samples(level)
        return np.full_like(own, np.nan) if dual is None else own / dual.least(level) - 1.0

    return _row("perfect", name, PERFECT, level, results, read, "proven: nothing can be cheaper")


def _bursts(results: Results, name: str) -> Iterator[Row]:
    """Compare late requests on traffic whose rate steps up, at nearly the tuned rule's cost."""
    stepping = [
        trace
        for at, trace in enumerate(results.traces)
        if any(s.recovery_s is not None for s in results.scores[results.mains[name]][0][at])
    ]
    for rival in [f"{rule}-tuned" for rule in RULES if f"{rule}-tuned" in results.mains]:
        if not stepping:
            return

        def read(part: Results, rival: str = rival) -> Floats:
            other = part.mains[rival]
            budget = (1.0 + MORE_COST) * part.gpu_hours(other)
            late = 1.0 - part.frontier(name).best_within(budget)
            with np.errstate(divide="ignore", invalid="ignore"):
                return late / (1.0 - part.attainment(other)) - 1.0

        part = results.only(stepping)
        reached = float(part.attainment(part.mains[rival])[0])
        note = (
            f"late requests at {100 * MORE_COST:g} % more cost than {rival} as it ran, on "
            f"{len(stepping)} traces whose rate steps up"
        )
        yield _row("bursts", name, rival, reached, part, read, note)


def _cheapest(results: Results, names: Sequence[str], level: float) -> str | None:
    costs = {
        name: float(results.frontier(name).samples(level)[0])
        for name in names
        if name in results.mains
    }
    known = {name: cost for name, cost in costs.items() if np.isfinite(cost)}
    if known:
        return min(known, key=lambda name: known[name])
    return next(iter(costs), None)


def _row(
    kind: str, name: str, rival: str, level: float, results: Results, read: Read, note: str
) -> Row:
    return Row.model_validate(
        {
            "kind": kind,
            "policy": name,
            "against": rival,
            "attainment": level,
            "relative": _metric(read(results)),
            "families": {family: _metric(read(part)) for family, part in results.by_family()},
            "note": note,
        }
    )


def _metric(samples: Floats) -> Metric:
    return Metric.of(Estimate.of(samples))
