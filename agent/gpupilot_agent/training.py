"""Training a policy: PPO on a fleet, validated against the classical controller, to one bundle."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3 import PPO

from gpupilot_agent import bundle as bundles
from gpupilot_agent.acquaintance import acquainted
from gpupilot_agent.bundle import Bundle
from gpupilot_agent.fleet_validation import Score, Trade, Yardstick, priced_objectives
from gpupilot_agent.forward import Network
from gpupilot_agent.ppo import DualAscent, adopt, build, layers_of
from gpupilot_agent.ppo_checkpoint import AtBoundary, Checkpoint, made_with, restore, store
from gpupilot_agent.ppo_vec_env import FleetVecEnv, Totals
from gpupilot_agent.slices import plain, regrets, slices
from gpupilot_agent.tracking import environment, held
from gpupilot_agent.training_config import (
    OnProgress,
    OnValidation,
    Progress,
    TrainConfig,
    Validation,
)
from gpupilot_agent.training_data import Material, made_by, prepare
from gpupilot_agent.training_file import write_config
from gpupilot_agent.training_sample import SAMPLE, keep_sample
from gpupilot_envs.atomic import write_text
from gpupilot_envs.curriculum import Curriculum
from gpupilot_envs.fleet_control import FleetControl
from gpupilot_envs.objective import first_price
from gpupilot_envs.workload.splits import Split

BUNDLE = "policy.npz"
CHECKPOINT = "checkpoint.pt"
LOG = "training.jsonl"
CONFIG = "config.yaml"

SLICES_SEED = 500_000
"""Added to a training's seed to draw services that did not choose its checkpoint."""

REWARD_OFFSET = 1.5
REWARD_SCALE = 0.1
"""Bring a typical return near 0 and its spread near 1, where the critic learns fastest."""


def train(
    config: TrainConfig,
    on_progress: OnProgress | None = None,
    *,
    traffic: Split | None = None,
    on_validation: OnValidation | None = None,
) -> Path:
    """Train a policy and return the path of its bundle.

    A training killed at any moment and resumed ends with the same weights, bit for bit, as one
    that was never interrupted, unless ``max_seconds`` decides when it ends.

    Args:
        config: Everything that decides the outcome, but wall time when ``max_seconds`` is set.
        on_progress: Called after every update.
        traffic: Traffic to use instead of what ``config`` names.
        on_validation: Called after every validation; an exception it raises ends the training.

    Raises:
        InputInvalid: A profile, trace or target is wrong, or the checkpoint is another training's.
        SloInfeasible: No batch size meets the target.
        OutputRefused: The output folder cannot be written, or is being trained into now.
        BundleRefused: The policy to start from does not fit.
    """
    tell = on_progress or (lambda _: None)
    tell(Progress(phase="preparing", fraction=0.0))
    started_s = time.monotonic()
    path = config.out / BUNDLE
    with held(config.out, "training"):
        material = prepare(config, traffic)
        write_config(config, config.out / CONFIG)
        run = _Run(config, material, tell, on_validation or (lambda _: None), started_s)
        if not (run.resumed and run.finished and path.exists()):
            run.learn()
            run.keep_sample()
            bundles.save(run.bundle(), path)
    tell(run.progress("done"))
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class _Best:
    """The best actor so far and the validation that found it, as it stands in the log."""

    layers: Network
    row: dict[str, Any]

    @property
    def saving(self) -> float:
        """GPU time saved at equal attainment, minus infinity off the scale."""
        return -math.inf if self.row["saving"] is None else float(self.row["saving"])


