"""Run folders: named by what determines them, held by one run, never half-written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from gpupilot_agent.comparison.config import CompareConfig
from gpupilot_agent.comparison.running import compare
from gpupilot_agent.tracking import claimed, digest, environment, run_name
from gpupilot_envs.errors import OutputRefused


def test_name_depends_on_content_not_on_order_or_time() -> None:
    name = run_name("demo", {"seed": 1, "traces": {"a": "x", "b": "y"}})
    assert name == run_name("demo", {"traces": {"b": "y", "a": "x"}, "seed": 1})
    assert name != run_name("demo", {"seed": 2, "traces": {"a": "x", "b": "y"}})
    assert name.startswith("demo-")


def test_digest_tells_values_apart() -> None:
    assert len({digest(value) for value in (None, 0, 0.5, "0", [0], {"0": 0}, False)}) == 7


def test_environment_says_what_ran_where() -> None:
    found = environment()
    assert found["packages"]["gpupilot"]
    assert found["cpu_count"] == os.cpu_count()
    assert found["cpu"]


def test_lock_is_released_when_the_run_ends_or_fails(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for _ in range(2):
        with (
            pytest.raises(KeyError),
            claimed(folder, kind="test", identity={"a": 1}, result="done"),
        ):
            raise KeyError("stop")
    with claimed(folder, kind="test", identity={"a": 1}, result="done"):
        pass
    assert [file.name for file in folder.iterdir()] == ["identity.json"]


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    with (
        pytest.raises(OutputRefused, match="not a folder"),
        claimed(tmp_path / "run", kind="test", identity={}, result="done"),
    ):
        pass


def test_full_disk_is_one_sentence_and_leaves_whole_files_only(
    small: CompareConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up after a few results: the run stops, what is there is whole, it resumes."""
    written: list[Path] = []
    original = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        written.append(self)
        if len(written) > 12:
            original(self, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return original(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputRefused, match="disk is full"):
        compare(small, tmp_path / "run")
    monkeypatch.undo()
    assert not list((tmp_path / "run").rglob("*.partial"))
    assert not (tmp_path / "run" / "summary.json").exists()
    assert compare(small, tmp_path / "run").exists()
