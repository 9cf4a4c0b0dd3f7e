"""The same training with several seeds side by side, and the best of them by validation.

How good one run is says little about the method: PPO's seeds differ. Each seed is a process of
its own with one thread, because two threads in one small network wait for each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from joblib import Parallel, delayed

from gpupilot_agent import bundle as bundles
from gpupilot_agent.training import BUNDLE, train
from gpupilot_agent.training_config import TrainConfig
from gpupilot_envs.atomic import write_bytes
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.workload.splits import Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeded:
    """What training with one seed came to.

    Attributes:
        seed: The seed.
        path: Its bundle.
        saving: GPU time saved on validation against the classical controller at equal
            attainment, as a share; ``None`` where their attainments do not meet.
    """

    seed: int
    path: Path
    saving: float | None


def train_seeds(
    config: TrainConfig,
    seeds: Sequence[int],
    *,
    jobs: int,
    on_done: Callable[[Seeded], None] | None = None,
    traffic: Split | None = None,
) -> tuple[Seeded, ...]:
    """Train once per seed into ``out/seed-N`` and copy the best bundle to ``out``.

    Args:
        config: The run; its own seed is replaced.
        seeds: Seeds, all different.
        jobs: Processes that work at once.
        on_done: Called as each seed is done.
        traffic: Traffic to use instead of what ``config`` names.

    Returns:
        One result per seed, in their order.

    Raises:
        InputInvalid: No seed, or one given twice, or what :func:`training.train` refuses.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise InputInvalid("seeds", list(seeds), "one or more different seeds")
    runs = [replace(config, seed=seed, out=config.out / f"seed-{seed}") for seed in seeds]
    results = []
    for result in Parallel(n_jobs=jobs, return_as="generator")(
        delayed(_one)(run, traffic) for run in runs
    ):
        results.append(result)
        if on_done is not None:
            on_done(result)
    best = max(results, key=lambda result: -math.inf if result.saving is None else result.saving)
    write_bytes(config.out / BUNDLE, best.path.read_bytes())
    return tuple(results)


def _one(config: TrainConfig, traffic: Split | None) -> Seeded:
    path = train(config, traffic=traffic)
    saving = bundles.load(path).card["saving_at_equal_attainment"]
    return Seeded(seed=config.seed, path=path, saving=saving)
