"""Training a policy: PPO on a fleet, validated against the classical controller, to one bundle."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gpupilot_agent import bundle as bundles
from gpupilot_agent.bundle import Bundle
from gpupilot_agent.fleet_validation import Score, Yardstick
from gpupilot_agent.forward import Network
from gpupilot_agent.ppo import DualAscent, build, layers_of
from gpupilot_agent.ppo_checkpoint import Checkpoint, restore, store
from gpupilot_agent.ppo_vec_env import FleetVecEnv, Totals
from gpupilot_agent.tracking import environment
from gpupilot_agent.training_config import OnProgress, Progress, TrainConfig
from gpupilot_agent.training_data import Material, prepare
from gpupilot_envs.atomic import write_text
from gpupilot_envs.fleet_control import FleetControl
from gpupilot_envs.workload.splits import Split

BUNDLE = "policy.npz"
CHECKPOINT = "checkpoint.pt"
LOG = "training.jsonl"

REWARD_OFFSET = 1.5
REWARD_SCALE = 0.1
"""Bring a typical return near 0 and its spread near 1, where the critic learns fastest."""


def train(
    config: TrainConfig, on_progress: OnProgress | None = None, *, traffic: Split | None = None
) -> Path:
    """Train a policy and return the path of its bundle.

    Args:
        config: Everything that decides the outcome, but wall time when ``max_seconds`` is set.
        on_progress: Called after every update.
        traffic: Traffic to use instead of what ``config`` names.

    Raises:
        InputInvalid: A profile, trace or target is wrong.
        SloInfeasible: No batch size meets the target.
        OutputRefused: The output folder cannot be written.
    """
    tell = on_progress or (lambda _: None)
    tell(Progress(phase="preparing", fraction=0.0))
    started_s = time.monotonic()
    material = prepare(config, traffic)
    run = _Run(config, material, tell, started_s)
    run.learn()
    path = config.out / BUNDLE
    bundles.save(run.bundle(), path)
    tell(run.progress("done"))
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class _Best:
    """The best checkpoint so far: its actor, its score and what it saves."""

    layers: Network
    score: Score
    saving: float
    frames: int


class _Run:
    """One training run: the model, the fleet, the yardstick and the best so far.

    Attributes:
        config: The record of the run.
        frames: Service-decisions so far, those before a resumption included.
    """

    def __init__(
        self, config: TrainConfig, material: Material, tell: OnProgress, started_s: float
    ) -> None:
        self.config = config
        self._material = material
        self._tell = tell
        self._started_s = started_s
        self._commit = str(environment()["commit"])
        self._log: list[dict[str, Any]] = []
        self._updates = 0
        self.frames = 0
        self._last = Totals()
        control = FleetControl(
            config.services,
            material.train,
            multiplier=config.ppo.multiplier,
            copies=config.copies,
            replicas_max=config.limits.replicas_max,
        )
        self._env = FleetVecEnv(
            control,
            seed=config.seed,
            reward_offset=REWARD_OFFSET,
            reward_scale=REWARD_SCALE,
        )
        tensorboard = str(config.out / "tensorboard") if config.tensorboard else None
        self._model = build(
            self._env,
            config.ppo,
            seed=config.seed,
            remaining=lambda: 1.0 - self.fraction,
            tensorboard=tensorboard,
        )
        self._yardstick = Yardstick(
            material.validation,
            config.controller,
            seed=config.seed + 1,
            services=config.validation_services,
            steps=config.validation_steps,
        )
        self._learning_s = time.monotonic()
        self._best = self._judged(layers_of(self._model), 0)
        if config.resume and (config.out / CHECKPOINT).exists():
            self._resume()

    @property
    def fraction(self) -> float:
        """Share of the training done, by frames or by time, whichever is further."""
        done = self.frames / self.config.frames
        if self.config.max_seconds is not None:
            elapsed_s = time.monotonic() - self._started_s
            done = max(done, elapsed_s / self.config.max_seconds)
        return min(done, 1.0)

    @property
    def _allowed_ratio(self) -> float:
        """Share of requests that may be late: the objective's, or the classical controller's own.

        Training draws harder services than the one the controller was tuned for. Where that
        controller misses the objective on them, a price that rose until the policy met it would
        buy attainment at any cost; so it rises only while the policy is later than both.
        """
        classical = self._yardstick.classical.late_ratio
        return max(1.0 - self.config.attainment_ratio, classical)

    def learn(self) -> None:
        """Train until the frames or the seconds are used up."""
        callback = DualAscent(
            self._env,
            self.config.ppo,
            updates_before=self._updates,
            allowed_ratio=self._allowed_ratio,
            on_rollout=self._after_rollout,
        )
        left = self.config.frames - self.frames
        if left > 0 and self.fraction < 1.0:
            self._model.learn(left, callback=callback, tb_log_name="ppo")
        self._consider(self._judged(layers_of(self._model), self.frames))
        self._keep()

    def bundle(self) -> Bundle:
        """Return the best checkpoint, its margin set to the lateness that is allowed."""
        best, config = self._best, self.config
        judged = self._bundle(best.layers)
        margin = self._yardstick.margin_for(judged.act, self._allowed_ratio)
        score = self._yardstick.score(judged.act, margin)
        controller = replace(config.controller, z=max(config.controller.z + margin, 0.0))
        card = {
            "world": "fleet (interval level), validation traffic; not a published result",
            "frames": best.frames,
            "seconds": time.monotonic() - self._started_s,
            "validation": asdict(score),
            "saving_at_equal_attainment": _finite(self._yardstick.saving(score)),
            "classical": asdict(self._yardstick.classical),
            "margin_shift": margin,
            "curve": self._log,
        }
        return replace(judged, controller=controller, card=card)

    def progress(self, phase: str) -> Progress:
        """Return how far the run is."""
        elapsed_s = time.monotonic() - self._learning_s
        done = self.fraction
        return Progress(
            phase=phase,
            fraction=done,
            eta_s=elapsed_s * (1.0 - done) / done if done > 0.0 else None,
            frames=self.frames,
            attainment_ratio=1.0 - self._last.late_ratio,
            cost_ratio=self._last.cost_ratio,
            multiplier=self._env.control.multiplier,
            saving=_finite(self._best.saving),
        )

    def _after_rollout(self, totals: Totals) -> bool:
        self._last = totals
        self.frames += totals.steps
        self._updates += 1
        if self._updates % self.config.validate_every == 0:
            self._consider(self._judged(layers_of(self._model), self.frames))
            self._keep()
        self._tell(self.progress("training"))
        return self.fraction < 1.0

    def _judged(self, layers: Network, frames: int) -> _Best:
        """Return an actor with its score on the validation fleet."""
        found = self._yardstick.score(self._bundle(layers).act)
        saving = self._yardstick.saving(found)
        return _Best(layers=layers, score=found, saving=saving, frames=frames)

    def _consider(self, candidate: _Best) -> None:
        """Keep the candidate where it saves more than the best so far."""
        self._log.append(
            {
                "frames": candidate.frames,
                "seconds": time.monotonic() - self._started_s,
                "saving": _finite(candidate.saving),
                "multiplier": self._env.control.multiplier,
                **asdict(candidate.score),
            }
        )
        if candidate.saving > self._best.saving:
            self._best = candidate

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
                frames=self.frames,
                updates=self._updates,
                multiplier=self._env.control.multiplier,
                log=self._log,
                best_frames=self._best.frames,
            ),
            self._best.layers,
        )
        lines = "".join(json.dumps(row) + "\n" for row in self._log)
        write_text(self.config.out / LOG, lines)

    def _resume(self) -> None:
        """Go on from the checkpoint: weights, optimiser, price and counts; episodes are new."""
        kept, best = restore(self.config.out / CHECKPOINT, self._model)
        self.frames = kept.frames
        self._updates = kept.updates
        self._env.control.multiplier = kept.multiplier
        self._log = list(kept.log)
        self._best = self._judged(best, kept.best_frames)


def _finite(saving: float) -> float | None:
    """Return ``None`` for a policy off the classical frontier: JSON knows no infinity."""
    return saving if math.isfinite(saving) else None
