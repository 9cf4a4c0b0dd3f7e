"""Bad input: one clear sentence, exit code 2, nothing half-written, no traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Shell = Callable[..., Any]


def refused(ended: Any, *said: str) -> None:
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.startswith("gpupilot: ")
    assert ended.err.count("\n") == 1
    for part in said:
        assert part in ended.err


TRACES = {
    "negative": ("t_s,rps\n0,1\n15,-2\n30,1\n", "-2"),
    "nan": ("t_s,rps\n0,1\n15,nan\n30,1\n", "rps"),
    "back": ("t_s,rps\n0,1\n30,1\n15,1\n", "t_s"),
    "irregular": ("t_s,rps\n0,1\n15,1\n31,1\n46,1\n", "regular grid"),
    "column": ("time,rps\n0,1\n15,1\n", "t_s"),
    "words": ("t_s,rps\n0,one\n15,two\n", "rps"),
    "empty": ("", "trace.csv"),
}


@pytest.mark.parametrize("kind", TRACES)
def test_a_malformed_trace(shell: Shell, tmp_path: Path, kind: str) -> None:
    text, said = TRACES[kind]
    path = tmp_path / "trace.csv"
    path.write_text(text, encoding="utf-8")
    out = tmp_path / "out"
    words = ("--traces", path, "--policies", "hpa", "--out", out)
    refused(shell("compare", *words), "trace.csv", said)
    assert not out.exists()


def test_a_missing_trace(shell: Shell, tmp_path: Path) -> None:
    words = ("--trace", tmp_path / "none.parquet", "--replicas", 1)
    refused(shell("simulate", *words), "none.parquet")


def test_a_folder_without_traces(shell: Shell, tmp_path: Path) -> None:
    words = ("--traces", tmp_path, "--policies", "hpa", "--out", tmp_path / "out")
    refused(shell("compare", *words), "a folder without traces")


PROFILES = {
    "missing": (None, "mine.yaml"),
    "yaml": ("name: [", "malformed YAML"),
    "list": ("- 1", "mapping"),
    "field": ("name: x\nbatch_latency_ms: [[1, 5]]\nbatchin: {}", "batchin"),
    "value": ("name: x\nbatch_latency_ms: [[1, -5]]", "-5"),
    "order": ("name: x\nbatch_latency_ms: [[2, 5], [1, 4]]", "ascend"),
}


@pytest.mark.parametrize("kind", PROFILES)
def test_a_wrong_profile(shell: Shell, tmp_path: Path, kind: str) -> None:
    text, said = PROFILES[kind]
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    words = ("--profile", path, "--replicas", 1, "--rate", 1, "--duration", 1)
    refused(shell("simulate", *words), "mine.yaml", said)


def test_an_unknown_profile_name_lists_the_known_ones(shell: Shell) -> None:
    ended = shell("simulate", "--profile", "resnet", "--replicas", 1, "--rate", 1)
    refused(ended, "resnet", "mobilenetv4-edge", "mobilenetv4-cpu")


def test_an_objective_no_batch_can_meet(shell: Shell, traces: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("--traces", traces, "--policies", "hpa", "--target-ms", 5, "--out", out)
    refused(shell("compare", *words))
    assert not (out / "summary.json").exists()


def test_an_unknown_policy_lists_the_known_ones(shell: Shell, traces: Path, tmp_path: Path) -> None:
    words = ("--traces", traces, "--policies", "hpa,magic", "--out", tmp_path / "out")
    refused(shell("compare", *words), "magic", "queueing", "oracle")


@pytest.mark.parametrize(
    "words",
    [
        ("--rate", "-3"),
        ("--rate", "nan"),
        ("--rate", "10", "--duration", "0"),
        ("--rate", "10", "--target-ms", "-1"),
        ("--rate", "10", "--cv", "-1"),
        ("--rate", "10", "--trace", "x.csv"),
        (),
    ],
    ids=" ".join,
)
def test_a_wrong_number_or_choice(shell: Shell, words: tuple[str, ...]) -> None:
    refused(shell("simulate", "--replicas", 1, *words))


def test_percent_is_not_a_share(shell: Shell, traces: Path, tmp_path: Path) -> None:
    words = ("--traces", traces, "--attainment", 100, "--out", tmp_path / "out")
    refused(shell("compare", *words), "--attainment")


def test_a_used_folder_is_not_written_into(shell: Shell, traces: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me", encoding="utf-8")
    words = ("--traces", traces, "--policies", "hpa", "--out", tmp_path)
    refused(shell("compare", *words), "not empty")
    refused(shell("record", "--trace", traces / "calm.csv", "--out", tmp_path), "not empty")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_path_through_a_file_cannot_be_written(
    shell: Shell, traces: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    words = ("--traces", traces, "--policies", "static", "--out", tmp_path / "file" / "out")
    refused(shell("compare", *words), "not a folder")


def test_a_policy_without_its_bundle(shell: Shell, traces: Path, tmp_path: Path) -> None:
    words = ("--traces", traces, "--policies", "ppo", "--out", tmp_path / "out")
    refused(shell("compare", *words), "gpupilot train")


def test_something_else_than_a_bundle(shell: Shell, traces: Path, tmp_path: Path) -> None:
    words = ("--traces", traces, "--policies", "ppo", "--bundle", traces / "calm.csv")
    refused(shell("compare", *words, "--out", tmp_path / "out"), "policy bundle")


def test_a_report_of_nothing(shell: Shell, tmp_path: Path) -> None:
    refused(shell("report", tmp_path), "summary.json")
