"""`gpupilot simulate` prints what users would feel, in the fields that were promised."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Shell = Callable[..., Any]

FIELDS = [
    "requests",
    "completed",
    "throughput_rps",
    "attainment_ratio",
    "latency_ms",
    "queue_ms_mean",
    "compute_ms_mean",
    "batch_mean",
    "gpu_busy_ratio",
    "energy_j",
]


def simulated(shell: Shell, *words: object) -> dict[str, Any]:
    ended = shell("simulate", *words, "--json")
    assert (ended.code, ended.err) == (0, "")
    document: dict[str, Any] = json.loads(ended.out)
    return document


def test_json_has_the_promised_fields(shell: Shell) -> None:
    result = simulated(shell, "--replicas", 2, "--rate", 100, "--duration", 60)
    assert list(result) == FIELDS
    assert list(result["latency_ms"]) == ["mean", "p50", "p95", "p99"]


def test_the_numbers_agree_with_each_other(shell: Shell) -> None:
    """Overhead 2 ms, a batch of one takes 11.2 ms: nobody is faster, and time adds up."""
    result = simulated(shell, "--replicas", 2, "--rate", 100, "--duration", 300)
    latency = result["latency_ms"]
    assert result["throughput_rps"] == pytest.approx(100, rel=0.05)
    assert 10 < latency["p50"] <= latency["p95"] <= latency["p99"]
    parts = result["queue_ms_mean"] + result["compute_ms_mean"] + 2.0
    assert latency["mean"] == pytest.approx(parts, rel=1e-6)
    assert 30 * 2 * 300 <= result["energy_j"] <= 120 * 2 * 300
    assert 0.4 < result["gpu_busy_ratio"] < 0.6


def test_the_seed_decides(shell: Shell) -> None:
    words = ("--replicas", 1, "--rate", 20, "--duration", 60, "--seed")
    assert simulated(shell, *words, 3) == simulated(shell, *words, 3)
    assert simulated(shell, *words, 3) != simulated(shell, *words, 4)


def test_bursts_make_people_wait(shell: Shell) -> None:
    words = ("--replicas", 2, "--rate", 150, "--duration", 300)
    calm = simulated(shell, *words, "--cv", 1)
    bursty = simulated(shell, *words, "--cv", 4)
    assert bursty["queue_ms_mean"] > 1.5 * calm["queue_ms_mean"]


def test_a_trace_sets_rate_and_duration(shell: Shell, traces: Path, tiny: Path) -> None:
    words = ("--profile", tiny, "--replicas", 4, "--target-ms", 500, "--trace", traces / "calm.csv")
    result = simulated(shell, *words)
    assert result["requests"] == pytest.approx(600 * 14.75, rel=0.05)


def test_arrivals_are_played_back_as_they_were(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "arrivals.csv"
    path.write_text("t_s\n" + "\n".join(str(i / 10) for i in range(101)), encoding="utf-8")
    result = simulated(shell, "--replicas", 1, "--arrivals", path, "--duration", 20)
    assert result["requests"] == result["completed"] == 101
    assert result["batch_mean"] == 1.0
    assert result["queue_ms_mean"] == pytest.approx(0.0, abs=1e-3)


def test_instances_share_the_work_and_the_gpu(shell: Shell) -> None:
    words = ("--replicas", 1, "--rate", 40, "--duration", 120)
    one = simulated(shell, *words)
    two = simulated(shell, *words, "--instances", 2)
    assert two["compute_ms_mean"] > one["compute_ms_mean"]
    assert two["queue_ms_mean"] < one["queue_ms_mean"]


def test_people_get_a_table(shell: Shell) -> None:
    ended = shell("simulate", "--replicas", 1, "--rate", 10, "--duration", 10)
    assert "mobilenetv4-edge: 1 replicas, 10 s, seed 0" in ended.out
    assert "attainment_ratio" in ended.out


def test_a_target_that_no_batch_size_meets_is_refused(shell: Shell) -> None:
    ended = shell("simulate", "--replicas", 1, "--rate", 10, "--target-ms", 5)
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert "--target-ms: 5.0" in ended.err
    assert "13.2 or more" in ended.err