class _Run:
    """One training run: the model, the fleet, the yardstick and the best so far.

    Attributes:
        config: The record of the run.
        frames: Service-decisions so far, those before a resumption included.
        resumed: Whether it goes on from a checkpoint.
    """

    def __init__(
        self,
        config: TrainConfig,
        material: Material,
        tell: OnProgress,
        validated: OnValidation,
        started_s: float,
    ) -> None:
        self.config = config
        self._material = material
        self._tell = tell
        self._validated = validated
        self._started_s = self._kept_s = started_s
        self._commit = str(environment()["commit"])
        self._log: list[dict[str, Any]] = []
        self._updates = self._seen = self._since_best = 0
        self._ended = self._learns = False
        self.frames = 0
        self._last = Totals.of(len(material.train.objectives))
        self._start = None if config.start is None else _start(config.start, config.seed)
        self._env = self._fleet()
        self._model = self._learner()
        self._yardstick = Yardstick(
            material.validation,
            config.controller,
            seed=config.seed + 1,
            services=config.validation_services,
            steps=config.validation_steps,
        )
        self._made_by = made_by(config, material)
        self._shared = {"tables": material.train.tables, "rates": material.train.rates}
        made_with()  # before a long run, in which the sources may be edited
        self.resumed = config.resume and (config.out / CHECKPOINT).exists()
        if self.resumed:
            self._resume()
        else:
            layers = layers_of(self._model)
            self._best = _Best(layers=layers, row=self._judged(layers))
            self._log.append(self._best.row)
        self._learning_s, self._done_before = time.monotonic(), self.fraction

    def _fleet(self) -> FleetVecEnv:
        config, objectives = self.config, self._material.train.objectives
        control = FleetControl(
            config.services,
            self._material.train,
            multiplier=np.array([first_price(ratio) for ratio in objectives]),
            copies=config.copies,
            curriculum=Curriculum(config.curriculum) if config.curriculum > 0.0 else None,
            replicas_max=config.limits.replicas_max,
        )
        return FleetVecEnv(
            control, seed=config.seed, reward_offset=REWARD_OFFSET, reward_scale=REWARD_SCALE
        )

    def _learner(self) -> PPO:
        config, start = self.config, self._start
        settings = config.ppo
        if start is not None:
            settings = replace(settings, hidden=start[0][0].shape[1])
        model = build(
            self._env,
            settings,
            seed=config.seed,
            remaining=lambda: 1.0 - self.fraction,
            tensorboard=str(config.out / "tensorboard") if config.tensorboard else None,
        )
        if start is not None:
            adopt(model, start)
        return model

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start, interruptions left out."""
        return time.monotonic() - self._started_s

    @property
    def fraction(self) -> float:
        """Share of the training done, by frames or by time, whichever is further."""
        done = self.frames / self.config.frames
        if self.config.max_seconds is not None:
            done = max(done, self.elapsed_s / self.config.max_seconds)
        return min(done, 1.0)

    @property
    def finished(self) -> bool:
        """Whether the frames, the seconds or the patience are used up."""
        patience = self.config.patience
        return self.fraction >= 1.0 or (patience is not None and self._since_best >= patience)

    def learn(self) -> None:
        """Train until the frames, the seconds or the patience are used up."""
        ascent = DualAscent(
            self._env,
            self.config.ppo,
            updates_before=self._updates,
            on_rollout=self._after_rollout,
        )
        left = self.config.frames - self.frames
        if not self.finished:
            self._learns = True
            self._model.learn(
                left,
                callback=[ascent, AtBoundary(self._at_boundary)],
                reset_num_timesteps=False,
                tb_log_name="ppo",
            )
        if not self._ended:
            self._end()

    def bundle(self) -> Bundle:
        """Return the best checkpoint with the prices at which it meets each objective."""
        config, row = self.config, self._best.row
        scores = tuple(Score(**score) for score in row["scores"])
        trade = Trade(knobs=tuple(row["prices"]), scores=scores)
        card = {
            "world": "fleet (interval level), validation traffic; not a published result",
            "frames": row["frames"],
            "seconds": self.elapsed_s,
            "validation": asdict(trade),
            "saving_at_equal_attainment": row["saving"],
            "classical": asdict(self._yardstick.classical),
            "curve": self._log,
        }
        prices = priced_objectives(trade, one_kind=len(self._material.train.objectives) == 1)
        priced = replace(self._bundle(self._best.layers), prices=prices, card=card)
        return acquainted(
            replace(priced, card={**card, **self._by_slice(priced)}),
            self._material.train,
            seed=config.seed + 2,
            services=config.validation_services,
            steps=config.validation_steps,
        )

    def _by_slice(self, bundle: Bundle) -> dict[str, Any]:
        """Return where the policy stands, and what training still regretted at its end."""
        config, curriculum = self.config, self._env.control.curriculum
        found = slices(
            self._material.validation,
            bundle.act,
            prices=np.array([bundle.price(r) for r in self._material.validation.objectives]),
            seed=config.seed + SLICES_SEED,
            services=2 * config.validation_services,
            steps=config.validation_steps,
        )
        regretted = [] if curriculum is None else regrets(self._material.train, curriculum)
        return {"slices": plain(found), "curriculum": regretted}

    def keep_sample(self) -> None:
        """Write what the best policy meets and does on validation at its objective."""
        bundle = self.bundle()
        price = bundle.price(self.config.attainment_ratio)
        keep_sample(self.config.out / SAMPLE, self._yardstick, bundle.act, price)

    def progress(self, phase: str) -> Progress:
        """Return how far the run is."""
        elapsed_s = time.monotonic() - self._learning_s
        done, since = self.fraction, self.fraction - self._done_before
        return Progress(
            phase=phase,
            fraction=1.0 if phase == "done" else done,
            eta_s=elapsed_s * (1.0 - done) / since if since > 0.0 else None,
            frames=self.frames,
            attainment_ratio=1.0 - self._last.late_ratio if self._last.steps else None,
            cost_ratio=self._last.cost_ratio if self._last.steps else None,
            multiplier=float(self._env.control.multipliers.mean()),
            saving=_finite(self._best.saving),
        )

    def _after_rollout(self, totals: Totals) -> bool:
        self._last = totals
        self.frames = int(self._model.num_timesteps)
        self._updates += 1
        return True

    def _at_boundary(self) -> bool:
        """Validate and keep what was learned where it is time to; return whether to go on."""
        if self._updates > self._seen:
            self._seen = self._updates
            self._tell(self.progress("training"))
            due = self._updates % self.config.validate_every == 0
            if due:
                self._validate()
            if due or time.monotonic() - self._kept_s > self.config.checkpoint_s:
                self._keep()
        if self.finished:
            self._end()
        return not self._ended

    def _end(self) -> None:
        """Validate what was learned last and keep it, while the run can still be resumed."""
        if self._updates > self._seen:
            self._seen = self._updates
            self._tell(self.progress("training"))
        if self._log[-1]["updates"] < self._updates:
            self._validate()
        self._keep()
        self._ended = True

    def _validate(self) -> None:
        """Judge the present actor, and take it where it saves more than the best so far."""
        layers = layers_of(self._model)
        found = _Best(layers=layers, row=self._judged(layers))
        self._since_best += 1
        if found.saving > self._best.saving:
            self._best, self._since_best = found, 0
        self._log.append(found.row)
        if self._learns:
            self._model.logger.record("validation/saving", found.saving)
        self._validated(Validation(frames=self.frames, saving=_finite(found.saving)))

    def _judged(self, layers: Network) -> dict[str, Any]:
        """Return what an actor does on the validation fleet, as a row of the log."""
        trade = self._yardstick.trade(self._bundle(layers).act)
        return {
            "frames": self.frames,
            "updates": self._updates,
            "seconds": self.elapsed_s,
            "saving": _finite(self._yardstick.saving(trade)),
            "multipliers": self._env.control.multipliers.tolist(),
            "rollout_late_ratio": self._last.late_ratio if self._last.steps else None,
            "rollout_cost_ratio": self._last.cost_ratio if self._last.steps else None,
            "prices": list(trade.knobs),
            "scores": [asdict(score) for score in trade.scores],
        }

    def _bundle(self, layers: Network) -> Bundle:
        config = self.config
        return Bundle(
            networks=(layers,),
            controller=config.controller,
            config=config.plain(),
            seeds={"training": config.seed, "validation": config.seed + 1},
            trace_hashes=self._material.trace_hashes,
            commit=self._commit,
            card={},
        )

    def _keep(self) -> None:
        """Write the checkpoint and the learning curve, each whole."""
        store(
            self.config.out / CHECKPOINT,
            self._model,
            Checkpoint(
                updates=self._updates,
                elapsed_s=self.elapsed_s,
                log=self._log,
                best=self._best.row,
                since_best=self._since_best,
            ),
            self._best.layers,
            made_by=self._made_by,
            shared=self._shared,
        )
        self._kept_s = time.monotonic()
        lines = "".join(json.dumps(row) + "\n" for row in self._log)
        write_text(self.config.out / LOG, lines)

    def _resume(self) -> None:
        """Go on from the checkpoint as if there had been no interruption."""
        kept, best = restore(
            self.config.out / CHECKPOINT, self._model, made_by=self._made_by, shared=self._shared
        )
        self.frames = int(self._model.num_timesteps)
        self._updates = self._seen = kept.updates
        self._since_best = kept.since_best
        self._started_s = time.monotonic() - kept.elapsed_s
        self._log = list(kept.log)
        self._best = _Best(layers=best, row=kept.best)


def _start(path: Path, seed: int) -> Network:
    """Return the network to start from; of several, another one for each seed."""
    networks = bundles.load(path).networks
    return networks[seed % len(networks)]


def _finite(saving: float) -> float | None:
    """Return ``None`` for a policy off the classical frontier: JSON knows no infinity."""
    return saving if math.isfinite(saving) else None
