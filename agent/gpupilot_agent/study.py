"""The search for PPO settings: an Optuna study in a database, bad trials ended early.

A trial is a training with the settings Optuna proposes (Akiba et al., KDD 2019; the sampler is the
tree-structured Parzen estimator, the pruner the median rule). What a trial is worth is what its
policy saves on validation at equal attainment. All trials share seed, traffic and validation, so
the best of many is flattered: train it again with other seeds before believing its number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Event, Thread
from typing import Any, Literal

import optuna
from joblib import Parallel, delayed
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from gpupilot_agent import bundle as bundles
from gpupilot_agent.tracking import digest, held
from gpupilot_agent.training import CHECKPOINT, train
from gpupilot_agent.training_config import FREE_ON_RESUME, PpoSettings, TrainConfig, Validation
from gpupilot_agent.training_file import write_config
from gpupilot_envs.errors import InputInvalid

BEST = "best.yaml"
DATABASE = "study.db"
TRIALS = "trials"

STAGES = 10
"""Moments of a training at which trials are compared with each other."""

OFF_SCALE = -1.0
"""What a trial is worth whose attainment the classical controller cannot be compared at."""

LOOK_EVERY_S = 1.0

_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """One setting of :class:`PpoSettings` that a study varies.

    Attributes:
        name: Of the setting.
        scale: ``choice`` between ``values``; else from the first to the second of them, evenly
            in the value (``linear``), in its logarithm (``log``), or in whole numbers (``whole``).
        values: See ``scale``.
    """

    name: str
    scale: Literal["choice", "linear", "log", "whole"]
    values: tuple[float, ...]

    def suggested(self, trial: optuna.Trial) -> Any:
        """Return the value that Optuna proposes."""
        if self.scale == "choice":
            return trial.suggest_categorical(self.name, self.values)
        low, high = self.values
        if self.scale == "whole":
            return trial.suggest_int(self.name, int(low), int(high))
        return trial.suggest_float(self.name, low, high, log=self.scale == "log")

    def holds(self, value: float) -> bool:
        """Tell whether a study may propose ``value``."""
        if self.scale == "choice":
            return value in self.values
        return self.values[0] <= value <= self.values[1]


SPACE: tuple[Searched, ...] = (
    Searched(name="n_steps", scale="choice", values=(32, 64, 128)),
    Searched(name="batch_size", scale="choice", values=(2048, 4096, 8192, 16384)),
    Searched(name="n_epochs", scale="whole", values=(2, 8)),
    Searched(name="gamma", scale="choice", values=(0.95, 0.97, 0.98, 0.99, 0.995)),
    Searched(name="gae_lambda", scale="linear", values=(0.8, 0.98)),
    Searched(name="clip_range", scale="linear", values=(0.1, 0.4)),
    Searched(name="learning_rate", scale="log", values=(3e-4, 6e-3)),
    Searched(name="learning_rate_end", scale="log", values=(1e-5, 3e-4)),
    Searched(name="entropy", scale="log", values=(1e-5, 1e-2)),
    Searched(name="hidden", scale="choice", values=(32, 64, 96)),
    Searched(name="neutral_logit", scale="linear", values=(0.25, 3.0)),
    Searched(name="critic_updates", scale="whole", values=(1, 8)),
    Searched(name="multiplier_rate", scale="log", values=(0.01, 0.2)),
)
"""What a study varies, and how far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyConfig:
    """A study.

    Attributes:
        base: The training whose settings are searched; its ``out`` receives ``best.yaml``, the
            trials and, unless ``storage`` says otherwise, the database.
        trials: Trials the study is to have in the end, those of earlier runs included.
        storage: Database URL, ``None`` for a SQLite file in the folder.
        name: Name of the study in its database.
        startup: Trials proposed at random, and never ended early, before Optuna learns from them.
    """

    base: TrainConfig
    trials: int
    storage: str | None = None
    name: str = "gpupilot"
    startup: int = 6

    @property
    def url(self) -> str:
        """The database."""
        return self.storage or f"sqlite:///{self.base.out / DATABASE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a study found so far.

    Attributes:
        best: Where the best configuration was written, ``None`` before the first whole trial.
        saving: What its policy saved on validation at equal attainment.
        settings: Its settings that were searched.
        complete: Trials that were trained to their end.
        pruned: Trials that were ended early.
        running: Trials under way.
    """

    best: Path | None
    saving: float | None
    settings: dict[str, float]
    complete: int
    pruned: int
    running: int


OnTrial = Callable[[Found], None]


def study(config: StudyConfig, *, jobs: int = 1, on_trial: OnTrial | None = None) -> Found:
    """Search until the study has its trials, and write the best configuration.

    Interrupted, the same call goes on: whole trials stay, broken ones are trained on from their
    checkpoints.

    Args:
        config: The study.
        jobs: Processes that train at once; with more than one, what is proposed depends on which
            trial ends first.
        on_trial: Called as trials begin and end.

    Raises:
        InputInvalid: The database cannot be used or holds another study of that name, or what
            :func:`training.train` refuses.
        OutputRefused: The folder cannot be written, or a study is running in it.
    """
    out = config.base.out
    with held(out, "study"):
        opened = _opened(config)
        _claim(opened, config)
        left = config.trials - _count(opened, *_ENDED)
        with _watched(opened, config, on_trial or (lambda _: None)):
            _search(config, _shares(left, jobs))
    return _found(opened, config)


def _search(config: StudyConfig, shares: Sequence[int]) -> None:
    if len(shares) == 1:
        _work(config, shares[0], 0)
    elif shares:
        Parallel(n_jobs=len(shares))(
            delayed(_work)(config, share, worker) for worker, share in enumerate(shares)
        )


def _shares(left: int, jobs: int) -> list[int]:
    """Return how many trials each process takes on, as even as can be."""
    return [left // jobs + (worker < left % jobs) for worker in range(jobs) if worker < left]


def _work(config: StudyConfig, trials: int, worker: int) -> None:
    opened = _opened(config, worker)
    opened.optimize(lambda trial: _value(trial, config), n_trials=trials)


def _value(trial: optuna.Trial, config: StudyConfig) -> float:
    """Train with the settings of a trial and return what the policy saves."""
    settings = {searched.name: searched.suggested(trial) for searched in SPACE}
    folder = config.base.out / TRIALS / digest(settings)[:12]
    asked = replace(config.base, out=folder, ppo=replace(config.base.ppo, **settings), resume=True)
    trial.set_user_attr("folder", folder.name)
    try:
        path = train(asked, on_validation=_Judge(trial, config.base.frames))
    except optuna.TrialPruned:
        (folder / CHECKPOINT).unlink(missing_ok=True)
        raise
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return _worth(bundles.load(path).card["saving_at_equal_attainment"])


class _Judge:
    """Tells Optuna what a trial is worth so far, at moments that all trials share."""

    def __init__(self, trial: optuna.Trial, frames: int) -> None:
        self._trial, self._frames = trial, frames
        self._best, self._stage = OFF_SCALE, 0

    def __call__(self, validation: Validation) -> None:
        self._best = max(self._best, _worth(validation.saving))
        reached = min(STAGES * validation.frames // self._frames, STAGES)
        for stage in range(self._stage + 1, reached + 1):
            self._trial.report(self._best, step=stage)
        self._stage = reached
        if reached < STAGES and self._trial.should_prune():
            raise optuna.TrialPruned


def _worth(saving: float | None) -> float:
    return OFF_SCALE if saving is None else max(saving, OFF_SCALE)


def _opened(config: StudyConfig, worker: int = 0) -> optuna.Study:
    """Return the study, made when there is none of its name.

    Raises:
        InputInvalid: The URL is none, or the database cannot be used.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        storage = optuna.storages.RDBStorage(config.url, engine_kwargs=_engine(config.url))
        opened = optuna.create_study(
            storage=storage, study_name=config.name, direction="maximize", load_if_exists=True
        )
    except (SQLAlchemyError, ImportError, RuntimeError, ValueError) as error:
        allowed = "a database that can be opened, such as sqlite:///study.db"
        raise InputInvalid("--storage", config.url, allowed) from error
    # a sampler that began again with the same seed would propose what it proposed before
    seed = config.base.seed + 1000 * worker + len(opened.get_trials(deepcopy=False))
    opened.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=config.startup)
    opened.pruner = optuna.pruners.MedianPruner(
        n_startup_trials=config.startup, n_warmup_steps=STAGES // 4
    )
    return opened


