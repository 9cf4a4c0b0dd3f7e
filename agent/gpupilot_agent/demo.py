"""The main job once through, on embedded defaults: tune, train, compare, report.

Nobody is scored on traffic it was tuned or trained on, see :mod:`.demo_traffic`. The demo needs no
file: recordings of a real server ship with the package.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from gpupilot_agent.bundle import Bundle, load
from gpupilot_agent.comparison.config import CompareConfig
from gpupilot_agent.comparison.contenders import GENERALIST, LEARNED
from gpupilot_agent.comparison.running import compare
from gpupilot_agent.comparison.scene import Scene
from gpupilot_agent.demo_traffic import DemoTraffic, generated, recorded
from gpupilot_agent.report import write_report
from gpupilot_agent.report.learning import write_learning_report
from gpupilot_agent.results import Summary, read_summary
from gpupilot_agent.tracking import run_name
from gpupilot_agent.training import train
from gpupilot_agent.training_config import TrainConfig
from gpupilot_agent.tuned import Tuned, read_tuned
from gpupilot_agent.tuning import TuneConfig, tune
from gpupilot_envs.controller import USUAL_SLOPE, Controller
from gpupilot_envs.embedded import DEFAULT, find_profile
from gpupilot_envs.limits import Targets

Told = Callable[[float, str], None]
"""Told the share of a stage that is done, 0 to 1, and a remark."""

Stage = Callable[[str], AbstractContextManager[Told]]
"""Announces a stage by its name; within it, :data:`Told` says how far it is."""

MOVED = ("queueing-5s", "predictive-5s")
"""The controllers a policy can move; they decide as often as it does."""

TO_TUNE = ("hpa", "hpa-rate", "keda", "kpa-rps", *MOVED)
AS_PUBLISHED = (
    "static",
    "static-peak",
    "hpa",
    "hpa-behavior",
    "keda",
    "kpa",
    "ray",
    "dynamo",
    "wva",
)
KNOWING = ("clairvoyant", "oracle")
SUMMARY = "summary.json"

SEEDS = {"recorded": 3, "generated": 1}
"""Usual repetitions: the recordings' last parts are shorter than generated traces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoConfig:
    """How much of everything; the defaults fit into five minutes on two cores.

    Attributes:
        results: Folder in which the run gets its own folder.
        traffic: Recorded from a real server, or generated.
        recordings: Recordings to take instead of the embedded ones.
        profile: Embedded name or file of the service.
        target_ms: Latency target in milliseconds.
        attainment_ratio: Share of requests that must be in time.
        replicas: Mean demand in replicas.
        trace_s: Length of an episode of training and of each generated trace in seconds.
        day_s: Length of a day of generated traffic, squeezed so that an hour shows more of it.
        per_family: Generated traces of each family for training, validation and test.
        tuned_on: Generated training traces of each family that settings are searched on.
        trials: Settings tried per baseline.
        train_s: Seconds of training.
        seeds: Repetitions of each test trace; by default as many as :data:`SEEDS` says.
        seed: Of the traffic and the training.
    """

    results: Path = Path("results")
    traffic: Literal["recorded", "generated"] = "recorded"
    recordings: tuple[Path, ...] = ()
    profile: str = DEFAULT
    target_ms: float = 60.0
    attainment_ratio: float = 0.99
    replicas: float = 4.0
    trace_s: float = 3600.0
    day_s: float = 14_400.0
    per_family: tuple[int, int, int] = (8, 2, 1)
    tuned_on: int = 1
    trials: int = 10
    train_s: float = 75.0
    seeds: int | None = None
    seed: int = 0

    def identity(self) -> dict[str, Any]:
        """Return what determines the run besides its traffic, JSON-like."""
        plain = asdict(self)
        del plain["results"], plain["recordings"]
        return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """What the demo leaves behind.

    Attributes:
        folder: Of the comparison.
        report: The comparison for people.
        learning: What the training learned, for people.
        summary: The comparison's numbers.
        traffic: What it was compared on, for people.
    """

    folder: Path
    report: Path
    learning: Path
    summary: Summary
    traffic: str


def demo(config: DemoConfig, stage: Stage, *, jobs: int) -> DemoResult:
    """Run the demo into a folder of its own and return what came of it.

    An interrupted demo goes on where it stopped; a finished one is never overwritten.

    Args:
        config: How much of everything.
        stage: Announces each stage.
        jobs: Processes that work at once.

    Raises:
        InputInvalid: The profile is invalid or no batch size meets the target.
        OutputRefused: A result cannot be written.
    """
    scene = _scene(config)
    with stage("preparing traffic and service"):
        traffic = demo_traffic(config)
        scene.capacity()
    folder = _folder(config, traffic)
    tuned = _tuned(config, scene, traffic, folder, stage, jobs)
    bundle = _trained(config, tuned, traffic, folder, stage)
    _compared(config, scene, traffic, tuned, bundle, folder, stage, jobs)
    with stage("drawing the reports"):
        report = write_report(folder)
        learning = write_learning_report(_policy_folder(folder))
    return DemoResult(
        folder=folder,
        report=report,
        learning=learning,
        summary=read_summary(folder / SUMMARY),
        traffic=traffic.told,
    )


