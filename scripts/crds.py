"""Write ``deploy/crds``, and the chart's copy, from the types it describes."""

from __future__ import annotations

from pathlib import Path

from gpupilot_envs.atomic import write_text
from gpupilot_operator import crd, naming

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
FOLDERS = (DEPLOY / "crds", DEPLOY / "helm" / "gpupilot" / "crds")
"""Helm takes definitions from inside a chart only."""


def documents() -> dict[str, str]:
    """Return the text of every definition by the name of its file."""
    return {f"{naming.PLURAL}.yaml": crd.text()}


def main() -> None:
    """Write every definition."""
    for folder in FOLDERS:
        for name, text in documents().items():
            write_text(folder / name, text)


if __name__ == "__main__":
    main()
