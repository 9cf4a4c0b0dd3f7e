"""`gpupilot study` passes on what it was asked and shows what was found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpupilot_agent import study as studies
from gpupilot_agent.study import Found, StudyConfig
from gpupilot_agent.training_config import TrainConfig

Shell = Callable[..., Any]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[StudyConfig, int]]:
    seen: list[tuple[StudyConfig, int]] = []

    def study(config: StudyConfig, *, jobs: int, on_trial: Callable[[Found], None]) -> Found:
        seen.append((config, jobs))
        found = Found(
            best=config.base.out / "best.yaml",
            saving=0.0321,
            settings={"gamma": 0.97},
            complete=2,
            pruned=1,
            running=0,
        )
        on_trial(found)
        return found

    monkeypatch.setattr(studies, "study", study)
    return seen


def test_a_study_is_asked_for_and_shown(
    shell: Shell, asked: list[tuple[StudyConfig, int]], tmp_path: Path
) -> None:
    out = tmp_path / "study"
    words = ("--trials", 3, "--frames", 1000, "--seed", 2, "--jobs", 2, "--name", "mine")
    ended = shell("study", *words, "--storage", "sqlite:///x.db", "--out", out)
    base = TrainConfig(out=out, frames=1000, seed=2)
    expected = StudyConfig(base=base, trials=3, storage="sqlite:///x.db", name="mine")
    assert asked == [(expected, 2)]
    assert "2 trained, 1 ended early, 0 running, best saves +3.21 %" in ended.err
    for said in ("best of 2 trials (1 more ended early): +3.21 %", "gamma", "best.yaml"):
        assert said in ended.out
    document = json.loads(shell("study", *words, "--out", out, "--json").out)
    assert (document["saving"], document["settings"]) == (0.0321, {"gamma": 0.97})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--trials"),
        (("--trials", 0), "--trials"),
        (("--trials", 1, "--jobs", 0), "--jobs"),
        (("--trials", 1, "--frames", 0), "--frames"),
        (("--trials", 1, "--name", " "), "--name"),
        (("--trials", 1, "--storage", "nonsense"), "--storage"),
        (("--trials", 1, "--config", "missing.yaml"), "missing.yaml"),
    ],
)
def test_a_wrong_option_is_one_sentence(
    shell: Shell, tmp_path: Path, words: tuple[object, ...], said: str
) -> None:
    ended = shell("study", *words, "--out", tmp_path / "out")
    assert (ended.code, ended.err.count("\n"), ended.out) == (2, 1, "")
    assert said in ended.err
