"""The record of a training run: everything that decides its outcome, as one frozen dataclass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gpupilot_envs.controller import USUAL_SLOPE, Controller
from gpupilot_envs.embedded import DEFAULT
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.limits import Limits
from gpupilot_envs.scenarios import Ranges

PPO_BOUNDS: dict[str, tuple[float, float]] = {
    "n_steps": (1, 4096),
    "batch_size": (2, 1 << 22),
    "n_epochs": (1, 100),
    "gamma": (0.0, 1.0),
    "gae_lambda": (0.0, 1.0),
    "clip_range": (0.001, 1.0),
    "learning_rate": (0.0, 1.0),
    "learning_rate_end": (0.0, 1.0),
    "entropy": (0.0, 1.0),
    "hidden": (1, 1024),
    "keep_noise": (1, 4096),
    "neutral_logit": (0.0, 20.0),
    "critic_updates": (0, 1_000_000),
    "multiplier_rate": (0.0, 1.0),
}
"""Lowest and highest value of every setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PpoSettings:
    """Hyperparameters of PPO (Schulman et al., arXiv:1707.06347) and of the dual ascent.

    Attributes:
        n_steps: Decisions of every service between two updates.
        batch_size: Rows of one gradient step.
        n_epochs: Passes over the rollout per update.
        gamma: Discount per decision; 0.99 looks about eight minutes ahead.
        gae_lambda: Bias against variance of the advantage.
        clip_range: Largest relative change of a probability per update.
        learning_rate: Of Adam, at the start.
        learning_rate_end: Of Adam, at the end; linear between.
        entropy: Weight of the entropy bonus.
        hidden: Units of the two tanh layers of actor and critic.
        keep_noise: Decisions for which a service's exploration stays the same.
        neutral_logit: Lead of the neutral action's logit at the start.
        critic_updates: First updates that fit only the critic.
        multiplier_rate: Step size of the dual ascent.
    """

    n_steps: int = 64
    batch_size: int = 8192
    n_epochs: int = 3
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip_range: float = 0.2
    learning_rate: float = 2e-3
    learning_rate_end: float = 1e-4
    entropy: float = 0.001
    hidden: int = 64
    keep_noise: int = 64
    neutral_logit: float = 4.5
    critic_updates: int = 4
    multiplier_rate: float = 0.05

    def __post_init__(self) -> None:
        """Refuse what no training can use.

        Raises:
            InputInvalid: A number is out of its range; names it.
        """
        for name, (low, high) in PPO_BOUNDS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputInvalid(f"ppo.{name}", value, f"{low:g} to {high:g}")


FREE_ON_RESUME = (
    "out",
    "frames",
    "max_seconds",
    "patience",
    "checkpoint_s",
    "tensorboard",
    "resume",
)
"""Fields of :class:`TrainConfig` that a resumed training may change: how long, and where to."""

