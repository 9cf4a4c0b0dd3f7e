"""From options to the scene and traffic of a search, a comparison or a recording."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from gpupilot_agent.cli.checks import percent, plausible, positive, within
from gpupilot_envs.errors import InputInvalid, TraceInvalid

if TYPE_CHECKING:
    from gpupilot_agent.bundle import Bundle
    from gpupilot_agent.comparison.scene import Scene
    from gpupilot_envs.workload.trace import RateTrace

BESIDE_TRACES = ("gaps.csv", "index.csv")
"""Tables that may lie beside traces and are none."""
CV_MAX = 10.0
"""As far as the arrivals' gamma gaps go."""
REPLICAS_MAX = 64.0
"""As many as the envelope of a comparison grants."""
HOURS_MIN = 0.1
"""Shorter windows hold no whole bins after their warm-up."""


def scene_of(
    profile: str,
    *,
    target_ms: float,
    attainment: float,
    scale_to_replicas: float | None,
    cv: float,
    hours: float | None,
    warm_up_s: float = 600.0,
) -> Scene:
    """Return the scene the options describe.

    Args:
        profile: Embedded name or file.
        target_ms: Latency target in milliseconds.
        attainment: Percent of requests that must be in time.
        scale_to_replicas: Mean demand of every trace in replicas, ``None`` keeps its rates.
        cv: Coefficient of variation of arrival gaps.
        hours: Hours of each trace to score, ``None`` for all.
        warm_up_s: Seconds before each scored window.

    Raises:
        InputInvalid: An option is out of range or the profile is invalid; names it.
    """
    from gpupilot_agent.comparison.scene import Scene
    from gpupilot_envs.embedded import find_profile
    from gpupilot_envs.limits import Targets

    positive(target_ms=target_ms, scale_to_replicas=scale_to_replicas, cv=cv, hours=hours)
    percent(attainment=attainment)
    within(0.0, CV_MAX, cv=cv)
    within(0.0, REPLICAS_MAX, scale_to_replicas=scale_to_replicas)
    if hours is not None and hours < HOURS_MIN:
        raise InputInvalid("--hours", hours, f"{HOURS_MIN:g} or more, or 0 for all")
    return Scene(
        profile=find_profile(profile),
        targets=Targets(latency_s=target_ms / 1000.0, attainment_ratio=attainment / 100.0),
        scale_to_replicas=scale_to_replicas,
        cv=cv,
        hours=hours,
        warm_up_s=warm_up_s,
    )


def traces_of(paths: Iterable[Path]) -> tuple[RateTrace, ...]:
    """Return the traffic in files and folders, a folder's files in the order of their names.

    Raises:
        TraceInvalid: A folder holds no trace, or a file is none.
    """
    from gpupilot_envs.workload.recording import read_traffic

    return tuple(plausible(file, read_traffic(file)) for file in files_of(paths))


def files_of(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Return the files and, of folders, the traces in them in the order of their names.

    Raises:
        TraceInvalid: A folder holds no trace.
    """
    return tuple(file for path in paths for file in _files(path))


def bundle_of(path: Path | None) -> Bundle | None:
    """Return the policy in a file or folder, ``None`` where none is given.

    Raises:
        BundleRefused: Not a bundle of this version.
    """
    return None if path is None else trusted(path)


def trusted(path: Path, *, digest: str | None = None, key: Path | None = None) -> Bundle:
    """Return the policy in a file, in the folder of a training, or the one that ships.

    Args:
        path: File or folder; ``generalist`` where there is none of that name.
        digest: ``sha256:HEX`` that the file must have.
        key: Public key that must have signed it.

    Raises:
        BundleRefused: Not a bundle of this version, or not the one meant.
        InputInvalid: The digest or the key is none.
    """
    from gpupilot_agent.signature import Trust, load_trusted

    return load_trusted(bundle_file(path), Trust(digest=digest, public_key=key))


def bundle_file(path: Path) -> Path:
    """Return the file of a policy: the file itself, a training's, or the one that ships."""
    from gpupilot_agent.generalist import NAME, generalist_file

    if path.is_dir():
        return path / "policy.npz"
    return generalist_file() if str(path) == NAME and not path.exists() else path


def bundles_of(paths: Iterable[Path]) -> tuple[Bundle, ...]:
    """Return the policies in files, in the folders of trainings, or in folders of either.

    The name ``generalist`` stands for the shipped one.

    Raises:
        BundleRefused: Not a bundle of this version, a folder without one, or one named twice.
    """
    from gpupilot_agent.bundle import load
    from gpupilot_envs.errors import BundleRefused

    found = [
        file
        for path in paths
        for file in (_bundle_files(path) if path.is_dir() else [bundle_file(path)])
    ]
    if len(set(found)) < len(found):
        raise BundleRefused("the same bundle is named twice")
    return tuple(load(file) for file in found)


def _bundle_files(folder: Path) -> list[Path]:
    """Return the bundle of a training, else every bundle in the folder and one level below."""
    from gpupilot_envs.errors import BundleRefused

    own = folder / "policy.npz"
    found = [own] if own.exists() else sorted([*folder.glob("*.npz"), *folder.glob("*/policy.npz")])
    if not found:
        raise BundleRefused(f"{folder} holds no policy bundle (policy.npz)")
    return found


def names_of(policies: str) -> tuple[str, ...]:
    """Return the names in a comma-separated list.

    Raises:
        InputInvalid: The list is empty.
    """
    names = tuple(name.strip() for name in policies.split(",") if name.strip())
    if not names:
        raise InputInvalid("--policies", policies, "names separated by commas")
    return names


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = [
        file
        for file in sorted(path.iterdir())
        if file.suffix in (".parquet", ".csv") and file.name not in BESIDE_TRACES
    ]
    if not found:
        raise TraceInvalid(str(path), "a folder without traces", "Parquet or CSV files in it")
    return found
