"""`gpupilot train` passes on what it was asked; training itself is tested where it lives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpupilot_agent import training
from gpupilot_agent.cli.train import card_rows, remark
from gpupilot_agent.training_config import Progress, TrainConfig
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
