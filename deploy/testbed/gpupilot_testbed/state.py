"""What a running cluster leaves on disk so that later commands find it and end it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from gpupilot_agent.stack.processes import Process
from gpupilot_agent.stack.state import read, state_root

KUBECONFIG = "kubeconfig"


class ClusterState(BaseModel):
    """A cluster that was started.

    Attributes:
        light: Whether its nodes are fake.
        url: The API server.
        kubectl: A client of the same version.
        slot: Which of the address ranges a full cluster has; also ends its cgroup's name.
        processes: Everything that runs, in the order it was started; the first of a full
            cluster holds its namespaces.
    """

    model_config = ConfigDict(extra="forbid")

    light: bool
    url: str
    kubectl: Path
    slot: int = 0
    processes: list[Process] = []

    def is_alive(self) -> bool:
        """Say whether anything of it still runs."""
        return any(process.is_alive() for process in self.processes)


def default_folder() -> Path:
    """Return where a cluster keeps its state unless told: the user's state folder."""
    return state_root() / "cluster"


def load(folder: Path) -> ClusterState | None:
    """Return the cluster started in a folder, ``None`` where there is none.

    Raises:
        StackFailed: The file is not one of ours.
    """
    return read(folder, ClusterState, "a cluster")