def _engine(url: str) -> dict[str, Any]:
    """Let several processes wait for each other at one SQLite file."""
    return {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}


def _claim(opened: optuna.Study, config: StudyConfig) -> None:
    """Make the study ours: refuse another's, and take up what an interruption left behind.

    Raises:
        InputInvalid: The study of that name searches something else.
    """
    plain = config.base.plain()
    for name in {*FREE_ON_RESUME} - {"frames"}:
        del plain[name]
    identity = digest({"training": plain, "space": [asdict(searched) for searched in SPACE]})
    known = opened.user_attrs.get("identity")
    if known not in (None, identity):
        allowed = "the configuration it was begun with, or another --name"
        raise InputInvalid("--name", config.name, allowed)
    if known is None:
        opened.set_user_attr("identity", identity)
        opened.enqueue_trial(_start(config.base.ppo))
    _take_up(opened, config.base.out / TRIALS)


def _take_up(opened: optuna.Study, trials: Path) -> None:
    """Let every trial that an interruption broke off be trained on from its checkpoint."""
    for trial in opened.get_trials(states=(TrialState.RUNNING,)):
        opened.tell(trial.number, state=TrialState.FAIL)
    waiting = [
        trial.system_attrs.get("fixed_params")
        for trial in opened.get_trials(states=(TrialState.WAITING,))
    ]
    for trial in opened.get_trials(states=(TrialState.FAIL,)):
        folder = trials / trial.user_attrs.get("folder", "none")
        if (folder / CHECKPOINT).exists() and trial.params not in waiting:
            opened.enqueue_trial(trial.params)
            waiting.append(trial.params)


