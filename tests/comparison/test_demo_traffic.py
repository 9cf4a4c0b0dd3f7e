"""The demo's traffic: what is learned on never overlaps what is compared on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gpupilot_agent.demo_traffic import generated, recorded
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.embedded import recorded_runs
from gpupilot_envs.errors import InputInvalid, TraceInvalid
from gpupilot_envs.runs import read_run
from gpupilot_envs.signals import Signals
from gpupilot_envs.workload.recording import Recording, write_recording

STEP_S = 5.0


def write(folder: Path, minutes: float, *, missed: tuple[int, ...] = ()) -> Path:
    """Write a recording whose rate rises by one request/s per reading."""
    count = round(minutes * 60.0 / STEP_S)
    readings = tuple(
        Signals(
            at_s=STEP_S * (at + 1), window_s=STEP_S, rate_rps=None if at in missed else 100.0 + at
        )
        for at in range(count)
    )
    path = folder / "recording.parquet"
    folder.mkdir(parents=True)
    write_recording(
        path,
        Recording(
            service=folder.name, readings=readings, allocations=(Allocation(replicas=1),) * count
        ),
    )
    return path


def test_the_last_part_of_every_recording_is_kept_for_the_comparison(tmp_path: Path) -> None:
    files = [write(tmp_path / name, minutes) for name, minutes in (("a", 60.0), ("b", 40.0))]
    traffic = recorded(files)
    assert [trace.name for trace in traffic.split.test] == ["a-test", "b-test"]
    assert traffic.search == traffic.split.train
    for early, chosen, late in zip(
        traffic.split.train, traffic.split.validation, traffic.split.test, strict=True
    ):
        assert early.rps.max() < chosen.rps.min() <= chosen.rps.max() < late.rps.min()
    assert "100 min" in traffic.told


def test_a_missed_reading_is_bridged(tmp_path: Path) -> None:
    traffic = recorded([write(tmp_path / "a", 60.0, missed=(30,))])
    (train,) = traffic.split.train
    assert not train.masked.any()
    assert np.allclose(np.diff(train.rps), 1.0)


def test_a_recording_too_short_to_be_cut_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceInvalid, match="20 min or more"):
        recorded([write(tmp_path / "a", 10.0)])


def test_a_recording_given_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a", 60.0)
    with pytest.raises(TraceInvalid, match="twice"):
        recorded([path, path])


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputInvalid):
        recorded([tmp_path / "missing.parquet"])


def test_settings_are_searched_on_some_generated_training_traffic_only() -> None:
    traffic = generated(0, trace_s=600.0, day_s=600.0, per_family=(2, 1, 1), searched=1)
    assert set(traffic.search) < set(traffic.split.train)
    families = {trace.family for trace in traffic.split.test}
    assert "flash" in families
    assert "flash" not in {trace.family for trace in traffic.split.train}


def test_runs_in_the_package_are_found_by_purpose() -> None:
    for folder in recorded_runs("traffic"):
        assert read_run(folder).purpose == "traffic"
    assert set(recorded_runs("traffic")) <= set(recorded_runs())
