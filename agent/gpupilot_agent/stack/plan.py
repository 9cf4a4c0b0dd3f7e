"""What a stack is asked to be: flavour, size, batching, ports, target."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from gpupilot_envs.atomic import write_bytes
from gpupilot_envs.errors import InputInvalid, StackFailed
from gpupilot_envs.profile import Batching, ServiceProfile

Flavour = Literal["cpu", "emulated", "gpu"]
Balancing = Literal["random", "round_robin", "least_loaded"]

FILE = "plan.json"
GATEWAY_PORT = 8000
PROMETHEUS_PORT = 9090
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class StackPlan:
    """Everything ``up`` needs to know.

    Attributes:
        flavour: ``cpu`` runs the ONNX model; ``emulated`` takes the profile's batch time asleep;
            ``gpu`` runs the ONNX model in NVIDIA's image.
        folder: Where configuration, logs, state and Prometheus' data lie while it is up.
        profile: The emulated service; its batching, queue limits and instances hold for both.
        model: The ONNX file of the ``cpu`` and ``gpu`` flavours.
        image: Triton's container image, for ``gpu``.
        replicas: Triton servers behind the gateway.
        threads: Threads of one instance of the ``cpu`` flavour.
        balancing: How the gateway spreads requests, in the profile's words.
        target_ms: The SLO's latency target; a bound of the gateway's histogram.
        scrape_s: Seconds between two scrapes.
        seed: Of the emulated noise.
        realtime: Schedule Triton and the gateway before everything else (``SCHED_RR``), so that
            a busy machine does not show in the measurement; needs ``CAP_SYS_NICE``.
        gateway_port: 0 for 8000, or a free one where that is taken.
        prometheus_port: 0 for 9090, or a free one where that is taken.
    """

    flavour: Flavour
    folder: Path
    profile: ServiceProfile
    model: Path | None = None
    image: str = ""
    replicas: int = 1
    threads: int = 1
    balancing: Balancing = "random"
    target_ms: float = 60.0
    scrape_s: float = 1.0
    seed: int = 0
    realtime: bool = False
    gateway_port: int = 0
    prometheus_port: int = 0

    @property
    def batching(self) -> Batching:
        """The dynamic batcher's settings."""
        return self.profile.batching


_ADAPTER = TypeAdapter(StackPlan)


def save_plan(plan: StackPlan) -> None:
    """Keep the plan beside the state, so that servers can be added later."""
    write_bytes(plan.folder / FILE, _ADAPTER.dump_json(plan, indent=2))


def load_plan(folder: Path) -> StackPlan:
    """Return the plan of the stack in a folder.

    Raises:
        StackFailed: It is not there, or not one of ours.
    """
    path = folder / FILE
    try:
        return replace(_ADAPTER.validate_json(path.read_bytes()), folder=folder)
    except (OSError, ValidationError) as error:
        raise StackFailed(
            f"{path} is not the plan of a stack; take it down and up again"
        ) from error


def exact_bound_us(target_ms: float) -> int:
    """Return a latency target in microseconds, refused where the gateway cannot count to it.

    Envoy's histogram keeps two significant digits, so a target of 60 or 120 ms is counted exactly
    and one of 125 ms is not.

    Raises:
        InputInvalid: Names the two nearest targets that can be counted.
    """
    target_us = round(1000.0 * target_ms)
    if target_us >= 1:
        step = 10 ** max(len(str(target_us)) - 2, 0)
        low = target_us // step * step
        if low == target_us:
            return target_us
        allowed = f"two significant digits, such as {low / 1000:g} or {(low + step) / 1000:g}"
        raise InputInvalid("--target-ms", target_ms, allowed)
    raise InputInvalid("--target-ms", target_ms, "at least 0.001")


def chosen_port(asked: int, preferred: int, option: str) -> int:
    """Return the asked port, else the preferred one, else a free one.

    Raises:
        StackFailed: The asked port is in use.
    """
    if asked:
        if not _is_free(asked):
            raise StackFailed(f"{option}: port {asked} is in use; choose another, or 0 for any")
        return asked
    return preferred if _is_free(preferred) else free_ports(1)[0]


def free_ports(count: int) -> Sequence[int]:
    """Return ports of the loopback interface that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
