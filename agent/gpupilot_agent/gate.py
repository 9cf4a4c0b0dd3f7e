"""The gate: whether a policy has beaten a service's baselines on that service's own traffic.

A pure function of the policy, the recordings and the time it is told; the command line and the
operator call the same one. Arrivals are recorded, the response is simulated
(:data:`~gpupilot_agent.proof.METHOD`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from gpupilot_agent import tracking
from gpupilot_agent.baselines.registry import TUNED
from gpupilot_agent.bundle import Bundle
from gpupilot_agent.comparison.config import CompareConfig
from gpupilot_agent.comparison.contenders import LEARNED, search_spaces
from gpupilot_agent.comparison.field import Field
from gpupilot_agent.comparison.scene import Scene
from gpupilot_agent.comparison.table import Results
from gpupilot_agent.comparison.tasks import Progress, in_memory
from gpupilot_agent.gate_data import Parts, calibrated, execution_error, parts, sha256
from gpupilot_agent.gate_verdict import Ruling, judged_hours, ruling
from gpupilot_agent.proof import Code, Evidence, Hashes, Objective, Proof, Why
from gpupilot_agent.tuned import Tuned
from gpupilot_agent.tuning import TuneConfig, search
from gpupilot_envs.embedded import DEFAULT, find_profile
from gpupilot_envs.errors import InputInvalid, SloInfeasible
from gpupilot_envs.limits import Limits, Targets
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.serving.cluster import Cluster
from gpupilot_envs.serving.scrape import Scrape
from gpupilot_envs.workload.recording import Recording

GAP_MAX = 0.2
"""Most of the recorded time that may lack a request rate."""

EXECUTION_ERROR_MAX = 0.25
"""Most by which executions may take longer or shorter than the profile says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """How a policy is judged.

    Attributes:
        targets: The objective of the service.
        baselines: Families to beat, each tuned on the earlier part.
        limits: The envelope of every policy.
        cluster: Where the service runs.
        scrape: How its metrics reach the policies.
        margin: Where the 95 % interval of the cost must end, see :func:`.gate_verdict.ruling`.
        trials: Settings tried per baseline.
        seeds: Repetitions of the later part.
        earlier_share: Share of the recorded time to tune on.
        tune_hours: Hours of the earlier part that are replayed, spread over it.
        judge_hours: Hours of the later part that are replayed.
        block_s: Length of the stretches that are resampled.
        blocks_min: Fewest of them that tell an interval.
        cv: Coefficient of variation of arrival gaps within a reading; 1 is Poisson.

    Raises:
        InputInvalid: On construction: an unknown baseline, none, or a number out of range.
    """

    targets: Targets
    baselines: tuple[str, ...] = ("hpa", "keda", "queueing")
    limits: Limits = field(default_factory=lambda: Limits(replicas_max=64))
    cluster: Cluster = field(default_factory=Cluster)
    scrape: Scrape = field(default_factory=Scrape)
    margin: float = 0.0
    trials: int = 16
    seeds: int = 2
    earlier_share: float = 0.4
    tune_hours: float = 6.0
    judge_hours: float = 24.0
    block_s: float = 1800.0
    blocks_min: int = 8
    cv: float = 1.0

    def __post_init__(self) -> None:
        """Check what no type can."""
        known = [name for name in search_spaces() if name != LEARNED]
        for name in self.baselines:
            if name not in known or self.baselines.count(name) > 1:
                raise InputInvalid("baselines", name, f"each once, of {', '.join(known)}")
        if not self.baselines:
            raise InputInvalid("baselines", "none", f"at least one of {', '.join(known)}")
        if not 0.0 < self.earlier_share < 1.0:
            raise InputInvalid("earlier_share", self.earlier_share, "a share above 0 and below 1")
        for name, least in (("trials", 1), ("seeds", 1), ("blocks_min", 2)):
            if getattr(self, name) < least:
                raise InputInvalid(name, getattr(self, name), f"{least} or more")

    def identity(self) -> dict[str, Any]:
        """Return everything that determines the verdict besides policy, recordings and profile."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What policies are judged on: a service's recordings, what it costs to run, and how.

    Attributes:
        recordings: Of the service, none of which overlaps another.
        config: How to judge.
        now: Time to date proofs with, with its time zone.
        divided: The recorded traffic: to tune on, and to judge on.
        scene: The service in the event level; ``None`` where nothing tells its profile.
        doubts: Why it cannot carry a verdict; empty where it can.
    """

    recordings: tuple[Recording, ...]
    config: GateConfig
    now: datetime
    divided: Parts
    scene: Scene | None
    doubts: tuple[Why, ...]

    @classmethod
    def of(
        cls,
        recordings: Sequence[Recording],
        config: GateConfig,
        *,
        now: datetime,
        profile: ServiceProfile | None = None,
    ) -> Ground:
        """Lay out what to judge on; ``profile=None`` calibrates it from the recordings.

        Raises:
            InputInvalid: The recordings are of several services, overlap, or hold no request rate.
        """
        divided = parts(recordings, earlier_share=config.earlier_share)
        chosen, doubts = _profile(recordings, profile, now)
        scene = None if chosen is None else _scene(config, chosen)
        doubts += _data_doubts(divided, config)
        if scene is not None and not doubts:
            doubts = _infeasible(scene)
        return cls(
            recordings=tuple(recordings),
            config=config,
            now=now,
            divided=divided,
            scene=scene,
            doubts=tuple(doubts),
        )