_LEAST = {
    "generated": 0,
    "services": 2,
    "copies": 1,
    "frames": 1,
    "validate_every": 1,
    "validation_services": 1,
    "validation_steps": 1,
    "seed": 0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """What ``gpupilot train`` takes, and what the bundle records of it.

    Attributes:
        out: Folder that receives ``policy.npz``, ``checkpoint.pt`` and ``training.jsonl``.
        profiles: Embedded names or files of the services to train on.
        geared: Those of them whose services have a menu of gears.
        target_ms: Latency target in milliseconds.
        attainment_ratio: Share of requests that must be in time.
        objectives: Attainments that services are drawn with, each with a price of its own; only
            ``attainment_ratio`` where none is given.
        latencies_ms: Latency targets that services are drawn with; only ``target_ms`` where none
            is given.
        latency_ratios: The same as multiples of a lone request's latency, for several profiles.
        traces: Rate traces to train on, split by day.
        generated: Number of generated traces beside them, of randomised families.
        controller: The classical controller the policy starts from and moves.
        frames: Service-decisions to train on at most.
        max_seconds: Wall-clock seconds after which training stops early.
        services: Services trained side by side, copies included.
        copies: How many of them are the same service on the same traffic, compared with each
            other.
        curriculum: Share of the services drawn from those on which the classical controller, which
            then runs the first of each group of copies, still wins; 0 draws all alike.
        validate_every: Updates between two validations.
        validation_services: Services of a validation.
        validation_steps: Decisions of each of them.
        episode_s: Length of an episode in seconds.
        seed: Decides traffic, services, weights and sampled actions.
        limits: Envelope of every service.
        ranges: What differs between services.
        ppo: Hyperparameters.
        start: Bundle whose actor training starts from; ``None`` for the classical controller.
        patience: Validations without a better one after which training stops early.
        checkpoint_s: Seconds after which a checkpoint is written even without a validation.
        tensorboard: Whether to write event files.
        resume: Whether to go on from ``checkpoint.pt`` where it exists.
    """

    out: Path
    profiles: tuple[str, ...] = (DEFAULT,)
    geared: tuple[str, ...] = ()
    target_ms: float = 60.0
    attainment_ratio: float = 0.99
    objectives: tuple[float, ...] = ()
    latencies_ms: tuple[float, ...] = ()
    latency_ratios: tuple[float, ...] = ()
    traces: tuple[Path, ...] = ()
    generated: int = 64
    controller: Controller = field(default_factory=lambda: Controller(z_per_log_price=USUAL_SLOPE))
    frames: int = 5_000_000
    max_seconds: float | None = None
    services: int = 512
    copies: int = 8
    curriculum: float = 0.5
    validate_every: int = 20
    validation_services: int = 192
    validation_steps: int = 480
    episode_s: float = 7200.0
    seed: int = 0
    limits: Limits = field(default_factory=lambda: Limits(replicas_max=64))
    ranges: Ranges = field(default_factory=Ranges)
    ppo: PpoSettings = field(default_factory=PpoSettings)
    start: Path | None = None
    patience: int | None = None
    checkpoint_s: float = 30.0
    tensorboard: bool = False
    resume: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            InputInvalid: A number is out of its range; names it.
        """
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value < least:
                raise InputInvalid(name, value, f"an integer of {least} or more")
        if self.services % self.copies:
            raise InputInvalid("services", self.services, f"a multiple of {self.copies}")
        for ratio in (self.attainment_ratio, *self.objectives):
            if not 0.5 <= ratio < 1.0:
                raise InputInvalid("attainment_ratio", ratio, "0.5 or more, below 1")
        for ratio in self.latency_ratios:
            if not 1.2 <= ratio <= 100.0:
                raise InputInvalid("latency_ratios", ratio, "1.2 to 100")
        if not 0.0 <= self.curriculum <= 1.0:
            raise InputInvalid("curriculum", self.curriculum, "0 to 1")
        if self.curriculum > 0.0 and self.copies == 1:
            raise InputInvalid("copies", self.copies, "2 or more with a curriculum")
        if self.max_seconds is not None and not self.max_seconds > 0.0:
            raise InputInvalid("max_seconds", self.max_seconds, "seconds above 0")
        if self.patience is not None and self.patience < 1:
            raise InputInvalid("patience", self.patience, "1 validation or more")
        if not self.checkpoint_s >= 0.0:
            raise InputInvalid("checkpoint_s", self.checkpoint_s, "seconds, 0 or more")
        if not self.profiles:
            raise InputInvalid("profiles", self.profiles, "at least one profile")
        if not set(self.geared) <= set(self.profiles):
            raise InputInvalid("geared", self.geared, "some of the profiles")

    def plain(self) -> dict[str, Any]:
        """Return the configuration as JSON-like values."""
        document = asdict(self)
        document["out"] = str(self.out)
        document["profiles"] = list(self.profiles)
        document["geared"] = list(self.geared)
        document["traces"] = [str(path) for path in self.traces]
        document["start"] = None if self.start is None else str(self.start)
        return document


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far training is, for a progress bar.

    Attributes:
        phase: What is being done: ``preparing``, ``training`` or ``done``.
        fraction: Share of the whole that is done, 0 to 1.
        eta_s: Seconds to go at the present pace; ``None`` while unknown.
        frames: Service-decisions so far.
        attainment_ratio: Share of requests in time during the last rollout, exploration included.
        cost_ratio: GPU time over what the mean demand needs, same rollout.
        multiplier: Price of a late request, mean over the objectives.
        saving: Last validation: GPU time saved against the classical controller at equal
            attainment, as a share; ``None`` before the first.
    """

    phase: str
    fraction: float
    eta_s: float | None = None
    frames: int = 0
    attainment_ratio: float | None = None
    cost_ratio: float | None = None
    multiplier: float | None = None
    saving: float | None = None


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """What a validation said.

    Attributes:
        frames: Service-decisions before it.
        saving: GPU time saved against the classical controller at equal attainment, as a share;
            ``None`` where their attainments do not meet.
    """

    frames: int
    saving: float | None


OnValidation = Callable[[Validation], None]
