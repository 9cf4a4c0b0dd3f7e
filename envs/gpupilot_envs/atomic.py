"""Whole files or none: every result is written beside its target and renamed into place."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from gpupilot_envs.errors import OutputRefused

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EIO: "the disk reports an error",
    errno.EFBIG: "a file of this size is not allowed here",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "a part of the path is not a folder",
    errno.EEXIST: "a part of the path is not a folder",
    errno.ENOTEMPTY: "it is not empty",
    errno.EBUSY: "it is in use as a mount point",
    errno.EISDIR: "it is a folder",
    errno.ENAMETOOLONG: "the name is too long",
}


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; rename it to ``target`` on success.

    The data is flushed to disk before the rename, so that after a crash the target is either
    the old file or the new one. An exception in the block, Ctrl-C included, removes the
    temporary file and leaves the target as it was. Missing parent folders are created.

    Raises:
        OutputRefused: Disk full, no permission, or the target is a folder; says which.
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}-{token_hex(4)}.partial")
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        _flush(partial)
        partial.replace(target)
        _flush(target.parent)
    except OSError as error:
        if not _about(error, partial, target):
            raise
        raise OutputRefused(_sentence(error, target)) from error
    finally:
        _remove(partial)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``target``; rename it to ``target`` on success.

    An exception in the block, Ctrl-C included, removes the temporary folder with all in it.
    Missing parent folders are created.

    Raises:
        OutputRefused: Disk full, no permission, or something is at the target already; says which.
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}-{token_hex(4)}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.rename(target)
        _flush(target.parent)
    except OutputRefused as error:
        raise OutputRefused(str(error).replace(str(partial), str(target))) from error
    except OSError as error:
        if not _about(error, partial, target):
            raise
        raise OutputRefused(_sentence(error, target)) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_text(target: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all.

    Raises:
        OutputRefused: See :func:`atomic_path`.
    """
    write_bytes(target, text.encode("utf-8"))


def write_bytes(target: Path, data: bytes) -> None:
    """Write ``data``, whole or not at all.

    Raises:
        OutputRefused: See :func:`atomic_path`.
    """
    with atomic_path(target) as partial:
        partial.write_bytes(data)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(partial: Path) -> None:
    # an unreachable folder (no permission, not a folder) holds no partial file of ours
    try:
        partial.unlink(missing_ok=True)
    except OSError as error:
        if error.errno not in _REASONS:
            raise


def _about(error: OSError, partial: Path, target: Path) -> bool:
    """Tell whether the error is about our output, not about a file the block was reading."""
    if error.errno not in _REASONS:
        return False
    if error.filename is None:
        return True
    named = Path(os.fsdecode(error.filename))
    return named == target or named in target.parents or named.is_relative_to(partial)


def _sentence(error: OSError, target: Path) -> str:
    reason = _REASONS.get(error.errno or 0, error.strerror)
    return f"cannot write {target}: {reason}"