def gate(
    policy: Bundle,
    ground: Ground,
    *,
    jobs: int | None = 1,
    on_progress: Progress = lambda done, total, note: None,  # noqa: ARG005
) -> Proof:
    """Return the proof that ``policy`` may act on the service, or why it may not.

    Args:
        policy: As it would be deployed.
        ground: What to judge it on.
        jobs: Processes; ``None`` leaves it to ``joblib.parallel_config``.
        on_progress: Told after each run: done, all, remark.
    """
    proof, scene, config = _Draft(policy, ground), ground.scene, ground.config
    if scene is None or ground.doubts:
        return proof.held(ground.doubts)
    tuned = _tuned(scene, ground, jobs, on_progress, config.baselines)
    results = _results(scene, ground, tuned, policy, jobs, on_progress)
    ruled = ruling(
        results,
        LEARNED,
        {f"{name}{TUNED}": tuned.policies[name] for name in config.baselines},
        target=config.targets.attainment_ratio,
        margin=config.margin,
    )
    return proof.ruled(ruled, results)


def priced(
    policy: Bundle,
    ground: Ground,
    *,
    jobs: int | None = 1,
    on_progress: Progress = lambda done, total, note: None,  # noqa: ARG005
) -> Bundle:
    """Return the policy with its price of a late request set on the service's own traffic.

    Its one knob gets what every baseline's settings get: as many trials, on the same earlier part
    of the recordings, for the same objective. Recordings that cannot carry a verdict leave the
    policy as it is; :func:`gate` says why, and takes the same arguments.
    """
    scene, target = ground.scene, ground.config.targets.attainment_ratio
    if scene is None or ground.doubts:
        return policy
    found = _tuned(scene, ground, jobs, on_progress, (LEARNED,), policy)
    scale = found.policies[LEARNED].params(target)["price_scale"]
    known = policy.prices or ((target, policy.price(target)),)
    return replace(policy, prices=tuple((ratio, scale * price) for ratio, price in known))


def _profile(
    recordings: Sequence[Recording], given: ServiceProfile | None, now: datetime
) -> tuple[ServiceProfile | None, list[Why]]:
    """Return the profile to simulate with and what speaks against it."""
    if given is None:
        found = calibrated(recordings, find_profile(DEFAULT), when=f"recorded until {now.date()}")
        return found.profile, [Why(code=Code.PROFILE_UNKNOWN, text=t) for t in found.refusals]
    error = execution_error(recordings, given)
    if error is None or abs(error) <= EXECUTION_ERROR_MAX:
        return given, []
    text = (
        f"executions took {100 * error:+.0f} % of what the profile {given.name} says, at most "
        f"{100 * EXECUTION_ERROR_MAX:.0f} % is allowed: it is not this service's, or it changed"
    )
    return given, [Why(code=Code.PROFILE_MISMATCH, text=text)]


def _data_doubts(divided: Parts, config: GateConfig) -> list[Why]:
    """Return why the recordings cannot carry a verdict."""
    doubts = []
    if divided.gap_ratio > GAP_MAX:
        text = (
            f"{100 * divided.gap_ratio:.0f} % of the recorded time has no request rate, at most "
            f"{100 * GAP_MAX:.0f} % may; the longest gap is {divided.longest_gap_s:.0f} s"
        )
        doubts.append(Why(code=Code.RECORDING_GAPS, text=text))
    blocks = divided.later_s / config.block_s
    if math.floor(blocks + 0.5) < config.blocks_min or not divided.earlier:
        needed_s = config.blocks_min * config.block_s / (1.0 - config.earlier_share)
        text = (
            f"{divided.recorded_s / 3600.0:.1f} h are recorded, at least {needed_s / 3600.0:.1f} h "
            f"are needed: {config.blocks_min} stretches of {config.block_s / 60.0:.0f} min to "
            "judge on, and an earlier part to tune on"
        )
        doubts.append(Why(code=Code.TOO_LITTLE_DATA, text=text))
    return doubts


