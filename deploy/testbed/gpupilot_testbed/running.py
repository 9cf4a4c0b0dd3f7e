"""A cluster that runs, as a test holds it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gpupilot_testbed.api import Api
from gpupilot_testbed.state import KUBECONFIG, ClusterState


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A running cluster with a connection as its administrator.

    Attributes:
        folder: Where its files lie.
        state: What is known of it.
        api: The connection.
    """

    folder: Path
    state: ClusterState
    api: Api

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.folder / KUBECONFIG

    def kubectl(self, *words: str) -> str:
        """Return what kubectl prints.

        Raises:
            AssertionError: It fails; says what it said.
        """
        done = subprocess.run(
            [self.state.kubectl, *words],
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def rendered(self, folder: Path) -> list[dict[str, Any]]:
        """Return the objects that a kustomization makes."""
        made = yaml.safe_load_all(self.kubectl("kustomize", str(folder)))
        return [each for each in made if each]


def until(wanted: Callable[[], bool], *, within_s: float = 120.0) -> None:
    """Wait until something is so.

    Raises:
        AssertionError: It is not within the time.
    """
    deadline_s = time.monotonic() + within_s
    while not wanted():
        assert time.monotonic() < deadline_s, f"not within {within_s:g} s"
        time.sleep(0.05)
