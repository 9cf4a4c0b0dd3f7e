"""The same training with several seeds side by side, and the best of them by validation.

How good one run is says little about the method: PPO's seeds differ. Each seed is a process of
its own with one thread, because two threads in one small network wait for each other.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from gpupilot_agent import bundle as bundles
from gpupilot_agent.fleet_validation import Score, Trade
from gpupilot_agent.training import BUNDLE, train
from gpupilot_agent.training_config import Progress, TrainConfig
from gpupilot_envs.atomic import write_bytes, write_text
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.workload.splits import Split

PROGRESS = "progress.json"
"""In the folder of a seed while it trains: how far it is."""

SAY_EVERY_S = 1.0
LOOK_EVERY_S = 0.2

OnSeedProgress = Callable[[int, Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeded:
    """What training with one seed came to.

    Attributes:
        seed: The seed.
        path: Its bundle.
        frames: Service-decisions after which its best actor was found.
        saving: GPU time saved on validation against the classical controller at equal
            attainment, as a share; ``None`` where their attainments do not meet.
        cost_ratio: GPU time over what the mean demand needs, on validation at the objective's
            attainment; ``None`` where that is beyond what was measured.
    """

    seed: int
    path: Path
    frames: int
    saving: float | None
    cost_ratio: float | None


def train_seeds(
    config: TrainConfig,
    seeds: Sequence[int],
    *,
    jobs: int,
    on_progress: OnSeedProgress | None = None,
    traffic: Split | None = None,
) -> tuple[Seeded, ...]:
    """Train once per seed into ``out/seed-N`` and copy the best bundle to ``out``.

    Args:
        config: The run; its own seed is replaced.
        seeds: Seeds, all different.
        jobs: Processes that work at once.
        on_progress: Called with a seed and how far it is, now and then.
        traffic: Traffic to use instead of what ``config`` names.

    Returns:
        One result per seed, in their order.

    Raises:
        InputInvalid: No seed, or one given twice, or what :func:`training.train` refuses.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise InputInvalid("seeds", list(seeds), "one or more different seeds")
    runs = [replace(config, seed=seed, out=config.out / f"seed-{seed}") for seed in seeds]
    with _watched(runs, on_progress or (lambda *_: None)):
        results = tuple(Parallel(n_jobs=jobs)(delayed(_one)(run, traffic) for run in runs))
    write_bytes(config.out / BUNDLE, best_of(results).path.read_bytes())
    return results


def best_of(results: Sequence[Seeded]) -> Seeded:
    """Return the seed that did best on validation: chosen, so its own number flatters it."""
    return max(results, key=lambda result: -math.inf if result.saving is None else result.saving)


def _one(config: TrainConfig, traffic: Split | None) -> Seeded:
    path = train(config, _Saying(config.out / PROGRESS), traffic=traffic)
    card = bundles.load(path).card
    return Seeded(
        seed=config.seed,
        path=path,
        frames=card["frames"],
        saving=card["saving_at_equal_attainment"],
        cost_ratio=_cost(card["validation"], 1.0 - config.attainment_ratio),
    )


def _cost(validation: Mapping[str, Any], late_ratio: float) -> float | None:
    """Return what a frontier of an evaluation card costs where so many requests are late."""
    trade = Trade(
        knobs=tuple(validation["knobs"]),
        scores=tuple(Score(**score) for score in validation["scores"]),
    )
    cost = float(trade.cost(np.log(late_ratio)))
    return cost if math.isfinite(cost) else None


class _Saying:
    """Writes now and then into a file how far a seed is, for the process that shows it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._said_s = -math.inf

    def __call__(self, progress: Progress) -> None:
        done = progress.phase == "done"
        if not done and time.monotonic() - self._said_s < SAY_EVERY_S:
            return
        self._said_s = time.monotonic()
        write_text(self._file, json.dumps(asdict(progress)))


@contextmanager
def _watched(runs: Sequence[TrainConfig], tell: OnSeedProgress) -> Iterator[None]:
    """Tell how far the seeds are while the block runs, and once more at its end."""
    ended = Event()

    def watch() -> None:
        said: dict[int, Progress] = {}
        last = False
        while not last:
            last = ended.wait(LOOK_EVERY_S)
            for run in runs:
                found = _progress(run.out / PROGRESS)
                if found is not None and found != said.get(run.seed):
                    said[run.seed] = found
                    tell(run.seed, found)

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        for run in runs:
            (run.out / PROGRESS).unlink(missing_ok=True)


def _progress(file: Path) -> Progress | None:
    try:
        return Progress(**json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
