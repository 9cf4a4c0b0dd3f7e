"""The cgroup all pods of a cluster are under: made for it, and emptied and removed with it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_CPUSET = ("cpuset.cpus", "cpuset.mems")


def make(name: str) -> None:
    """Make a cgroup in every hierarchy, so that a kubelet takes it for its root."""
    for hierarchy in _hierarchies():
        folder = hierarchy / name.lstrip("/")
        folder.mkdir(exist_ok=True)
        for file in _CPUSET:
            # in version 1 a new set is empty, and no process may enter it
            if (hierarchy / file).exists():
                (folder / file).write_text((hierarchy / file).read_text())


def kill(name: str) -> None:
    """Kill every process under a cgroup."""
    for pid in {pid for folder in _folders(name) for pid in _members(folder)}:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def remove(name: str) -> bool:
    """Remove a cgroup and all below it; say whether nothing of it is left."""
    left = False
    for folder in _folders(name):
        try:
            folder.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            left = True  # a process that was killed has not gone yet
    return not left


def _folders(name: str) -> Iterator[Path]:
    """Yield a cgroup's folders of every hierarchy, the deepest first."""
    for hierarchy in _hierarchies(every=True):
        top = hierarchy / name.lstrip("/")
        if top.is_dir():
            yield from sorted(
                (Path(folder) for folder, _, _ in os.walk(top)), key=lambda path: -len(path.parts)
            )


def _members(folder: Path) -> list[int]:
    try:
        return [int(line) for line in (folder / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def _hierarchies(*, every: bool = False) -> list[Path]:
    """Return where cgroups are mounted: version 1's hierarchies, else the one of version 2.

    Args:
        every: Both, where both are mounted: runc writes to both.
    """
    found: dict[str, list[Path]] = {"cgroup": [], "cgroup2": []}
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, where, kind, *_ = line.split()
        if kind in found:
            found[kind].append(Path(where))
    if every:
        return found["cgroup"] + found["cgroup2"]
    return found["cgroup"] or found["cgroup2"]
