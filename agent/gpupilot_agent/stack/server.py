"""Starts one Triton replica: command line, environment, and what tells that it is ready."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from gpupilot_agent.stack.plan import LOOPBACK
from gpupilot_agent.stack.tools import Toolbox

SUMMARY_QUANTILES = "0.5:0.005,0.9:0.001,0.95:0.001,0.99:0.001,0.999:0.0005"
"""Quantiles of the fallback's summaries with their errors."""


class Ports(BaseModel):
    """Where one replica listens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    http: int
    grpc: int
    metrics: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One Triton server to start.

    Attributes:
        name: ``triton-0`` and so on.
        ports: Where it listens, on the loopback interface alone.
        repository: Its model repository.
        shared_memory: Prefix of its regions in ``/dev/shm``.
    """

    name: str
    ports: Ports
    repository: Path
    shared_memory: str

    def command(self, tools: Toolbox) -> list[str]:
        """Return the command line of the server from the wheel."""
        return [
            str(tools.tritonserver),
            f"--model-repository={self.repository}",
            f"--backend-directory={tools.backends}",
            "--allow-gpu-metrics=false",
            *self.options(),
            f"--backend-config=python,shm-region-prefix-name={self.shared_memory}",
        ]

    def options(self) -> list[str]:
        """Return the options that hold wherever the server comes from."""
        return [
            f"--http-address={LOOPBACK}",
            f"--grpc-address={LOOPBACK}",
            f"--metrics-address={LOOPBACK}",
            f"--http-port={self.ports.http}",
            f"--grpc-port={self.ports.grpc}",
            f"--metrics-port={self.ports.metrics}",
            "--metrics-interval-ms=1000",
            "--metrics-config=summary_latencies=true",
            f"--metrics-config=summary_quantiles={SUMMARY_QUANTILES}",
            # a completed configuration would switch dynamic batching on by itself
            "--disable-auto-complete-config",
        ]

    def environment(self, tools: Toolbox) -> dict[str, str]:
        """Return the environment: the stub takes its Python from ``PATH``, not ``PYTHONPATH``."""
        return {
            "PATH": f"{tools.python_folder}:/usr/bin:/bin",
            "LD_LIBRARY_PATH": ":".join(map(str, tools.libraries)),
            "HOME": os.environ.get("HOME", "/"),
            "ORT_DISABLE_TELEMETRY": "1",
            "OMP_NUM_THREADS": "1",
        }
