"""A study keeps its trials, goes on where it stopped, and leaves a configuration to train with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from gpupilot_agent import bundle as bundles
from gpupilot_agent import study as studies
from gpupilot_agent import training
from gpupilot_agent.study import BEST, DATABASE, SPACE, TRIALS, Found, StudyConfig, study
from gpupilot_agent.training import BUNDLE, CHECKPOINT
from gpupilot_agent.training_config import PpoSettings, TrainConfig, Validation
from gpupilot_agent.training_data import Material
from gpupilot_agent.training_file import read_config
from gpupilot_envs.errors import InputInvalid, OutputRefused
from gpupilot_envs.scenarios import Scenarios

MakeScenarios = Callable[..., Scenarios]


class Stopped(Exception):
    """Ends a trial in the middle, as an interruption does."""


@pytest.fixture
def config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_scenarios: MakeScenarios
) -> StudyConfig:
    scenarios = make_scenarios()
    material = Material(train=scenarios, validation=scenarios, trace_hashes={})
    monkeypatch.setattr(training, "prepare", lambda _config, _traffic: material)
    base = TrainConfig(
        out=tmp_path / "study",
        services=16,
        copies=4,
        frames=4096,
        validate_every=1,
        validation_services=8,
        validation_steps=20,
    )
    return StudyConfig(base=base, trials=3, startup=2)


def opened(config: StudyConfig) -> optuna.Study:
    return optuna.load_study(study_name=config.name, storage=config.url)


def test_a_study_finds_a_configuration_and_goes_on(config: StudyConfig) -> None:
    told: list[Found] = []
    found = study(config, on_trial=told.append)
    assert (found.complete + found.pruned, found.running) == (3, 0)
    assert told[-1] == found
    trials = opened(config).get_trials()
    assert found.saving == max(t.value for t in trials if t.value is not None)
    start = {searched.name: getattr(PpoSettings(), searched.name) for searched in SPACE}
    assert trials[0].params == start
    assert len({tuple(trial.params.values()) for trial in trials}) == 3

    settings: dict[str, Any] = dict(found.settings)
    best = read_config(config.base.out / BEST, out=config.base.out)
    assert best == replace(config.base, ppo=replace(PpoSettings(), **settings))
    folders = list((config.base.out / TRIALS).iterdir())
    assert len(folders) == 3
    assert not list((config.base.out / TRIALS).rglob(CHECKPOINT))

    again = study(replace(config, trials=4))
    assert again.complete + again.pruned == 4
    assert opened(config).get_trials()[:3] == trials
    assert study(replace(config, trials=4)) == again


def test_what_a_trial_is_worth_is_what_its_policy_saves(config: StudyConfig) -> None:
    study(replace(config, trials=1))
    (trial,) = opened(config).get_trials()
    path = config.base.out / TRIALS / trial.user_attrs["folder"] / BUNDLE
    assert trial.value == bundles.load(path).card["saving_at_equal_attainment"]
    assert list(trial.intermediate_values) == list(range(1, 11))


def test_an_interrupted_trial_is_trained_on(
    config: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = studies._Judge.__call__
    seen: list[int] = []

    def stop(self: Any, validation: Validation) -> None:
        judge(self, validation)
        seen.append(validation.frames)
        if seen == [1024, 2048]:
            raise Stopped

    monkeypatch.setattr(studies._Judge, "__call__", stop)
    with pytest.raises(Stopped):
        study(replace(config, trials=1))
    opened(config).ask()
    found = study(replace(config, trials=1))
    assert seen == [1024, 2048, 2048, 3072, 4096]
    assert (found.complete, found.running) == (1, 0)
    broken, lost, whole = opened(config).get_trials()
    assert whole.params == broken.params
    assert (broken.state, lost.state) == (optuna.trial.TrialState.FAIL,) * 2


def test_a_trial_that_falls_behind_is_ended(config: StudyConfig) -> None:
    """The median of two finished trials is better than what the third is worth at any stage."""
    study(replace(config, trials=1))
    known = opened(config)
    for _ in range(2):
        known.add_trial(
            optuna.trial.create_trial(
                params=known.trials[0].params,
                distributions=known.trials[0].distributions,
                value=1.0,
                intermediate_values=dict.fromkeys(range(1, 11), 1.0),
            )
        )
    found = study(replace(config, trials=4))
    assert (found.complete, found.pruned) == (3, 1)
    assert opened(config).trials[-1].state == optuna.trial.TrialState.PRUNED


def test_a_study_of_something_else_is_refused(config: StudyConfig) -> None:
    study(replace(config, trials=1))
    for other in (replace(config.base, seed=7), replace(config.base, frames=8192)):
        with pytest.raises(InputInvalid, match="--name"):
            study(replace(config, base=other))


def test_two_studies_in_one_folder_are_refused(config: StudyConfig) -> None:
    def second(_: Found) -> None:
        with pytest.raises(OutputRefused, match="another study"):
            study(config)

    study(replace(config, trials=1), on_trial=second)


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////nowhere/at/all.db", "other://x"])
def test_a_database_that_cannot_be_used_is_named(config: StudyConfig, url: str) -> None:
    with pytest.raises(InputInvalid, match="--storage"):
        study(replace(config, storage=url))


def test_the_space_names_settings_and_stays_in_their_bounds(tmp_path: Path) -> None:
    assert {s.name for s in SPACE} <= {field.name for field in fields(PpoSettings)}
    for searched in SPACE:
        assert searched.holds(getattr(PpoSettings(), searched.name)), searched
        for value in searched.values:
            replace(PpoSettings(), **{searched.name: value})  # type: ignore[arg-type]
    assert StudyConfig(base=TrainConfig(out=tmp_path), trials=1).url.endswith(DATABASE)
