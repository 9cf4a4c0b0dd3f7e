"""Fitted tables kept in memory and on disk, named by a hash of everything they depend on."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from dataclasses import asdict
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.atomic import write_bytes
from gpupilot_envs.errors import OutputRefused
from gpupilot_envs.fleet import table
from gpupilot_envs.fleet.fit import fit
from gpupilot_envs.fleet.table import PLANT, FleetTable
from gpupilot_envs.limits import Targets
from gpupilot_envs.profile import ServiceProfile

VERSION = 1
"""Raised whenever the event level or the fit changes what a table would hold."""

_ARRAYS = ("plant", "steady", "slack", "levels")


@lru_cache(maxsize=256)
def fleet_table(
    profile: ServiceProfile,
    targets: Targets,
    allocation: Allocation | None = None,
    seed: int = 0,
    effort: float = 1.0,
) -> FleetTable:
    """Return :func:`fit` of the arguments, from memory or disk where it was fitted before.

    A cache that cannot be read or written is passed over: it only saves time.

    Raises:
        SloInfeasible: No batch size meets the target even when idle.
    """
    path = cache_folder() / f"fleet-{_digest(profile, targets, allocation, seed, effort)}.npz"
    kept = _read(path, profile.name)
    if kept is not None:
        return kept
    fitted = fit(profile, targets, allocation=allocation, seed=seed, effort=effort)
    _write(path, fitted)
    return fitted


def cache_folder() -> Path:
    """Return the user's cache folder for gpupilot (XDG base directory specification)."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "gpupilot"


def _digest(
    profile: ServiceProfile,
    targets: Targets,
    allocation: Allocation | None,
    seed: int,
    effort: float,
) -> str:
    axes = (table.LOAD_STEP, table.LOADS, table.BURST_STEP, table.BURSTS, table.SLACKS)
    key = {
        "version": VERSION,
        "axes": [*axes, table.LEVELS, PLANT.descr],
        "profile": profile.model_dump(mode="json", exclude={"measured"}),
        "targets": asdict(targets),
        "allocation": None if allocation is None else asdict(allocation),
        "seed": seed,
        "effort": effort,
    }
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]


def _read(path: Path, name: str) -> FleetTable | None:
    try:
        with np.load(BytesIO(path.read_bytes())) as arrays:
            return FleetTable(name=name, **{key: arrays[key] for key in _ARRAYS})
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        return None


def _write(path: Path, fitted: FleetTable) -> None:
    buffer = BytesIO()
    np.savez_compressed(buffer, **{key: getattr(fitted, key) for key in _ARRAYS})
    try:
        write_bytes(path, buffer.getvalue())
    except OutputRefused:
        return