def classical(tuned: Tuned, level: float) -> Controller:
    """Return the queueing controller the policy starts from: the cheapest on training traffic."""

    def cost(family: str) -> tuple[bool, float]:
        choice = tuned.policies[family].chosen[f"{level:g}"]
        return not choice.meets, tuned.policies[family].trials[choice.trial].gpu_hours

    family = min(MOVED, key=cost)
    predictive = family == MOVED[1]
    reactive = {} if predictive else {"beta": 0.0}
    numbers: dict[str, float] = {**reactive, **tuned.policies[family].params(level)}
    untuned = Controller(conformal=predictive, z_per_log_price=USUAL_SLOPE)
    return replace(untuned, **numbers)  # type: ignore[arg-type]


def _scene(config: DemoConfig) -> Scene:
    return Scene(
        profile=find_profile(config.profile),
        targets=Targets(
            latency_s=config.target_ms / 1000.0, attainment_ratio=config.attainment_ratio
        ),
        scale_to_replicas=config.replicas,
        hours=None,
        warm_up_s=config.trace_s / 12.0,
    )


def demo_traffic(config: DemoConfig) -> DemoTraffic:
    """Return the traffic of a demo, by role.

    Raises:
        InputInvalid: A recording cannot be read or is too short.
    """
    if config.traffic == "recorded":
        return recorded(config.recordings)
    return generated(
        config.seed,
        trace_s=config.trace_s,
        day_s=config.day_s,
        per_family=config.per_family,
        searched=config.tuned_on,
    )


def _tuned(
    config: DemoConfig, scene: Scene, traffic: DemoTraffic, folder: Path, stage: Stage, jobs: int
) -> Tuned:
    search = TuneConfig(
        scene=scene, traces=traffic.search, policies=TO_TUNE, trials=config.trials, seeds=1
    )
    where = folder.with_name(f"{folder.name}-tuned")
    if not (where / "tuned.json").exists():
        with stage("tuning the baselines") as told:
            tune(
                search,
                where,
                jobs=jobs,
                on_progress=lambda done, total, note: told(done / total, note),
            )
    return read_tuned(where)


def _trained(
    config: DemoConfig, tuned: Tuned, traffic: DemoTraffic, folder: Path, stage: Stage
) -> Bundle:
    where = _policy_folder(folder)
    if not (where / "policy.npz").exists():
        asked = TrainConfig(
            out=where,
            profiles=(config.profile,),
            target_ms=config.target_ms,
            attainment_ratio=config.attainment_ratio,
            controller=classical(tuned, config.attainment_ratio),
            max_seconds=config.train_s,
            episode_s=config.trace_s,
            seed=config.seed,
        )
        with stage("training the policy") as told:
            train(asked, lambda p: told(p.fraction, _remark(p.saving)), traffic=traffic.split)
    return load(where / "policy.npz")


def _policy_folder(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-policy")


def _remark(saving: float | None) -> str:
    return "" if saving is None else f"{100 * saving:+.1f} % GPU time saved on validation"


def _compared(
    config: DemoConfig,
    scene: Scene,
    traffic: DemoTraffic,
    tuned: Tuned,
    bundle: Bundle,
    folder: Path,
    stage: Stage,
    jobs: int,
) -> None:
    tuned_names = (f"{name}-tuned" for name in TO_TUNE)
    policies = (*AS_PUBLISHED, *tuned_names, LEARNED, GENERALIST, *KNOWING)
    comparison = CompareConfig(
        scene=scene,
        traces=traffic.split.test,
        policies=policies,
        seeds=config.seeds or SEEDS[config.traffic],
        tuned=tuned,
        bundles=(bundle,),
    )
    with stage("comparing on unseen traffic") as told:
        compare(
            comparison,
            folder,
            jobs=jobs,
            on_progress=lambda done, total, note: told(done / total, f"{done}/{total} {note}"),
        )


def _folder(config: DemoConfig, traffic: DemoTraffic) -> Path:
    """Return the folder of this run: the first of its name that holds no finished result."""
    name = run_name("demo", {**config.identity(), "manifest": traffic.split.manifest()})
    folder = config.results / name
    count = 1
    while (folder / SUMMARY).exists():
        count += 1
        folder = config.results / f"{name}-{count}"
    return folder
