"""Results are whole files or none, and a refused one says why in a sentence."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from gpupilot_envs.atomic import atomic_folder, atomic_path, write_bytes, write_text
from gpupilot_envs.errors import OutputRefused


def write_half_then_raise(target: Path, error: BaseException) -> None:
    with atomic_path(target) as partial:
        partial.write_text("half")
        raise error


def test_writes_the_whole_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "result.json"
    write_text(target, "{}")
    write_bytes(target, b"[1]")
    assert target.read_bytes() == b"[1]"
    assert [path.name for path in target.parent.iterdir()] == ["result.json"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interruption_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "result.json"
    write_text(target, "old")
    with pytest.raises(error):
        write_half_then_raise(target, error())
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EFBIG, "size is not allowed"),
        (errno.EIO, "the disk reports an error"),
        (errno.EACCES, "permission denied"),
    ],
)
def test_the_systems_refusal_becomes_a_sentence(tmp_path: Path, code: int, words: str) -> None:
    target = tmp_path / "result.json"
    with pytest.raises(OutputRefused, match=words) as caught:
        write_half_then_raise(target, OSError(code, "as the system says it"))
    assert str(target) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_target(tmp_path: Path) -> None:
    with pytest.raises(OutputRefused, match="it is a folder"):
        write_text(tmp_path, "text")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("here first")
    for target in (blocker / "result.json", blocker / "deeper" / "result.json"):
        with pytest.raises(OutputRefused, match="not a folder"):
            write_text(target, "text")


def test_errors_about_other_files_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "result.json"):
        (tmp_path / "elsewhere").read_text()
    with pytest.raises(PermissionError), atomic_path(tmp_path / "result.json"):
        raise PermissionError(errno.EACCES, "denied", str(tmp_path / "input"))


def fill_half_then_raise(target: Path, error: BaseException) -> None:
    with atomic_folder(target) as partial:
        write_text(partial / "first.json", "{}")
        raise error


def test_a_folder_appears_with_all_its_files(tmp_path: Path) -> None:
    target = tmp_path / "new" / "run"
    with atomic_folder(target) as partial:
        write_text(partial / "first.json", "{}")
        assert not target.exists()
        write_text(partial / "deeper" / "second.json", "[]")
    assert (target / "deeper" / "second.json").read_text() == "[]"
    assert [path.name for path in target.parent.iterdir()] == ["run"]


def test_an_empty_folder_is_replaced_and_a_full_one_is_not(tmp_path: Path) -> None:
    target = tmp_path / "run"
    target.mkdir()
    with atomic_folder(target) as partial:
        write_text(partial / "first.json", "{}")
    with (
        pytest.raises(OutputRefused, match="it is not empty"),
        atomic_folder(target) as partial,
    ):
        write_text(partial / "second.json", "{}")
    assert [path.name for path in target.iterdir()] == ["first.json"]
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interruption_leaves_no_folder(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        fill_half_then_raise(tmp_path / "run", error())
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_does_not_fit_is_named_where_it_was_to_be(tmp_path: Path) -> None:
    target = tmp_path / "run"
    with (
        pytest.raises(OutputRefused, match=f"cannot write {target}/big: the disk is full"),
        atomic_folder(target) as partial,
        atomic_path(partial / "big") as big,
    ):
        raise OSError(errno.ENOSPC, "as the system says it", str(big))
    assert list(tmp_path.iterdir()) == []
