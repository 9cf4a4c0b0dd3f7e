"""What the command line refuses before any work begins: one sentence per wrong option."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from gpupilot_envs.errors import InputInvalid, OutputRefused, TraceInvalid

if TYPE_CHECKING:
    from gpupilot_envs.workload.trace import RateTrace

RATE_MAX_RPS = 1e7
"""More per second is a wrong unit, not a service; a second of it must fit into memory."""
REQUESTS_MAX = 1e10
"""Most requests of one simulation: minutes of computing."""


def positive(**values: float | None) -> None:
    """Refuse an option that is not a finite number above 0; ``None`` means not given.

    Raises:
        InputInvalid: Names the option, its value and what is allowed.
    """
    for name, value in values.items():
        if value is not None and not (math.isfinite(value) and value > 0.0):
            raise InputInvalid(option(name), value, "a finite number above 0")


def within(low: float, high: float, **values: float | None) -> None:
    """Refuse an option outside ``low`` to ``high``; ``None`` means not given.

    Raises:
        InputInvalid: Names the option, its value and what is allowed.
    """
    for name, value in values.items():
        if value is not None and not low <= value <= high:
            raise InputInvalid(option(name), value, f"{low:g} to {high:g}")


def plausible(path: Path, trace: RateTrace) -> RateTrace:
    """Return the trace, refused where a rate can be no service's.

    Raises:
        TraceInvalid: Names the file, its highest rate and what is allowed.
    """
    highest = float(trace.rps.max())
    if highest > RATE_MAX_RPS:
        raise TraceInvalid(f"{path}: rps", highest, f"at most {RATE_MAX_RPS:g} a second")
    return trace


def percent(**values: float) -> None:
    """Refuse an option that is not a percentage above 0 and below 100.

    Raises:
        InputInvalid: Names the option, its value and what is allowed.
    """
    for name, value in values.items():
        if not 0.0 < value < 100.0:
            raise InputInvalid(option(name), value, "a percentage above 0 and below 100")


def option(name: str) -> str:
    """Return a parameter's name as the user types it."""
    return f"--{name.replace('_', '-')}"


def unused(folder: Path) -> None:
    """Refuse to write among files that are already there.

    Raises:
        OutputRefused: The folder holds something, or is a file.
    """
    no_file(folder)
    if folder.is_dir() and any(folder.iterdir()):
        raise OutputRefused(f"{folder} is not empty; choose another --out folder")


def no_file(folder: Path) -> None:
    """Refuse a file where a folder is to be.

    Raises:
        OutputRefused: It is a file.
    """
    if folder.is_file():
        raise OutputRefused(f"cannot write {folder}: it is a file, not a folder")
