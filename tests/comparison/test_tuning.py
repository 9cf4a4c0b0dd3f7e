"""The search: an equal budget for everybody, the cheapest that meets a level, resumable."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from gpupilot_agent.comparison.config import CompareConfig
from gpupilot_agent.comparison.contenders import search_spaces
from gpupilot_agent.tuned import Trial, Tuned, choose, json_schema, read_tuned, spread
from gpupilot_agent.tuning import TuneConfig, trials, tune
from gpupilot_envs.errors import InputInvalid, OutputRefused

SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "tuned-v1.json"


@pytest.fixture(scope="module")
def search(small: CompareConfig) -> TuneConfig:
    return TuneConfig(
        scene=small.scene,
        traces=small.traces[:1],
        policies=("static", "queueing"),
        trials=4,
        seeds=1,
        levels=(0.99,),
    )


@pytest.fixture(scope="module")
def tuned(search: TuneConfig, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    return read_tuned(tune(search, tmp_path_factory.mktemp("tune") / "run"))


def made(attainment: float, cost: float) -> Trial:
    return Trial(params={}, attainment_ratio=attainment, gpu_hours=cost, by_trace={})


def test_every_policy_gets_the_same_budget(tuned: Tuned) -> None:
    assert {name: len(search.trials) for name, search in tuned.policies.items()} == {
        "static": 4,
        "queueing": 4,
    }


def test_file_follows_its_published_schema(tuned: Tuned) -> None:
    jsonschema.validate(tuned.model_dump(mode="json"), json.loads(SCHEMA.read_text()))
    assert SCHEMA.read_text() == json_schema()


def test_chosen_setting_is_the_cheapest_that_meets_the_level(tuned: Tuned) -> None:
    for search in tuned.policies.values():
        for level, choice in search.chosen.items():
            picked = search.trials[choice.trial]
            for trial in search.trials:
                if choice.meets:
                    assert picked.attainment_ratio >= float(level)
                    cheaper = trial.gpu_hours < picked.gpu_hours
                    assert not (cheaper and trial.attainment_ratio >= float(level))
                else:
                    assert trial.attainment_ratio <= picked.attainment_ratio < float(level)


def test_frontier_ascends_in_both(tuned: Tuned) -> None:
    for search in tuned.policies.values():
        points = [search.trials[index] for index in search.frontier]
        assert np.all(np.diff([p.gpu_hours for p in points]) > 0)
        assert np.all(np.diff([p.attainment_ratio for p in points]) > 0)


def test_level_nobody_meets_says_so_and_takes_the_closest() -> None:
    choice = choose([made(0.90, 1.0), made(0.95, 2.0), made(0.95, 1.5)], 0.99)
    assert (choice.trial, choice.meets) == (2, False)
    choice = choose([made(0.992, 3.0), made(0.999, 2.0), made(0.95, 1.0)], 0.99)
    assert (choice.trial, choice.meets) == (1, True)


@pytest.mark.parametrize("name", sorted(search_spaces()))
def test_trials_start_at_the_defaults_and_stay_in_range(name: str) -> None:
    space = search_spaces()[name]
    found = trials(space, 9, seed=0)
    assert len(found) == 9
    assert found[0] == {key: dimension.default for key, dimension in space.items()}
    assert found == trials(space, 9, seed=0)
    for params in found[1:]:
        for key, value in params.items():
            assert space[key].low - 1e-9 <= value <= space[key].high + 1e-9


def test_one_trial_is_the_defaults_alone() -> None:
    assert len(trials(search_spaces()["hpa"], 1, seed=0)) == 1


def test_interrupted_search_resumes_to_the_same_choice(
    search: TuneConfig, tuned: Tuned, tmp_path: Path
) -> None:
    def interrupt(done: int, total: int, note: str) -> None:  # noqa: ARG001
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(search, tmp_path / "run", on_progress=interrupt)
    again = read_tuned(tune(search, tmp_path / "run"))
    assert again.policies == tuned.policies
    with pytest.raises(OutputRefused, match="finished search"):
        tune(search, tmp_path / "run")


def test_tuned_settings_take_part_in_a_comparison_along_their_frontier(
    small: CompareConfig, tuned: Tuned
) -> None:
    from gpupilot_agent.comparison.field import Field

    asked = replace(small, policies=("queueing-tuned",), tuned=tuned)
    field = Field.of(asked)
    (main,) = [contender for contender in field.contenders if contender.main]
    assert dict(main.params) == tuned.policies["queueing"].params(0.95)
    settings = {contender.setting for contender in field.contenders}
    assert len(settings) == len(field.contenders)
    assert len(settings) >= len(spread(tuned.policies["queueing"], (0.95, 0.99)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policies": ("magic",)}, "magic"),
        ({"policies": ("oracle",)}, "oracle"),
        ({"policies": ("hpa", "hpa")}, "once"),
        ({"policies": ("ppo",)}, "bundle"),
        ({"trials": 0}, "trials"),
        ({"seeds": 0}, "seeds"),
        ({"traces": ()}, "trace"),
    ],
)
def test_wrong_searches_are_refused(
    search: TuneConfig, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputInvalid, match=message):
        replace(search, **change)


@pytest.mark.parametrize("text", ["", "{}", '{"format": "other"}', "not json"])
def test_malformed_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "tuned.json").write_text(text)
    with pytest.raises(InputInvalid, match=r"tuned\.json"):
        read_tuned(tmp_path)
