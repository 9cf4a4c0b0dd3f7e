"""What a training left behind, read for its report: one folder, or one folder per seed."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpupilot_agent.bundle import Bundle, load
from gpupilot_agent.fleet_validation import Score, Trade
from gpupilot_agent.seed_spread import Spread, spread
from gpupilot_agent.training_sample import SAMPLE, Sample, read_sample
from gpupilot_envs.errors import InputInvalid

BUNDLE = "policy.npz"
LOG = "training.jsonl"

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """One training with one seed.

    Attributes:
        bundle: Its best policy, with configuration and card.
        rows: Its validations, the untrained policy first.
        sample: What the best policy met and did on validation.
    """

    bundle: Bundle
    rows: tuple[dict[str, Any], ...]
    sample: Sample

    @property
    def seed(self) -> int:
        """Its seed."""
        return int(self.bundle.seeds["training"])

    @property
    def saving(self) -> float | None:
        """GPU time its best policy saves on validation at equal attainment, as a share."""
        found: float | None = self.bundle.card["saving_at_equal_attainment"]
        return found

    def column(self, name: str) -> Floats:
        """Return a number of every validation, NaN where there was none."""
        return np.array([math.nan if row[name] is None else row[name] for row in self.rows])

    def frontier(self, name: str) -> Trade:
        """Return a frontier of the evaluation card: ``validation`` or ``classical``."""
        found = self.bundle.card[name]
        scores = tuple(Score(**score) for score in found["scores"])
        return Trade(knobs=tuple(found["knobs"]), scores=scores)


@dataclass(frozen=True, slots=True, kw_only=True)
class Learning:
    """All seeds of a training, in the order of their numbers.

    Attributes:
        seeds: At least one.
    """

    seeds: tuple[Trained, ...]

    @property
    def config(self) -> dict[str, Any]:
        """The configuration of the first seed; of the others all but the seed is the same."""
        return dict(self.seeds[0].bundle.config)

    @property
    def best(self) -> Trained:
        """The seed that did best on validation."""
        return max(self.seeds, key=lambda s: -math.inf if s.saving is None else s.saving)

    @property
    def saving(self) -> Spread:
        """What the seeds save, together."""
        return spread(trained.saving for trained in self.seeds)

    @property
    def objectives(self) -> tuple[float, ...]:
        """Attainments that were trained for, each with a price of its own."""
        config = self.config
        return tuple(config.get("objectives") or [config["attainment_ratio"]])

    @property
    def frames(self) -> Floats:
        """Service-decisions at the validations of the longest training."""
        longest = max(self.seeds, key=lambda trained: len(trained.rows))
        return longest.column("frames")

    def together(self, columns: list[Floats]) -> list[Spread]:
        """Return, validation by validation, what the seeds that got there have in common."""
        longest = max(len(column) for column in columns)
        return [
            spread(float(column[at]) for column in columns if at < len(column))
            for at in range(longest)
        ]


def read_learning(folder: Path) -> Learning:
    """Read what ``gpupilot train`` wrote, with one seed or with several.

    Raises:
        InputInvalid: The folder holds no finished training, or a damaged file.
        BundleRefused: A policy is damaged or of another version.
    """
    folders = sorted(
        (found for found in folder.glob("seed-*") if (found / BUNDLE).exists()),
        key=lambda found: int(found.name.removeprefix("seed-")),
    )
    if not folders and not (folder / LOG).exists():
        raise InputInvalid(str(folder), "no training", f"a folder with {BUNDLE} and {LOG}")
    return Learning(seeds=tuple(_trained(found) for found in folders or [folder]))


def is_training(folder: Path) -> bool:
    """Tell whether a folder looks like a training's."""
    return (folder / LOG).exists() or any(folder.glob(f"seed-*/{LOG}"))


def _trained(folder: Path) -> Trained:
    return Trained(
        bundle=load(folder / BUNDLE),
        rows=_rows(folder / LOG),
        sample=read_sample(folder / SAMPLE),
    )


def _rows(path: Path) -> tuple[dict[str, Any], ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = tuple(json.loads(line) for line in lines)
    except OSError as error:
        raise InputInvalid(str(path), error.strerror, "what `gpupilot train` wrote") from error
    except ValueError as error:
        raise InputInvalid(str(path), "malformed JSON", "what `gpupilot train` wrote") from error
    if not rows:
        raise InputInvalid(str(path), "empty", "one validation or more")
    return rows