def _start(settings: PpoSettings) -> dict[str, float]:
    """Return the settings the search begins with: those of the training itself."""
    values = asdict(settings)
    return {s.name: values[s.name] for s in SPACE if s.holds(values[s.name])}


def _count(opened: optuna.Study, *states: TrialState) -> int:
    return len(opened.get_trials(deepcopy=False, states=states))


def _found(opened: optuna.Study, config: StudyConfig) -> Found:
    complete = _count(opened, TrialState.COMPLETE)
    best = opened.best_trial if complete else None
    return Found(
        best=None if best is None else config.base.out / BEST,
        saving=None if best is None else best.value,
        settings={} if best is None else dict(best.params),
        complete=complete,
        pruned=_count(opened, TrialState.PRUNED),
        running=_count(opened, TrialState.RUNNING),
    )


def _write_best(found: Found, config: StudyConfig) -> None:
    if found.best is not None:
        settings = replace(config.base.ppo, **found.settings)  # type: ignore[arg-type]
        write_config(replace(config.base, ppo=settings), found.best)


@contextmanager
def _watched(opened: optuna.Study, config: StudyConfig, tell: OnTrial) -> Iterator[None]:
    """Write and tell what was found whenever it changed while the block runs, and at its end."""
    ended = Event()

    def watch() -> None:
        said: Found | None = None
        last = False
        while not last:
            last = ended.wait(LOOK_EVERY_S)
            found = _found(opened, config)
            if found != said:
                said = found
                _write_best(found, config)
                tell(found)

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
