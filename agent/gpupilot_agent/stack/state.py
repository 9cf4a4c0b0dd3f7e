"""What a running stack leaves on disk so that later commands find it and end it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from gpupilot_agent.stack.plan import LOOPBACK
from gpupilot_agent.stack.processes import Process
from gpupilot_agent.stack.server import Ports
from gpupilot_envs.atomic import write_text
from gpupilot_envs.errors import StackFailed

FILE = "state.json"
SHARED_MEMORY = Path("/dev/shm")
Kept = TypeVar("Kept", bound=BaseModel)


class StackState(BaseModel):
    """A stack that was started.

    Attributes:
        flavour: ``cpu`` or ``emulated``.
        target_ms: The latency target its histogram counts to.
        gateway_url: Where requests go, HTTP and gRPC.
        admin_url: The gateway's own pages.
        prometheus_url: Where signals are read.
        replicas: Ports by replica name.
        shared_memory: Prefix of Triton's regions in ``/dev/shm``.
        processes: Everything that runs, in the order it was started.
        cold_starts_s: From the start of a replica's process until its model was ready.
    """

    model_config = ConfigDict(extra="forbid")

    flavour: str
    target_ms: float
    gateway_url: str
    admin_url: str
    prometheus_url: str
    replicas: dict[str, Ports]
    shared_memory: str
    processes: list[Process] = []
    cold_starts_s: dict[str, float] = {}

    def replica_urls(self) -> dict[str, str]:
        """Return the HTTP address of every replica by its name."""
        return {name: f"http://{LOOPBACK}:{ports.http}" for name, ports in self.replicas.items()}


def default_folder() -> Path:
    """Return where a stack keeps its state unless told: the user's state folder."""
    return state_root() / "stack"


def state_root() -> Path:
    """Return the user's folder of what runs."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "gpupilot"


def load(folder: Path) -> StackState | None:
    """Return the stack started in a folder, ``None`` where there is none.

    Raises:
        StackFailed: The file is not one of ours.
    """
    return read(folder, StackState, "a stack")


def read(folder: Path, kind: type[Kept], what: str) -> Kept | None:
    """Return what was saved in a folder, ``None`` where nothing was.

    Args:
        folder: Where :func:`save` put it.
        kind: Its type.
        what: Its name to the user: ``a stack``.

    Raises:
        StackFailed: The file is not one of ours.
    """
    path = folder / FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise StackFailed(f"{path} is not the state of {what}; remove it by hand") from error


def save(folder: Path, state: BaseModel) -> None:
    """Write the state, whole or not at all."""
    write_text(folder / FILE, state.model_dump_json(indent=2))
