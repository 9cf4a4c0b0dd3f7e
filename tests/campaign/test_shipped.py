"""The recordings in the package are what was declared, whole and small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gpupilot_agent.campaign.declaration import SHIPPED, Run, read_campaign
from gpupilot_envs.embedded import recorded_runs
from gpupilot_envs.runs import RECORDING, read_run, requests_of
from gpupilot_envs.workload.recording import read_recording

BYTES_MAX = 10_000_000
DECLARED = {f"{run.flavour}/{run.name}": run for run in read_campaign(SHIPPED).runs}
FOLDERS = {f"{folder.parent.name}/{folder.name}": folder for folder in recorded_runs()}


def test_every_declared_run_ships_and_no_other() -> None:
    assert set(FOLDERS) == set(DECLARED)


def test_together_they_are_small() -> None:
    files = [path for folder in FOLDERS.values() for path in folder.iterdir()]
    assert sum(path.stat().st_size for path in files) < BYTES_MAX


@pytest.mark.parametrize("name", sorted(FOLDERS))
def test_a_run_is_as_declared_and_valid(name: str) -> None:
    folder, run = FOLDERS[name], DECLARED[name]
    card = read_run(folder)
    assert (card.purpose, card.load_ratio, card.users) == (run.purpose, run.load, run.users)
    assert (card.duration_s, card.seed, card.replicas) == (run.duration_s, run.seed, run.replicas)
    assert card.batching == run.service().batching
    assert card.lag_p99_ms is not None
    assert card.lag_p99_ms <= run.lag_limit_ms
    _check_requests(folder, run)
    _check_recording(folder, run)


def _check_requests(folder: Path, run: Run) -> None:
    card = read_run(folder)
    sent = requests_of(folder, card)
    assert sent.ok.all()
    counted = ~sent.warm_up
    if card.rate_rps is not None:
        expected = card.rate_rps * run.duration_s
        assert counted.sum() == pytest.approx(expected, abs=5.0 * np.sqrt(expected))


def _check_recording(folder: Path, run: Run) -> None:
    recording = read_recording(folder / RECORDING)
    assert len(recording.readings) >= run.duration_s / 5.0 - 2
    rates = [reading.rate_rps for reading in recording.readings]
    assert sum(rate is None for rate in rates) <= 0.02 * len(rates)
    assert recording.batch_times
    assert recording.allocations[0].replicas == run.replicas
