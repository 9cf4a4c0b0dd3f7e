"""What would have come of it: the next minutes under every alternative, in the event level.

The world is set up as it was some minutes before the moment and rehearses what was granted since
(:mod:`.rehearsal`), on arrivals redrawn at the recorded rates; then each alternative takes over.
Where the run ends with the moment, the rates to come are a forecast (:mod:`.forecast`). Seeds give
the interval; all alternatives meet the same arrivals and the same cold starts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gpupilot_agent.comparison.building import build
from gpupilot_agent.comparison.contenders import Contender
from gpupilot_agent.comparison.scene import arrivals, random_seed
from gpupilot_agent.comparison.traffic import Piece
from gpupilot_agent.evaluation import Design, Estimate, estimate, mean, mean_difference, ratio
from gpupilot_agent.explanation.by_hand import ByHand
from gpupilot_agent.explanation.forecast import futures
from gpupilot_agent.explanation.moment import AHEAD_MIN_S, Moment
from gpupilot_agent.explanation.rehearsal import Rehearsal
from gpupilot_agent.policies import Policy
from gpupilot_agent.rollout import Decision, Run, late, rollout
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.serving.world import SimulatedWorld
from gpupilot_envs.workload.trace import RateTrace

Future = Literal["recorded", "forecast"]
Chooser = Callable[[Piece, int], Policy]
"""From a stretch of traffic and a seed to the policy that takes over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """Something that could have been done at the moment.

    Attributes:
        name: Short, as it stands in the table.
        chooser: Who decides from the moment on.
    """

    name: str
    chooser: Chooser


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one alternative came to, over the seeds.

    Attributes:
        name: Of the alternative.
        attainment_ratio: Share of requests in time.
        late: Requests not in time, mean of a run.
        gpu_hours: GPU shares held.
        replicas: Mean replicas that ran.
        gain: Attainment above that of the first alternative, run by run.
    """

    name: str
    attainment_ratio: Estimate
    late: Estimate
    gpu_hours: Estimate
    replicas: float
    gain: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """The alternatives side by side.

    Attributes:
        future: Whether the rates to come are the recorded ones or a forecast.
        ahead_s: Seconds looked ahead.
        seeds: Runs of every alternative.
        rate_rps: 5th percentile, mean and 95th percentile of the mean rate to come.
        outcomes: One per alternative, in the order given.
        first: What the first alternative decides at the moment, in its first run.
        again: All its decisions in that run, the rehearsed ones among them.
    """

    future: Future
    ahead_s: float
    seeds: int
    rate_rps: tuple[float, float, float]
    outcomes: tuple[Outcome, ...]
    first: Decision
    again: tuple[Decision, ...]


def fixed(name: str, allocation: Allocation) -> Alternative:
    """Return the alternative of running with ``allocation``, whatever comes."""
    policy = ByHand(plan=((0.0, allocation),))
    return Alternative(name=name, chooser=lambda _, __: policy)


def deciding(name: str, contender: Contender, moment: Moment) -> Alternative:
    """Return the alternative of letting ``contender`` decide from the moment on."""
    return Alternative(
        name=name,
        chooser=lambda piece, seed: build(contender, moment.scene, piece, (piece,), seed),
    )


def as_granted(name: str, moment: Moment) -> Alternative:
    """Return the alternative of what was granted, decision by decision, whoever decided it."""
    start_s = moment.at_s - moment.lead_s
    later = moment.between(moment.at_s, moment.end_s)
    plan = ((moment.lead_s, moment.granted), *((at_s - start_s, ran) for at_s, ran in later))
    policy = ByHand(plan=plan)
    return Alternative(name=name, chooser=lambda _, __: policy)


def outlook(
    moment: Moment,
    alternatives: Sequence[Alternative],
    *,
    ahead_s: float,
    seeds: int,
    forecast: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
) -> Outlook:
    """Return what every alternative would have come to.

    Args:
        moment: From where.
        alternatives: What to try, the one to compare with first.
        ahead_s: Seconds to look ahead; cut where the recorded traffic ends.
        seeds: Runs of each, 1 or more.
        forecast: Whether to look away from what is recorded of the future.
        on_progress: Told how many of the runs are done.
    """
    forecast = forecast or moment.end_s - moment.at_s < AHEAD_MIN_S
    if not forecast:
        ahead_s = min(ahead_s, moment.end_s - moment.at_s)
    pieces = _pieces(moment, ahead_s, seeds, forecast=forecast)
    runs: list[list[Run]] = []
    for index, alternative in enumerate(alternatives):
        runs.append([])
        for seed, piece in enumerate(pieces):
            runs[index].append(_played(moment, piece, alternative.chooser(piece, seed), seed))
            on_progress(index * seeds + seed + 1, len(alternatives) * seeds)
    again = runs[0][0].decisions
    return Outlook(
        future="forecast" if forecast else "recorded",
        ahead_s=ahead_s,
        seeds=seeds,
        rate_rps=_spread(moment, pieces),
        outcomes=tuple(
            _outcome(alternative.name, each, runs[0])
            for alternative, each in zip(alternatives, runs, strict=True)
        ),
        first=next(decision for decision in again if decision.at_s >= moment.lead_s),
        again=again,
    )


def _pieces(moment: Moment, ahead_s: float, seeds: int, *, forecast: bool) -> list[Piece]:
    """Return one stretch per seed: lead and future; with a forecast each has its own future."""
    bin_s, lead_s = moment.traffic.bin_s, moment.lead_s
    start_s = moment.at_s - lead_s
    if not forecast:
        piece = _piece(moment, moment.rates(start_s, moment.at_s + ahead_s), ahead_s)
        return [piece] * seeds
    past = moment.rates(moment.at_s - _whole(moment.at_s - moment.start_s, bin_s), moment.at_s)
    bins = max(1, round(ahead_s / bin_s))
    lead = moment.rates(start_s, moment.at_s)
    return [
        _piece(moment, np.concatenate([lead, future]), ahead_s)
        for future in futures(past, bin_s=bin_s, bins=bins, draws=seeds)
    ]


def _whole(span_s: float, bin_s: float) -> float:
    return max(float(np.floor(span_s / bin_s)), 1.0) * bin_s


def _piece(moment: Moment, rps: NDArray[np.float64], ahead_s: float) -> Piece:
    trace = RateTrace(name=moment.traffic.name, bin_s=moment.traffic.bin_s, rps=rps)
    return Piece(
        trace=trace,
        origin=moment.traffic.name,
        origin_sha256=moment.traffic.sha256,
        start_s=moment.at_s,
        end_s=moment.at_s + ahead_s,
        warm_up_s=moment.lead_s,
    )


def _played(moment: Moment, piece: Piece, policy: Policy, seed: int) -> Run:
    """Return one run: rehearsed up to the moment, scored from there on."""
    scene, lead_s = moment.scene, piece.warm_up_s
    start_s = moment.at_s - lead_s
    script = [(at_s - start_s, ran) for at_s, ran in moment.between(start_s, moment.at_s)]
    world = SimulatedWorld(
        scene.profile,
        arrivals(scene, piece, seed),
        targets=scene.targets,
        allocation=moment.in_force(start_s),
        seed=random_seed("world", piece, seed),
        cluster=scene.cluster,
        scrape=scene.scrape,
    )
    return rollout(
        policy,
        Rehearsal(world, script, until_s=lead_s),
        limits=scene.limits,
        targets=scene.targets,
        profile=scene.profile,
        capacity=scene.capacity(),
        duration_s=lead_s + piece.scored_s,
        warm_up_s=lead_s,
    )


def _spread(moment: Moment, pieces: Sequence[Piece]) -> tuple[float, float, float]:
    first = round(moment.lead_s / moment.traffic.bin_s)
    means = [float(piece.trace.rps[first:].mean()) for piece in pieces]
    low, high = np.quantile(means, [0.05, 0.95])
    return float(low), float(np.mean(means)), float(high)


def _outcome(name: str, runs: Sequence[Run], reference: Sequence[Run]) -> Outcome:
    requests = np.array([[float(run.scored.requests) for run in runs]])
    held_s = np.array([[run.scored.gpu_seconds for run in runs]])
    share = np.array([_attainment(run) for run in runs])[None, :]
    before = np.array([_attainment(run) for run in reference])[None, :]
    in_time = share * requests
    missed = np.array([[float(late(run.scored)) for run in runs]])
    design = Design(windows=(1,), seeds=len(runs))
    ran = [float(np.mean(_scored(run, "replicas_granted"))) for run in runs]
    return Outcome(
        name=name,
        attainment_ratio=estimate(ratio, in_time, requests, design=design),
        late=estimate(mean, missed, design=design),
        gpu_hours=estimate(mean, held_s / 3600.0, design=design),
        replicas=float(np.mean(ran)),
        gain=estimate(mean_difference, share, before, design=design),
    )


def _attainment(run: Run) -> float:
    share = run.scored.attainment_ratio
    return np.nan if share is None else share


def _scored(run: Run, column: str) -> NDArray[np.float64]:
    warm_up_s = float(run.timeline["t_s"][-1]) - run.scored_s
    return run.timeline[column][run.timeline["t_s"] > warm_up_s]
