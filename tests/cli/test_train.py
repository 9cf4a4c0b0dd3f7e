"""`gpupilot train` passes on what it was asked; training itself is tested where it lives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from gpupilot_agent import training, training_seeds
from gpupilot_agent.cli.train import card_rows, remark
from gpupilot_agent.training_config import Progress, TrainConfig
from gpupilot_agent.training_seeds import Seeded
from gpupilot_envs.errors import InputInvalid

Shell = Callable[..., Any]


class Asked(InputInvalid):
    """Carries the configuration out of the command; training needs minutes."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[TrainConfig]:
    configs: list[TrainConfig] = []

    def train(config: TrainConfig, on_progress: Callable[[Progress], None]) -> Path:
        on_progress(Progress(phase="training", fraction=1.0, saving=0.05))
        configs.append(config)
        raise Asked("train", "stopped", "no more")

    monkeypatch.setattr(training, "train", train)
    return configs


def test_options_reach_the_training(
    shell: Shell, asked: list[TrainConfig], traces: Path, tmp_path: Path
) -> None:
    words = ("--profile", "mobilenetv4-cpu", "--traces", traces, "--target-ms", 40)
    more = ("--attainment", 99.5, "--minutes", 2, "--frames", 1000, "--services", 8, "--seed", 5)
    ended = shell("train", *words, *more, "--out", tmp_path / "bundle")
    (config,) = asked
    assert config.profiles == ("mobilenetv4-cpu",)
    assert [path.name for path in config.traces] == ["busy.csv", "calm.csv"]
    assert (config.target_ms, config.attainment_ratio) == (40.0, 0.995)
    assert (config.max_seconds, config.frames, config.services, config.seed) == (120.0, 1000, 8, 5)
    assert "training: 100 % training, +5.0 % GPU time saved on validation" in ended.err


def test_defaults_are_those_of_the_configuration(
    shell: Shell, asked: list[TrainConfig], tmp_path: Path
) -> None:
    shell("train", "--out", tmp_path / "bundle")
    assert asked == [TrainConfig(out=tmp_path / "bundle")]


def test_a_used_folder_is_only_taken_to_resume(
    shell: Shell, asked: list[TrainConfig], tmp_path: Path
) -> None:
    (tmp_path / "checkpoint.pt").touch()
    assert "not empty" in shell("train", "--out", tmp_path).err
    assert asked == []
    shell("train", "--resume", "--out", tmp_path)
    assert asked[0].resume


def test_a_card_becomes_rows_without_its_curve() -> None:
    card = {"frames": 3, "validation": {"late_ratio": 0.01234}, "curve": [{"frames": 1}]}
    assert card_rows(card) == [("frames", "3"), ("validation.late_ratio", "0.01234")]


def test_before_the_first_validation_nothing_is_claimed() -> None:
    assert remark(Progress(phase="preparing", fraction=0.0)) == "preparing"


def test_several_seeds_train_side_by_side_and_each_is_told(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[list[int], int]] = []

    def train_seeds(
        config: TrainConfig, seeds: Sequence[int], *, jobs: int, on_done: Callable[[Seeded], None]
    ) -> None:
        asked.append((list(seeds), jobs))
        for seed in seeds:
            on_done(Seeded(seed=seed, path=config.out, saving=None if seed == 4 else 0.02))
        raise Asked("train", "stopped", "no more")

    monkeypatch.setattr(training_seeds, "train_seeds", train_seeds)
    words = ("--seed", 3, "--seeds", 2, "--jobs", 2, "--out", tmp_path / "bundle")
    ended = shell("train", *words)
    assert asked == [([3, 4], 2)]
    assert "training: 100 % 2/2 seed 4: off the scale" in ended.err
