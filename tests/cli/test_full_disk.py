"""A recording that does not fit leaves nothing, and the same command works when there is room."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpupilot_agent.explanation.account import DECISIONS, RECORDING
from gpupilot_envs.workload.recording import read_recording

Shell = Callable[..., Any]


@contextmanager
def room_for(size_bytes: int) -> Iterator[None]:
    """Let the system refuse larger files, as a full disk refuses their last bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_folder_that_does_not_fit_is_not_there(
    shell: Shell, tiny: Path, traces: Path, tmp_path: Path
) -> None:
    """The first file fits, the second does not: not even the first is left."""
    service = ("--profile", tiny, "--trace", traces / "busy.csv")
    words = (*service, "--replicas", 2, "--target-ms", 500)
    whole, out = tmp_path / "whole", tmp_path / "rec"
    assert shell("record", *words, "--out", whole).code == 0
    first, second = ((whole / name).stat().st_size for name in (RECORDING, DECISIONS))
    assert first < second
    with room_for(second - 1):
        refused = shell("record", *words, "--out", out)
    assert refused.code == 2
    said = refused.err.strip().splitlines()[-1]
    assert said == (
        f"gpupilot: cannot write {out / DECISIONS}: a file of this size is not allowed here"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]
    assert shell("record", *words, "--out", out).code == 0
    assert read_recording(out / RECORDING) == read_recording(whole / RECORDING)


def test_a_calibration_that_does_not_fit_leaves_no_folder(
    shell: Shell, traces: Path, tiny: Path, tmp_path: Path
) -> None:
    """The profile fits, its report does not."""
    recorded = tmp_path / "rec"
    words = ("--profile", tiny, "--trace", traces / "busy.csv", "--replicas", 2)
    assert shell("record", *words, "--target-ms", 500, "--out", recorded).code == 0
    whole, out = tmp_path / "whole", tmp_path / "fitted"
    assert shell("calibrate", recorded / RECORDING, "--base", tiny, "--out", whole).code == 0
    profile, page = ((whole / name).stat().st_size for name in ("profile.yaml", "fit.html"))
    assert profile < page
    with room_for(page - 1):
        refused = shell("calibrate", recorded / RECORDING, "--base", tiny, "--out", out)
    assert refused.code == 2
    assert "a file of this size is not allowed here" in refused.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rec", "whole"]