def _infeasible(scene: Scene) -> list[Why]:
    """Return why no policy can meet the objective."""
    try:
        scene.capacity()
    except SloInfeasible as error:
        return [Why(code=Code.OBJECTIVE_INFEASIBLE, text=str(error))]
    return []


def _scene(config: GateConfig, profile: ServiceProfile) -> Scene:
    return Scene(
        profile=profile,
        targets=config.targets,
        limits=config.limits,
        cluster=config.cluster,
        scrape=config.scrape,
        cv=config.cv,
        hours=config.judge_hours,
        warm_up_s=min(600.0, config.block_s / 3.0),
        block_s=config.block_s,
    )


def _tuned(
    scene: Scene,
    ground: Ground,
    jobs: int | None,
    on_progress: Progress,
    policies: tuple[str, ...],
    bundle: Bundle | None = None,
) -> Tuned:
    """Return the settings of policies, searched on the earlier part with equal budgets."""
    config = ground.config
    asked = TuneConfig(
        scene=replace(scene, hours=config.tune_hours, block_s=None),
        traces=ground.divided.earlier,
        policies=policies,
        trials=config.trials,
        seeds=1,
        levels=(config.targets.attainment_ratio,),
        bundle=bundle,
    )
    return search(asked, jobs=jobs, on_progress=on_progress)


def _results(
    scene: Scene,
    ground: Ground,
    tuned: Tuned,
    policy: Bundle,
    jobs: int | None,
    on_progress: Progress,
) -> Results:
    """Return the runs of the policy as deployed and of every baseline on the later part."""
    config = ground.config
    asked = CompareConfig(
        scene=scene,
        traces=ground.divided.later,
        policies=(LEARNED, *(f"{name}{TUNED}" for name in config.baselines)),
        seeds=config.seeds,
        levels=(config.targets.attainment_ratio,),
        tuned=tuned,
        bundles=(policy,),
    )
    everyone = Field.of(asked)
    deployed = tuple(c for c in everyone.contenders if c.main or c.role != "learned")
    runs = replace(everyone, contenders=deployed)
    tasks = runs.tasks()
    by_key = in_memory(list(tasks.values()), jobs=jobs, on_progress=on_progress)
    return runs.results({place: by_key[task.key] for place, task in tasks.items()})


class _Draft:
    """Everything of a proof that is known before the verdict."""

    def __init__(self, policy: Bundle, ground: Ground) -> None:
        config, scene = ground.config, ground.scene
        plain = None if scene is None else scene.profile.model_dump(mode="json")
        self._known: dict[str, Any] = {
            "service": ground.divided.service,
            "created_at": ground.now,
            "objective": Objective(
                latency_ms=1000.0 * config.targets.latency_s,
                attainment_ratio=config.targets.attainment_ratio,
            ),
            "margin": config.margin,
            "evidence": _evidence(ground.divided, config),
            "hashes": Hashes(
                bundle=policy.sha256,
                profile=None if plain is None else tracking.digest(plain),
                recordings={
                    f"{r.service}@{r.readings[0].at_s:g}": sha256(r) for r in ground.recordings
                },
                config=tracking.digest(config.identity()),
            ),
            "environment": tracking.environment(),
        }

    def held(self, reasons: Sequence[Why]) -> Proof:
        """Return the verdict of what was not simulated."""
        return Proof(
            verdict="hold",
            reasons=tuple(reasons),
            decisive=None,
            policy=None,
            baselines={},
            **self._known,
        )

    def ruled(self, ruled: Ruling, results: Results) -> Proof:
        """Return the verdict of the runs."""
        judged = {
            "judged_hours": judged_hours(results, LEARNED),
            "blocks": sum(results.by_window.windows),
        }
        self._known["evidence"] = self._known["evidence"].model_copy(update=judged)
        return Proof(
            verdict="promote" if ruled.promotes else "hold",
            reasons=ruled.reasons,
            decisive=ruled.decisive,
            policy=ruled.policy,
            baselines=dict(ruled.baselines),
            **self._known,
        )


def _evidence(divided: Parts, config: GateConfig) -> Evidence:
    return Evidence(
        recorded_hours=divided.recorded_s / 3600.0,
        gap_ratio=min(max(divided.gap_ratio, 0.0), 1.0),
        longest_gap_s=divided.longest_gap_s,
        tuned_hours=min(divided.earlier_s / 3600.0, config.tune_hours),
        judged_hours=0.0,
        first_at_s=divided.first_at_s,
        last_at_s=divided.last_at_s,
        blocks=0,
        block_s=config.block_s,
        seeds=config.seeds,
    )
