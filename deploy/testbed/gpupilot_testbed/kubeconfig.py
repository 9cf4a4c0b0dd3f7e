"""Kubeconfig files: where the API server is and who one is."""

from __future__ import annotations

import base64
from pathlib import Path

import yaml

from gpupilot_envs.atomic import write_text
from gpupilot_testbed.certificates import Pair

CONTEXT = "gpupilot-testbed"
"""Tests refuse any other context, so that they can never reach a real cluster."""


def write(path: Path, url: str, authority: Path, client: Pair) -> Path:
    """Write a kubeconfig with everything inside, so that it can be moved, for its owner alone."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": CONTEXT,
        "clusters": [
            {
                "name": CONTEXT,
                "cluster": {"server": url, "certificate-authority-data": _inline(authority)},
            }
        ],
        "users": [
            {
                "name": path.stem,
                "user": {
                    "client-certificate-data": _inline(client.certificate),
                    "client-key-data": _inline(client.key),
                },
            }
        ],
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": path.stem}}],
    }
    write_text(path, yaml.safe_dump(document, sort_keys=False))
    path.chmod(0o600)
    return path


def _inline(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode("ascii")
