"""What a run leaves behind: its name, the machine it ran on, and a folder it alone may fill."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gpupilot_envs.atomic import write_text
from gpupilot_envs.errors import OutputRefused

RECORDED_PACKAGES = ("gpupilot", "numpy", "scipy", "numba", "pyarrow", "joblib")

_IDENTITY = "identity.json"
_LOCK = ".lock"


def digest(document: object) -> str:
    """Return the SHA-256 of a JSON-like document, independent of the order of its keys."""
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def run_name(kind: str, identity: object) -> str:
    """Return a folder name that says what ran: the kind and a hash of what determines it."""
    return f"{kind}-{digest(identity)[:12]}"


def environment() -> dict[str, Any]:
    """Return versions, commit, machine and time: what may differ between equal results."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in RECORDED_PACKAGES},
        "commit": _commit(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cpu_count": os.cpu_count(),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@contextmanager
def claimed(folder: Path, *, kind: str, identity: dict[str, Any], result: str) -> Iterator[None]:
    """Hold ``folder`` for one run: a new one, or the same run after an interruption.

    Args:
        folder: Created when missing.
        kind: What the folder will hold, for the messages.
        identity: Everything that determines the result, JSON-like.
        result: File that exists once the run is finished.

    Raises:
        OutputRefused: The folder holds a finished result, another run, foreign files, or a run
            that is still going on; or it cannot be written.
    """
    _refuse_foreign(folder, kind, identity, result)
    write_text(folder / _IDENTITY, json.dumps({"kind": kind, "identity": identity}, indent=2))
    with held(folder, kind):
        yield


def _refuse_foreign(folder: Path, kind: str, identity: dict[str, Any], result: str) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputRefused(f"cannot write {folder}: it is a file, not a folder")
    present = {entry.name for entry in folder.iterdir()}
    if result in present:
        raise OutputRefused(f"{folder} holds a finished {kind}; choose another --out folder")
    if not present - {_LOCK}:
        return
    if _IDENTITY not in present:
        raise OutputRefused(f"{folder} is not empty; choose another --out folder")
    if json.loads((folder / _IDENTITY).read_text()) != {"kind": kind, "identity": identity}:
        raise OutputRefused(
            f"{folder} holds an unfinished run with another configuration; "
            "choose another --out folder, or repeat the same command to resume it"
        )


@contextmanager
def held(folder: Path, kind: str) -> Iterator[None]:
    """Hold ``folder``, created when missing, against every other process that would write there.

    The system lets go of it when the process ends, however it ends. A folder that was made for it
    and holds nothing in the end is removed.

    Args:
        folder: The folder.
        kind: What is written there, for the message.

    Raises:
        OutputRefused: Another process holds it, or it cannot be written.
    """
    made = not folder.is_dir()
    if made:
        write_text(folder / _LOCK, "")
    with (folder / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise OutputRefused(f"another {kind} is writing into {folder} now") from error
        try:
            yield
        finally:
            (folder / _LOCK).unlink(missing_ok=True)
            if made and not any(folder.iterdir()):
                folder.rmdir()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the commit of the checkout this code runs from, ``+`` when files differ from it."""
    here = Path(__file__).resolve().parent
    try:
        commit = _git(here, "rev-parse", "HEAD")
        return commit + ("+" if _git(here, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor())
