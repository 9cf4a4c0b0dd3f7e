"""The same search for every policy: as many settings, on the same traffic, with the same seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import qmc

from gpupilot_agent import tracking
from gpupilot_agent.baselines.registry import SearchSpace
from gpupilot_agent.bundle import Bundle
from gpupilot_agent.comparison.config import LEVELS, check_traces
from gpupilot_agent.comparison.contenders import LEARNED, Contender, Role, search_spaces
from gpupilot_agent.comparison.scene import Scene
from gpupilot_agent.comparison.tasks import Progress, Score, Task, in_memory, sweep
from gpupilot_agent.tuned import Outcome, Search, Trial, Tuned, search_result, write_tuned
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.workload.trace import RateTrace

TUNED = "tuned.json"
TASKS = "tasks"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TuneConfig:
    """A search: whose settings, on which training traffic, with what budget.

    Attributes:
        scene: Service, objective and surroundings.
        traces: Training traffic; the comparison must use other traces.
        policies: Families, without ``-tuned``.
        trials: Settings tried per policy, the defaults among them: the budget, equal for all.
        seeds: Repetitions of each trace.
        levels: Attainment levels to choose a setting for, besides the objective's own.
        seed: Of the low-discrepancy sequence.
        bundle: The learned policy, for ``ppo``.

    Raises:
        InputInvalid: On construction: an unknown policy, a repeated one, or a number out of
            range.
    """

    scene: Scene
    traces: tuple[RateTrace, ...]
    policies: tuple[str, ...]
    trials: int = 32
    seeds: int = 2
    levels: tuple[float, ...] = LEVELS
    seed: int = 0
    bundle: Bundle | None = None

    def __post_init__(self) -> None:
        """Check what no type can."""
        check_traces(self.traces)
        for name in self.policies:
            if name not in search_spaces():
                raise InputInvalid("policies", name, f"one of {', '.join(search_spaces())}")
            if self.policies.count(name) > 1:
                raise InputInvalid("policies", name, "each policy once")
        if LEARNED in self.policies and self.bundle is None:
            raise InputInvalid("policies", LEARNED, "a trained policy bundle; run gpupilot train")
        for field, value in (("trials", self.trials), ("seeds", self.seeds)):
            if value < 1:
                raise InputInvalid(field, value, "1 or more")

    @property
    def all_levels(self) -> tuple[float, ...]:
        """The levels to choose settings for, ascending."""
        return tuple(sorted({*self.levels, self.scene.targets.attainment_ratio}))

    def identity(self) -> dict[str, Any]:
        """Return everything that determines the numbers, JSON-like."""
        return {
            "scene": self.scene.identity(),
            "traces": {trace.name: trace.sha256 for trace in self.traces},
            "policies": list(self.policies),
            "trials": self.trials,
            "seeds": self.seeds,
            "levels": list(self.all_levels),
            "seed": self.seed,
            "bundle": None if self.bundle is None else self.bundle.sha256,
        }


def tune(
    config: TuneConfig,
    out: Path,
    *,
    jobs: int | None = 1,
    on_progress: Progress = lambda done, total, note: None,  # noqa: ARG005
) -> Path:
    """Search the settings of every policy and return the path of ``tuned.json`` in ``out``.

    Resumes after an interruption like a comparison does.

    Args:
        config: What to search.
        out: Folder of the result; see ``docs/results.md``.
        jobs: Processes; ``None`` leaves it to ``joblib.parallel_config``.
        on_progress: Told after each finished unit of work.

    Raises:
        InputInvalid: A trace cannot be replayed or no batch size meets the objective.
        OutputRefused: ``out`` holds something else or cannot be written.
    """
    settings = {name: _settings(config, name) for name in config.policies}
    tasks = _tasks(config, settings)
    with tracking.claimed(out, kind="search", identity=config.identity(), result=TUNED):
        by_key = sweep(list(tasks.values()), out / TASKS, jobs=jobs, on_progress=on_progress)
        scores = {place: by_key[task.key] for place, task in tasks.items()}
        write_tuned(out / TUNED, _tuned(config, settings, scores))
    return out / TUNED


def search(config: TuneConfig, *, jobs: int | None = 1, on_progress: Progress) -> Tuned:
    """Search the settings of every policy and return them; nothing is written or resumed.

    Raises:
        InputInvalid: A trace cannot be replayed or no batch size meets the objective.
    """
    settings = {name: _settings(config, name) for name in config.policies}
    tasks = _tasks(config, settings)
    by_key = in_memory(list(tasks.values()), jobs=jobs, on_progress=on_progress)
    return _tuned(config, settings, {place: by_key[task.key] for place, task in tasks.items()})


def trials(space: SearchSpace, count: int, seed: int) -> list[dict[str, float]]:
    """Return ``count`` settings: the defaults, then a scrambled Sobol' sequence over the space.

    Args:
        space: Range of each parameter.
        count: Number of settings.
        seed: Of the scrambling (Owen 1998).
    """
    sequence = qmc.Sobol(len(space), seed=np.random.default_rng(seed))
    # whole powers of two keep the sequence balanced; what is too much is cut
    shares = sequence.random_base2(max(1, count - 1).bit_length())[: count - 1]
    drawn = [
        {name: space[name].at(float(share)) for name, share in zip(space, row, strict=True)}
        for row in shares
    ]
    return [{name: dimension.default for name, dimension in space.items()}, *drawn]


Place = tuple[str, int, str, int]
"""Policy, trial, trace, seed."""


def _settings(config: TuneConfig, name: str) -> list[Contender]:
    bundle = config.bundle if name == LEARNED else None
    role: Role = "learned" if name == LEARNED else "tuned"
    return [
        Contender(
            name=name,
            setting=f"trial {index}",
            family=name,
            role=role,
            params=tuple(sorted(params.items())),
            asked=config.scene.targets.attainment_ratio,
            main=False,
            bundle_sha256=None if bundle is None else bundle.sha256,
            bundle=bundle,
        )
        for index, params in enumerate(trials(search_spaces()[name], config.trials, config.seed))
    ]


def _tasks(config: TuneConfig, settings: Mapping[str, list[Contender]]) -> dict[Place, Task]:
    pieces = {trace.name: config.scene.pieces(trace) for trace in config.traces}
    return {
        (name, index, trace, seed): Task(
            scene=config.scene, contender=contender, pieces=cut, seed=seed, keep_timeline=False
        )
        for seed in range(config.seeds)
        for trace, cut in pieces.items()
        for name, contenders in settings.items()
        for index, contender in enumerate(contenders)
    }


def _tuned(
    config: TuneConfig,
    settings: Mapping[str, list[Contender]],
    scores: Mapping[Place, Score],
) -> Tuned:
    identity = config.identity()
    return Tuned(
        policies={
            name: _search(config, name, contenders, scores) for name, contenders in settings.items()
        },
        config=identity,
        environment=tracking.environment(),
        hashes={
            "profile": tracking.digest(identity["scene"]["profile"]),
            "traces": identity["traces"],
            "bundle": identity["bundle"],
            "config": tracking.digest(identity),
        },
    )


def _search(
    config: TuneConfig,
    name: str,
    contenders: Sequence[Contender],
    scores: Mapping[Place, Score],
) -> Search:
    seeds = range(config.seeds)
    found = []
    for index, contender in enumerate(contenders):
        runs = {
            trace.name: [scores[name, index, trace.name, seed] for seed in seeds]
            for trace in config.traces
        }
        overall = _outcome([score for row in runs.values() for score in row])
        found.append(
            Trial(
                params=dict(contender.params),
                attainment_ratio=overall.attainment_ratio,
                gpu_hours=overall.gpu_hours,
                by_trace={trace: _outcome(row) for trace, row in runs.items()},
            )
        )
    return search_result(found, config.all_levels)


def _outcome(runs: Sequence[Score]) -> Outcome:
    requests = sum(score.requests for score in runs)
    return Outcome(
        attainment_ratio=sum(score.in_time for score in runs) / requests if requests else 1.0,
        gpu_hours=sum(score.gpu_hours for score in runs) / len(runs),
    )
