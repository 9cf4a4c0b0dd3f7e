"""What the command line refuses before any work begins: one sentence per wrong option."""

from __future__ import annotations

import math
from pathlib import Path

from gpupilot_envs.errors import InputInvalid, OutputRefused


def positive(**values: float | None) -> None:
    """Refuse an option that is not a finite number above 0; ``None`` means not given.

    Raises:
        InputInvalid: Names the option, its value and what is allowed.
    """
    for name, value in values.items():
        if value is not None and not (math.isfinite(value) and value > 0.0):
            raise InputInvalid(option(name), value, "a finite number above 0")


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
    if folder.is_file():
        raise OutputRefused(f"cannot write {folder}: it is a file, not a folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise OutputRefused(f"{folder} is not empty; choose another --out folder")
