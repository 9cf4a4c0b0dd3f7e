"""``gpupilot train --fine-tune`` says both numbers, and its exit code says who is deployed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpupilot_agent import finetune
from gpupilot_agent.evaluation import Estimate, Interval
from gpupilot_agent.finetune import FineTuneConfig, FineTuned, Judged
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.signals import Signals
from gpupilot_envs.workload.recording import Recording, write_recording

Shell = Callable[..., Any]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    readings = tuple(Signals(at_s=15.0 * (i + 1), window_s=15.0, rate_rps=100.0) for i in range(10))
    path = tmp_path / "recording.parquet"
    running = (Allocation(replicas=2),) * 10
    write_recording(path, Recording(service="shop", readings=readings, allocations=running))
    return path


def _came_to(
    monkeypatch: pytest.MonkeyPatch, relative: Interval
) -> list[tuple[FineTuneConfig, int]]:
    """Let fine-tuning come to a given difference; return what it was asked."""
    asked: list[tuple[FineTuneConfig, int]] = []

    def estimate(interval: Interval) -> Estimate:
        return Estimate(mean=sum(interval) / 2.0, ci95=interval)

    def fine_tune(recordings: list[Recording], config: FineTuneConfig, **_: object) -> FineTuned:
        asked.append((config, len(recordings)))
        judged = Judged(
            attainment=estimate((0.99, 0.992)),
            candidate_gpu_hours=estimate((4.5, 4.7)),
            incumbent_gpu_hours=estimate((4.9, 5.1)),
            relative=estimate(relative),
            incumbent_attainment=estimate((0.991, 0.993)),
            attainment_difference=estimate((-0.001, 0.001)),
            objective=config.targets.attainment_ratio,
        )
        path = config.out / "policy.npz" if judged.wins else config.incumbent
        return FineTuned(path=path, candidate=config.out / "candidate.npz", judged=judged)

    monkeypatch.setattr(finetune, "fine_tune", fine_tune)
    return asked


def test_a_candidate_that_wins_takes_over(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, recording: Path, tmp_path: Path
) -> None:
    asked = _came_to(monkeypatch, (-0.09, -0.07))
    ended = shell(
        "train", "--fine-tune", "--recordings", recording, "--target-ms", 80, "--attainment", 98,
        "--frames", 1000, "--out", tmp_path / "out",
    )  # fmt: skip
    assert ended.code == 0
    assert "4.600 GPU-hours and the incumbent 5.000: -8.0 %" in ended.out
    assert "the candidate takes over" in ended.out
    ((config, count),) = asked
    assert (config.frames, config.targets.latency_s, count) == (1000, 0.08, 1)
    assert config.targets.attainment_ratio == pytest.approx(0.98)


@pytest.mark.parametrize(
    ("relative", "why"),
    [((-0.03, 0.01), "not surely cheaper"), ((0.02, 0.05), "surely dearer")],
    ids=["perhaps", "dearer"],
)
def test_otherwise_the_incumbent_stays(
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
    recording: Path,
    tmp_path: Path,
    relative: Interval,
    why: str,
) -> None:
    _came_to(monkeypatch, relative)
    words = ("train", "--fine-tune", "--recordings", recording, "--out", tmp_path / "out")
    ended = shell(*words)
    assert ended.code == 3
    assert why in ended.out
    assert "generalist.npz stays" in ended.out
    assert "candidate.npz" in ended.out
    told = json.loads(shell(*words, "--json").out)
    assert told["takes_over"] is False
    assert told["relative"]["ci95"] == list(relative)


def test_without_recordings_it_is_refused(shell: Shell, tmp_path: Path) -> None:
    ended = shell("train", "--fine-tune", "--out", tmp_path / "out")
    assert ended.code == 2
    assert "--recordings" in ended.err
