"""`gpupilot train` passes on what it was asked; training itself is tested where it lives."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpupilot_agent import training, training_seeds
from gpupilot_agent.cli.train import card_rows, remark
from gpupilot_agent.training_config import PpoSettings, Progress, TrainConfig
from gpupilot_agent.training_file import FORMAT, read_generalist, write_config
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


def test_several_seeds_train_side_by_side_and_are_compared(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    savings = {3: 0.02, 4: None, 5: 0.04}
    asked: list[int] = []

    def train_seeds(
        config: TrainConfig,
        seeds: Sequence[int],
        *,
        jobs: int,
        on_progress: Callable[[int, Progress], None],
    ) -> tuple[Seeded, ...]:
        asked.append(jobs)
        for seed in seeds:
            on_progress(seed, Progress(phase="done", fraction=1.0, saving=savings[seed]))
        return tuple(
            Seeded(
                seed=seed,
                path=config.out,
                frames=10,
                saving=savings[seed],
                cost_ratio=None if seed == 3 else 1.25,
            )
            for seed in seeds
        )

    monkeypatch.setattr(training_seeds, "train_seeds", train_seeds)
    words = ("--seed", 3, "--seeds", 3, "--jobs", 2, "--out", tmp_path / "bundle")
    ended = shell("train", *words)
    assert asked == [2]
    assert "seed 5: 100 % done, +4.0 % GPU time saved on validation" in ended.err
    for said in ("off the scale", "not reached", "kept", "mean +3.00 %", "1.41 %", "policy.npz"):
        assert said in ended.out
    document = json.loads(shell("train", *words[:-1], tmp_path / "again", "--json").out)
    assert (document["best_seed"], document["saving"]["missing"]) == (5, 1)
    assert document["saving"]["mean"] == pytest.approx(0.03)


def test_options_override_the_configuration_in_a_file(
    shell: Shell, asked: list[TrainConfig], tmp_path: Path
) -> None:
    file, out = tmp_path / "config.yaml", tmp_path / "bundle"
    written = TrainConfig(out=tmp_path, target_ms=40.0, seed=3, ppo=PpoSettings(gamma=0.9))
    write_config(written, file)
    shell("train", "--config", file, "--seed", 5, "--out", out)
    assert asked == [replace(written, seed=5, out=out)]


def test_the_shipped_configuration_can_be_trained(
    shell: Shell, asked: list[TrainConfig], tmp_path: Path
) -> None:
    shell("train", "--generalist", "--frames", 100, "--out", tmp_path / "bundle")
    assert asked == [replace(read_generalist(out=tmp_path / "bundle"), frames=100)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("a: [", "malformed YAML"),
        ("- 1", "a mapping"),
        ("format: other", "format: 'other'"),
        ("{F}\nframes: -1", "frames: -1"),
        ("{F}\nframes: many", "frames: 'many'"),
        ("{F}\nframe: 1", "frame: 1 is not allowed; expected no such field"),
        ("{F}\nout: here", "out: 'here'"),
        ("{F}\nppo: {hiden: 3}", "ppo.hiden"),
        ("{F}\nppo: {gamma: .nan}", "ppo.gamma: nan"),
        ("{F}\nppo: {n_epochs: 0}", "ppo.n_epochs: 0"),
        ("{F}\nranges: {cv: [1]}", "ranges.cv"),
    ],
)
def test_a_wrong_configuration_is_one_sentence(
    shell: Shell, tmp_path: Path, text: str | None, said: str
) -> None:
    file, out = tmp_path / "config.yaml", tmp_path / "out"
    if text is not None:
        file.write_text(text.replace("{F}", f"format: {FORMAT}"), encoding="utf-8")
    ended = shell("train", "--config", file, "--out", out)
    assert (ended.code, ended.err.count("\n"), ended.out) == (2, 1, "")
    assert str(file) in ended.err
    assert said in ended.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--frames", 0), "--frames"),
        (("--minutes", "nan"), "--minutes"),
        (("--minutes", -1), "--minutes"),
        (("--patience", 0), "--patience"),
        (("--services", 1), "--services"),
        (("--services", 9), "services: 9"),
        (("--seed", -1), "--seed"),
        (("--seeds", 0), "--seeds"),
        (("--jobs", 0), "--jobs"),
        (("--target-ms", "inf"), "--target-ms"),
        (("--attainment", 100), "--attainment"),
        (("--attainment", 10), "attainment_ratio"),
        (("--generalist", "--config", "x.yaml"), "--config"),
    ],
)
def test_a_wrong_option_is_one_sentence(
    shell: Shell, tmp_path: Path, words: tuple[object, ...], said: str
) -> None:
    out = tmp_path / "out"
    ended = shell("train", *words, "--out", out)
    assert (ended.code, ended.err.count("\n"), ended.out) == (2, 1, "")
    assert said in ended.err
    assert not out.exists()
