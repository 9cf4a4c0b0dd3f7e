"""What is shipped with the package: profiles by name, and recorded runs of real servers."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from gpupilot_envs.errors import ProfileInvalid
from gpupilot_envs.profile import ServiceProfile, load_profile, parse_profile

if TYPE_CHECKING:
    from gpupilot_envs.runs import Purpose

DEFAULT = "mobilenetv4-edge"
"""Name of the profile used where none is given."""

_FOLDER = resources.files("gpupilot_envs") / "data"


def names() -> tuple[str, ...]:
    """Return the names of the embedded profiles, ascending."""
    found = (entry.name for entry in _FOLDER.iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in found if name.endswith(".yaml")))


def find_profile(name_or_path: str) -> ServiceProfile:
    """Return an embedded profile by its name, or the profile in a file.

    Raises:
        ProfileInvalid: Neither an embedded name nor a valid ``gpupilot/profile-v1`` file.
    """
    if name_or_path in names():
        text = (_FOLDER / f"{name_or_path}.yaml").read_text(encoding="utf-8")
        return parse_profile(yaml.safe_load(text), origin=name_or_path)
    path = Path(name_or_path)
    if not path.exists() and path.suffix == "":
        known = ", ".join(names())
        raise ProfileInvalid("profile", name_or_path, f"a profile file, or one of {known}")
    return load_profile(path)


def recorded_runs(purpose: Purpose | None = None) -> tuple[Path, ...]:
    """Return the folders of the recorded runs in the package, see :mod:`gpupilot_envs.runs`.

    Args:
        purpose: Only runs that were made for this; ``None`` for all.

    Raises:
        InputInvalid: A run's card is damaged.
    """
    from gpupilot_envs.runs import find_runs, read_run

    found = find_runs([Path(str(_FOLDER)) / "recordings"])
    return tuple(path for path in found if purpose in (None, read_run(path).purpose))
