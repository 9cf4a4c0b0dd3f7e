"""The policy that ships with the package, so that a service has one on its first day."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from gpupilot_agent.bundle import Bundle, load

NAME = "generalist"
"""What stands for it where a bundle is asked for."""


def generalist_file() -> Path:
    """Return where the shipped policy lies."""
    return Path(str(resources.files("gpupilot_agent") / "data" / f"{NAME}.npz"))


def load_generalist() -> Bundle:
    """Return the shipped policy, trained on services and traffic of many kinds.

    Raises:
        BundleRefused: The package is damaged or was put together from two versions.
    """
    return load(generalist_file())
