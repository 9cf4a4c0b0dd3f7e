"""A comparison end to end on the event-level world: numbers, files, resuming, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import jsonschema
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from gpupilot_agent.comparison.config import CompareConfig
from gpupilot_agent.comparison.running import compare
from gpupilot_agent.comparison.scene import Scene, random_seed
from gpupilot_agent.results import json_schema, read_summary
from gpupilot_agent.tuned import Search, Trial, Tuned, read_tuned, search_result
from gpupilot_envs.errors import InputInvalid, OutputRefused, SloInfeasible
from gpupilot_envs.limits import Targets
from gpupilot_envs.workload.trace import RateTrace

NOTHING_TUNED = Tuned(policies={}, config={}, environment={}, hashes={})
SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "comparison-v1.json"


@pytest.fixture(scope="module")
def finished(small: CompareConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    compare(small, out)
    return out


def without_machine(path: Path) -> bytes:
    document = json.loads(path.read_bytes())
    del document["environment"]
    return json.dumps(document).encode()


def test_summary_follows_its_published_schema(finished: Path) -> None:
    document = json.loads((finished / "summary.json").read_text())
    jsonschema.validate(document, json.loads(SCHEMA.read_text()))
    assert SCHEMA.read_text() == json_schema()


def test_summary_holds_every_policy_trace_level_and_pair(finished: Path) -> None:
    summary = read_summary(finished / "summary.json")
    assert list(summary.policies) == ["static", "queueing", "clairvoyant", "oracle"]
    assert list(summary.traces) == ["slow", "quick"]
    assert list(summary.at_attainment) == ["0.95", "0.99"]
    pairs = {(pair.a, pair.b) for pair in summary.paired}
    assert len(pairs) == 6
    for score in summary.policies.values():
        assert score.attainment_ratio.mean is not None
        assert 0.0 < score.attainment_ratio.mean <= 1.0
        low, high = score.gpu_hours.ci95
        assert low is not None
        assert high is not None
        assert low <= (score.gpu_hours.mean or 0.0) <= high


def test_oracle_costs_what_it_costs_and_less_than_static(finished: Path) -> None:
    policies = read_summary(finished / "summary.json").policies
    assert policies["oracle"].gpu_hours_vs_oracle.mean == 1.0
    assert (policies["static"].gpu_hours_vs_oracle.mean or 0.0) > 1.0
    assert (policies["oracle"].attainment_ratio.mean or 0.0) >= 0.94


def test_static_costs_its_replicas_times_the_hours(finished: Path) -> None:
    """Twice the mean demand of 2 replicas, over the scored seconds of one run."""
    summary = read_summary(finished / "summary.json")
    (window,) = summary.config["traces"]["slow"]["windows"]
    hours = (window["end_s"] - window["start_s"]) / 3600.0
    replicas = summary.config["settings"]["static: as published"]["replicas"]
    assert replicas in (4.0, 5.0)
    cost = summary.traces["slow"]["static"].gpu_hours.mean
    assert cost == pytest.approx(replicas * hours, rel=0.02)


def test_result_folder_explains_itself(finished: Path) -> None:
    config = yaml.safe_load((finished / "config.yaml").read_text())
    assert config["profile"]["name"] == "small"
    assert config["traces"]["slow"]["windows"][0]["warm_up_s"] == 90.0
    table = pq.read_table(finished / "series" / "queueing.parquet")
    assert {"trace", "seed", "t_s", "requests", "late", "replicas_ready"} <= set(table.column_names)
    assert set(table["seed"].to_pylist()) == {0, 1}
    environment = read_summary(finished / "summary.json").environment
    assert environment["packages"]["numpy"] == np.__version__


def test_same_configuration_gives_the_same_bytes_whatever_the_processes(
    small: CompareConfig, finished: Path, tmp_path: Path
) -> None:
    with joblib.parallel_config(backend="threading"):
        again = compare(small, tmp_path / "run", jobs=2)
    assert without_machine(again) == without_machine(finished / "summary.json")


def test_interrupted_run_resumes_to_the_same_bytes(
    small: CompareConfig, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"

    def interrupt(done: int, total: int, note: str) -> None:  # noqa: ARG001
        if done == total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(small, out, on_progress=interrupt)
    assert not (out / "summary.json").exists()
    assert not list(out.rglob("*.partial"))
    counts: list[int] = []
    compare(small, out, on_progress=lambda *told: counts.append(told[0]))
    assert counts[0] >= 10
    assert counts == sorted(counts)
    assert without_machine(out / "summary.json") == without_machine(finished / "summary.json")


def test_finished_folder_is_never_written_again(small: CompareConfig, finished: Path) -> None:
    before = (finished / "summary.json").read_bytes()
    with pytest.raises(OutputRefused, match="finished comparison"):
        compare(small, finished)
    with pytest.raises(OutputRefused, match="finished comparison"):
        compare(replace(small, seeds=3), finished)
    assert (finished / "summary.json").read_bytes() == before


def test_unfinished_folder_of_another_configuration_is_refused(
    small: CompareConfig, tmp_path: Path
) -> None:
    def stop(done: int, total: int, note: str) -> None:  # noqa: ARG001
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(small, tmp_path / "run", on_progress=stop)
    with pytest.raises(OutputRefused, match="another configuration"):
        compare(replace(small, seeds=3), tmp_path / "run")


def test_folder_with_other_files_is_refused(small: CompareConfig, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(OutputRefused, match="not empty"):
        compare(small, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_two_runs_into_one_folder_at_once_are_refused(small: CompareConfig, tmp_path: Path) -> None:
    def second(done: int, total: int, note: str) -> None:  # noqa: ARG001
        compare(small, tmp_path / "run")

    with pytest.raises(OutputRefused, match="writing into"):
        compare(small, tmp_path / "run", on_progress=second)


def as_published(name: str, policy: CompareConfig) -> Tuned:
    trial = Trial(params={}, attainment_ratio=0.97, gpu_hours=1.0, by_trace={})
    search: Search = search_result([trial], policy.all_levels)
    return Tuned(policies={name: search}, config={}, environment={}, hashes={})


def test_a_policy_against_itself_differs_by_exactly_nothing(
    small: CompareConfig, tmp_path: Path
) -> None:
    """Common random numbers: the same decisions meet the same requests, to the last bit."""
    twins = replace(
        small,
        policies=("queueing", "queueing-tuned"),
        tuned=as_published("queueing", small),
    )
    summary = read_summary(compare(twins, tmp_path / "run"))
    assert {pair.metric for pair in summary.paired} >= {"gpu_hours", "attainment_ratio"}
    for pair in summary.paired:
        if not pair.metric.startswith("gpu_hours@"):
            assert (pair.diff, pair.ci95) == (0.0, (0.0, 0.0))


def test_tuned_policies_without_settings_are_searched_on_other_traffic(
    small: CompareConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpupilot_agent.comparison.searching.TRIALS", 3)
    monkeypatch.setattr("gpupilot_agent.comparison.searching.TRACE_S", 300.0)
    asked = replace(small, policies=("queueing-tuned",), seeds=1)
    summary = read_summary(compare(asked, tmp_path / "run"))
    tuned = read_tuned(tmp_path / "run" / "tuned")
    assert len(tuned.policies["queueing"].trials) == 3
    assert not set(tuned.hashes["traces"].values()) & set(summary.hashes["traces"].values())
    assert summary.hashes["tuned"] is not None


def test_randomness_depends_on_traffic_and_seed_only(
    scene: Scene, traces: tuple[RateTrace, ...]
) -> None:
    slow, quick = (scene.pieces(trace)[0] for trace in traces)
    assert random_seed("arrivals", slow, 0) == random_seed("arrivals", slow, 0)
    different = {
        random_seed(purpose, piece, seed)
        for purpose in ("arrivals", "world")
        for piece in (slow, quick)
        for seed in range(3)
    }
    assert len(different) == 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policies": ("hpa", "magic")}, "magic"),
        ({"policies": ()}, "at least one"),
        ({"policies": ("hpa", "hpa")}, "once"),
        ({"policies": ("ppo-tuned",)}, "bundle"),
        ({"policies": ("keda-tuned",), "tuned": NOTHING_TUNED}, "gpupilot tune"),
        ({"policies": ("ppo",)}, "bundle"),
        ({"traces": ()}, "at least one trace"),
        ({"seeds": 0}, "seeds"),
        ({"levels": (1.0,)}, "attainment"),
    ],
)
def test_wrong_requests_are_refused_before_anything_is_written(
    small: CompareConfig, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputInvalid, match=message):
        compare(replace(small, **change), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_repeated_trace_is_refused(small: CompareConfig) -> None:
    with pytest.raises(InputInvalid, match="once"):
        replace(small, traces=(small.traces[0], small.traces[0]))


def test_slo_no_batch_can_meet_is_refused(small: CompareConfig, tmp_path: Path) -> None:
    impossible = replace(small.scene, targets=Targets(latency_s=0.001))
    with pytest.raises(SloInfeasible):
        compare(replace(small, scene=impossible), tmp_path / "run")
    assert not (tmp_path / "run").exists()
