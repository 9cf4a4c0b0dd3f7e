"""A cluster that runs, as a test holds it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gpupilot_agent.stack import processes
from gpupilot_agent.stack.state import save
from gpupilot_testbed import lifecycle
from gpupilot_testbed.api import Api, done
from gpupilot_testbed.state import KUBECONFIG, ClusterState

PATIENCE_S = 600.0
"""Longest wait for what a machine does in seconds that has other work to do."""


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

    @contextmanager
    def without(self, name: str) -> Iterator[None]:
        """Kill a program; it is gone within the block, and started again behind it as it was.

        Raises:
            StopIteration: There is no such program.
        """
        place, old = next(
            (place, each) for place, each in enumerate(self.state.processes) if each.name == name
        )
        command = Path(f"/proc/{old.pid}/cmdline").read_text(encoding="utf-8").split("\0")[:-1]
        variables = Path(f"/proc/{old.pid}/environ").read_text(encoding="utf-8").split("\0")[:-1]
        environment = dict(each.split("=", 1) for each in variables)
        os.kill(old.pid, signal.SIGKILL)
        processes.stop([old])
        self.api.close()
        try:
            yield
        finally:
            again = processes.start(name, command, old.log, environment)
            self.state.processes[place] = again
            save(self.folder, self.state)

    def rendered(self, folder: Path) -> list[dict[str, Any]]:
        """Return the objects that a kustomization makes."""
        made = yaml.safe_load_all(self.kubectl("kustomize", str(folder)))
        return [each for each in made if each]


@contextmanager
def light(
    folder: Path, *, nodes: int = 1, gpus: int = 8, mortal: bool = False
) -> Iterator[Cluster]:
    """Yield a cluster of fake nodes, gone afterwards; see :func:`lifecycle.up_light`."""
    kept = lifecycle.up_light(folder, say=print, nodes=nodes, gpus=gpus, mortal=mortal)
    with _connected(folder, kept) as cluster:
        yield cluster


@contextmanager
def full(folder: Path) -> Iterator[Cluster]:
    """Yield a cluster with a real node, gone afterwards."""
    kept = lifecycle.up(folder, say=print)
    with _connected(folder, kept) as cluster:
        yield cluster


@contextmanager
def _connected(folder: Path, kept: ClusterState) -> Iterator[Cluster]:
    try:
        with Api(folder / KUBECONFIG) as api:
            yield Cluster(folder=folder, state=kept, api=api)
    finally:
        lifecycle.down(folder)


def define(api: Api, definition: Mapping[str, Any]) -> None:
    """Bring a CustomResourceDefinition to a cluster, and wait until it is served."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    done(api.ask("POST", path, definition))
    spec = definition["spec"]
    served = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"
    until(lambda: not api.ask("GET", served).refused)


def until(wanted: Callable[[], bool], *, within_s: float = PATIENCE_S) -> None:
    """Wait until something is so.

    Raises:
        AssertionError: It is not within the time.
    """
    deadline_s = time.monotonic() + within_s
    while not wanted():
        assert time.monotonic() < deadline_s, f"not within {within_s:g} s"
        time.sleep(0.05)
