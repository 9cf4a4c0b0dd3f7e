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
    "header": ("t_s,rps\n", "0 rows"),
    "ragged": ("t_s,rps\n0,1\n15,1,7\n", "15,1,7"),
    "unit": ("t_s,rps\n0,1\n15,1e300\n30,1\n", "1e+300"),
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
    "falling": ("name: x\nbatch_latency_ms: [[1, 5], [2, 4]]", "not to fall"),
    "none": ("name: x", "batch_latency_ms: 'nothing'"),
    "bound": ("name: x\nbatch_latency_ms: [[1, 5]]\nnoise_cv: 3", "less than or equal to 2"),
    "unknown": ("name: x\nbatch_latency_ms: [[1, 5]]\nnoise: 3", "no such field"),
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


def test_an_unknown_actuator_lists_the_known_ones(
    shell: Shell, traces: Path, tmp_path: Path
) -> None:
    words = ("--traces", traces, "--actuators", "limits,clocks", "--out", tmp_path / "out")
    refused(shell("compare", *words), "--actuators", "clocks", "limits, batching")


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
        ("--rate", "1e300"),
        ("--rate", "1e6", "--duration", "1e7"),
        ("--rate", "1", "--duration", "1e300"),
        ("--rate", "ten"),
        ("--rate", "10", "--replicas", "0"),
        ("--rate", "10", "--replicas", "1000000"),
        ("--rate", "10", "--seed", "-1"),
        ("--rate", "10", "--balancing", "magic"),
        ("--rate", "10", "--nonsense"),
        ("--rate", "10", "left over"),
        (),
    ],
    ids=" ".join,
)
def test_a_wrong_number_or_choice(shell: Shell, words: tuple[str, ...]) -> None:
    refused(shell("simulate", "--replicas", 1, *words))


def test_a_wrong_use_names_the_option_and_the_value(shell: Shell) -> None:
    refused(shell("simulate", "--rate", 1, "--replicas", "many"), "--replicas", "'many'")
    refused(shell("simulate", "--rate", 1), "--replicas")
    refused(shell("simulation"), "simulation")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--seeds", "0"),
        ("--jobs", "0"),
        ("--attainment", "150"),
        ("--attainment", "nan"),
        ("--hours", "-1"),
        ("--hours", "1e-9"),
        ("--cv", "50"),
        ("--scale-to-replicas", "1e300"),
        ("--target-ms", "inf"),
    ],
)
def test_a_comparison_out_of_range_leaves_nothing(
    shell: Shell, traces: Path, tmp_path: Path, option: str, value: str
) -> None:
    out = tmp_path / "out"
    words = ("--traces", traces, "--policies", "static", "--out", out)
    refused(shell("compare", *words, option, value), option)
    assert not out.exists()


@pytest.mark.parametrize("every", ["0", "1e-9", "1e9"])
def test_a_recording_without_a_reading(
    shell: Shell, traces: Path, tmp_path: Path, every: str
) -> None:
    out = tmp_path / "out"
    words = ("--trace", traces / "calm.csv", "--every", every, "--out", out)
    refused(shell("record", *words), "--every")
    assert not out.exists()


def test_bytes_that_are_no_text(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "noise.bin"
    path.write_bytes(bytes(range(255, 127, -1)))
    refused(shell("simulate", "--replicas", 1, "--trace", path), "noise.bin")
    refused(shell("calibrate", path, "--out", tmp_path / "out"), "noise.bin")
    words = ("--replicas", 1, "--rate", 1, "--profile", path)
    refused(shell("simulate", *words), "noise.bin", "malformed YAML")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "malformed JSON"),
        ("{", "malformed JSON"),
        ("[]", "an object"),
        ("{}", "policies: 'nothing'"),
        ('{"format": 1}', "gpupilot/"),
    ],
)
def test_a_broken_result(shell: Shell, traces: Path, tmp_path: Path, text: str, said: str) -> None:
    for name in ("summary.json", "tuned.json"):
        (tmp_path / name).write_text(text, encoding="utf-8")
    refused(shell("report", tmp_path), "summary.json", said)
    words = ("--traces", traces, "--policies", "hpa-tuned", "--tuned", tmp_path)
    refused(shell("compare", *words, "--out", tmp_path / "out"), "tuned.json", said)


def test_a_name_too_long_for_a_folder(shell: Shell, traces: Path, tmp_path: Path) -> None:
    words = ("--traces", traces, "--policies", "static", "--out", tmp_path / ("x" * 300))
    refused(shell("compare", *words), "name too long")


def test_a_demo_into_a_file(shell: Shell, traces: Path) -> None:
    refused(shell("demo", "--out", traces / "calm.csv"), "not a folder")


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
    refused(shell("tune", *words), "gpupilot train")


def test_something_else_than_a_bundle(shell: Shell, traces: Path, tmp_path: Path) -> None:
    words = ("--traces", traces, "--policies", "ppo", "--bundle", traces / "calm.csv")
    refused(shell("compare", *words, "--out", tmp_path / "out"), "policy bundle")


def test_a_report_of_nothing(shell: Shell, tmp_path: Path) -> None:
    refused(shell("report", tmp_path), "summary.json")
