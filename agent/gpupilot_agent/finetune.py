"""Adapt a policy to one service's recordings, and replace it only where the result is better.

The recorded time is cut in three: traffic to learn on, traffic to choose the checkpoint on, and
the latest traffic, which neither has seen, to judge on in the event-level world. There candidate
and incumbent are compared at equal attainment, and the candidate takes over only when the 95 %
interval of its cost lies below the incumbent's. Anything else keeps the incumbent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import yaml

from gpupilot_agent.bundle import Bundle, load
from gpupilot_agent.comparison.config import CompareConfig
from gpupilot_agent.comparison.contenders import LEARNED
from gpupilot_agent.comparison.field import Field
from gpupilot_agent.comparison.scene import Scene
from gpupilot_agent.comparison.table import Results
from gpupilot_agent.comparison.tasks import Progress, in_memory
from gpupilot_agent.evaluation import Estimate
from gpupilot_agent.gate_data import Parts, parts
from gpupilot_agent.generalist import generalist_file
from gpupilot_agent.training_config import Progress as TrainingProgress
from gpupilot_agent.training_config import TrainConfig
from gpupilot_agent.training_file import read_generalist
from gpupilot_envs.atomic import write_bytes, write_text
from gpupilot_envs.errors import TraceInvalid
from gpupilot_envs.limits import Limits, Targets
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.workload.recording import Recording
from gpupilot_envs.workload.splits import Split
from gpupilot_envs.workload.trace import RateTrace

INCUMBENT = "incumbent"
CANDIDATE_FOLDER = "candidate"
BUNDLE = "policy.npz"
PROFILE = "profile.yaml"

BLOCKS_MIN = 8
"""Fewest stretches to judge on that tell an interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuneConfig:
    """How a policy is adapted and judged.

    Attributes:
        out: Folder that receives ``policy.npz`` where the candidate wins, and ``candidate/``.
        targets: The objective of the service.
        incumbent: Bundle to start from and to beat.
        limits: The envelope of both.
        frames: Service-decisions to train on.
        generated: Generated traces beside the recorded ones, against learning them by heart.
        seed: Of the training.
        learn_share: Share of the recorded time to learn on, the earliest.
        choose_share: Share of it after that to choose the checkpoint on.
        judge_hours: Hours of the rest that are replayed.
        judge_seeds: Repetitions of each.
        block_s: Length of the stretches that are resampled for the interval.
        cv: Coefficient of variation of arrival gaps within a reading; 1 is Poisson.
    """

    out: Path
    targets: Targets
    incumbent: Path = field(default_factory=generalist_file)
    limits: Limits = field(default_factory=lambda: Limits(replicas_max=64))
    frames: int = 2_000_000
    generated: int = 8
    seed: int = 0
    learn_share: float = 0.45
    choose_share: float = 0.15
    judge_hours: float = 24.0
    judge_seeds: int = 2
    block_s: float = 1800.0
    cv: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Candidate against incumbent on traffic that neither was trained on.

    Attributes:
        attainment: Share of requests in time that the candidate kept; costs are read there.
        candidate_gpu_hours: What the candidate took.
        incumbent_gpu_hours: What the incumbent takes at the same attainment.
        relative: Candidate over incumbent, less 1.
        incumbent_attainment: What the incumbent keeps as it is deployed.
        attainment_difference: Candidate's less incumbent's, both as deployed.
        objective: Share of requests that must be in time.
    """

    attainment: Estimate
    candidate_gpu_hours: Estimate
    incumbent_gpu_hours: Estimate
    relative: Estimate
    incumbent_attainment: Estimate
    attainment_difference: Estimate
    objective: float

    @property
    def cheaper(self) -> bool:
        """Whether the whole interval says that the candidate needs less."""
        return self.relative.ci95 is not None and self.relative.ci95[1] < 0.0

    @property
    def later(self) -> bool:
        """Whether the candidate surely misses the objective by more than the incumbent does."""
        kept, apart = self.attainment.ci95, self.attainment_difference.ci95
        if kept is None or apart is None:
            return True
        return kept[1] < self.objective and apart[1] < 0.0

    @property
    def wins(self) -> bool:
        """Whether the candidate is surely cheaper and not surely later."""
        return self.cheaper and not self.later

    @property
    def sentence(self) -> str:
        """Both numbers and the verdict, for a person."""
        if self.relative.mean is None or self.relative.ci95 is None:
            return "the two policies never kept the same share of requests in time"
        low, high = self.relative.ci95
        return (
            f"at {100 * (self.attainment.mean or 0.0):.2f} % in time the candidate takes "
            f"{self.candidate_gpu_hours.mean or math.nan:.3f} GPU-hours and the incumbent "
            f"{self.incumbent_gpu_hours.mean or math.nan:.3f}: {100 * self.relative.mean:+.1f} % "
            f"(95 % interval {100 * low:+.1f} to {100 * high:+.1f} %); as deployed the incumbent "
            f"keeps {100 * (self.incumbent_attainment.mean or 0.0):.2f} % in time"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuned:
    """What fine-tuning came to.

    Attributes:
        path: The bundle to deploy: the candidate's where it won, else the incumbent's.
        candidate: Where the candidate is kept, whatever the verdict.
        judged: The numbers.
    """

    path: Path
    candidate: Path
    judged: Judged


def fine_tune(
    recordings: Sequence[Recording],
    config: FineTuneConfig,
    *,
    profile: ServiceProfile,
    jobs: int | None = 1,
    on_training: Callable[[TrainingProgress], None] = lambda _: None,
    on_judging: Progress = lambda done, total, note: None,  # noqa: ARG005
) -> FineTuned:
    """Train a candidate from the incumbent and keep the better of the two.

    Args:
        recordings: Of the service, none of which overlaps another.
        config: How to adapt and judge.
        profile: What the service costs to run, calibrated on it.
        jobs: Processes for judging; ``None`` leaves it to ``joblib.parallel_config``.
        on_training: Told after every update of the training.
        on_judging: Told after each run of the judging.

    Raises:
        InputInvalid: The recordings are of several services, overlap, or hold no request rate.
        TraceInvalid: They are too short to learn on and to judge on.
        BundleRefused: The incumbent does not fit this version.
    """
    from gpupilot_agent.training import train

    learn, choose, judge_on = divided(recordings, config)
    incumbent = load(config.incumbent)
    traffic = Split(train=learn.earlier, validation=choose.earlier, test=())
    candidate = train(
        _training(config, profile, incumbent, learn.earlier), on_training, traffic=traffic
    )
    judged = judge(
        load(candidate),
        incumbent,
        judge_on,
        _scene(config, profile),
        seeds=config.judge_seeds,
        jobs=jobs,
        on_progress=on_judging,
    )
    path = config.incumbent
    if judged.wins:
        path = config.out / BUNDLE
        write_bytes(path, candidate.read_bytes())
    return FineTuned(path=path, candidate=candidate, judged=judged)


def divided(
    recordings: Sequence[Recording], config: FineTuneConfig
) -> tuple[Parts, Parts, tuple[RateTrace, ...]]:
    """Return what to learn on, what to choose on, and what to judge on, in the order of time.

    Raises:
        InputInvalid: The recordings are of several services, overlap, or hold no request rate.
        TraceInvalid: They are too short.
    """
    learn = parts(recordings, earlier_share=config.learn_share)
    both = parts(recordings, earlier_share=config.learn_share + config.choose_share)
    choose = replace(both, earlier=_without(both.earlier, learn.earlier))
    if not learn.earlier or not choose.earlier or both.later_s < BLOCKS_MIN * config.block_s:
        rest = 1.0 - config.learn_share - config.choose_share
        needed_h = BLOCKS_MIN * config.block_s / rest / 3600.0
        raise TraceInvalid(
            "recordings",
            f"{learn.recorded_s / 3600.0:.1f} h",
            f"at least {needed_h:.1f} h, to learn on and to judge on",
        )
    return learn, choose, both.later


def _without(traces: Sequence[RateTrace], others: Sequence[RateTrace]) -> tuple[RateTrace, ...]:
    """Return the traces with what the others know masked; none that is left without data."""
    known = {trace.name: trace for trace in others}
    left = []
    for trace in traces:
        other = known.get(trace.name)
        # the other is the same recording, masked from its own end on
        seen_s = (
            0.0 if other is None else float(np.flatnonzero(~other.masked)[-1] + 1) * other.bin_s
        )
        rest = trace.with_mask([(0.0, seen_s)]) if seen_s else trace
        if not rest.masked.all():
            left.append(rest.renamed(f"{trace.name}-choose"))
    return tuple(left)


def _training(
    config: FineTuneConfig,
    profile: ServiceProfile,
    incumbent: Bundle,
    traffic: Sequence[RateTrace],
) -> TrainConfig:
    """Return a training from the incumbent on services like this one."""
    folder = config.out / CANDIDATE_FOLDER
    write_text(folder / PROFILE, yaml.safe_dump(profile.model_dump(mode="json"), sort_keys=False))
    scene = _scene(config, profile)
    demand = sum(trace.mean_rps for trace in traffic) / len(traffic) / scene.capacity().slo_rps
    cold_s = profile.cold_start_s.mean
    base = read_generalist(out=folder)
    return replace(
        base,
        profiles=(str(folder / PROFILE),),
        target_ms=1000.0 * config.targets.latency_s,
        attainment_ratio=config.targets.attainment_ratio,
        objectives=(),
        latencies_ms=(),
        latency_ratios=(),
        geared=(),
        controller=incumbent.controller,
        limits=config.limits,
        generated=config.generated,
        frames=config.frames,
        seed=config.seed,
        start=config.incumbent,
        ranges=replace(
            base.ranges,
            demand_replicas=(0.7 * demand, 1.4 * demand),
            cold_start_s=(0.8 * cold_s, 1.25 * cold_s),
        ),
    )


def _scene(config: FineTuneConfig, profile: ServiceProfile) -> Scene:
    return Scene(
        profile=profile,
        targets=config.targets,
        limits=config.limits,
        cv=config.cv,
        hours=config.judge_hours,
        warm_up_s=min(600.0, config.block_s / 3.0),
        block_s=config.block_s,
    )


def judge(
    candidate: Bundle,
    incumbent: Bundle,
    traces: Sequence[RateTrace],
    scene: Scene,
    *,
    seeds: int = 2,
    jobs: int | None = 1,
    on_progress: Progress = lambda done, total, note: None,  # noqa: ARG005
) -> Judged:
    """Compare two policies on the same traffic at the attainment the candidate keeps.

    The candidate runs as it would be deployed, the incumbent at several prices of lateness, so
    that its cost can be read at the same attainment.
    """

    def laid_out(bundle: Bundle) -> Field:
        return Field.of(
            CompareConfig(
                scene=scene,
                traces=tuple(traces),
                policies=(LEARNED,),
                seeds=seeds,
                bundles=(bundle,),
            )
        )

    ours, theirs = laid_out(candidate), laid_out(incumbent)
    everyone = replace(
        ours,
        contenders=(
            *(each for each in ours.contenders if each.main),
            *(replace(each, name=INCUMBENT) for each in theirs.contenders),
        ),
    )
    tasks = everyone.tasks()
    scores = in_memory(list(tasks.values()), jobs=jobs, on_progress=on_progress)
    results = everyone.results({place: scores[task.key] for place, task in tasks.items()})
    return _read(results, scene.targets.attainment_ratio)


def _read(results: Results, objective: float) -> Judged:
    own, other = results.mains[LEARNED], results.mains[INCUMBENT]
    attained, spent = results.attainment(own), results.gpu_hours(own)
    frontier = results.frontier(INCUMBENT)
    # beyond its best setting the incumbent is granted that setting's cost, which favours it
    equal = frontier.samples(frontier.within(attained))
    return Judged(
        attainment=Estimate.of(attained),
        candidate_gpu_hours=Estimate.of(spent),
        incumbent_gpu_hours=Estimate.of(equal),
        relative=Estimate.of(spent / equal - 1.0),
        incumbent_attainment=Estimate.of(results.attainment(other)),
        attainment_difference=Estimate.of(attained - results.attainment(other)),
        objective=objective,
    )
