"""Triton from NVIDIA's container image, where there is a GPU: one container per replica.

The image holds the ``onnxruntime`` backend for CUDA, which no wheel does. Network and ports are
the host's, so that gateway and Prometheus find it as they find the other flavours.
"""

from __future__ import annotations

import shutil
import subprocess

from gpupilot_agent.stack.server import Replica
from gpupilot_envs.errors import InputInvalid, StackFailed

ENGINES = ("docker", "podman")
SHARED_MEMORY = "256m"
GPUS = {"docker": ("--gpus", "all"), "podman": ("--device", "nvidia.com/gpu=all")}


def engine_for(image: str) -> str:
    """Return the program that runs containers here, when all that a GPU stack needs is here.

    Args:
        image: Of Triton, by its full name.

    Raises:
        InputInvalid: No image is named.
        StackFailed: There is no container engine, no GPU, or the image was not pulled.
    """
    if not image:
        raise InputInvalid("--image", "nothing", "NVIDIA's Triton image, with --flavour gpu")
    engine = next((name for name in ENGINES if shutil.which(name)), None)
    if engine is None:
        raise StackFailed("--flavour gpu needs docker or podman on PATH")
    if not _succeeds(["nvidia-smi", "-L"]):
        raise StackFailed("--flavour gpu needs an NVIDIA GPU: `nvidia-smi -L` finds none here")
    if not _succeeds([engine, "image", "inspect", image]):
        raise StackFailed(f"the image {image} is not here; run `{engine} pull {image}` first")
    return engine


def command(engine: str, image: str, replica: Replica) -> list[str]:
    """Return the command line that runs a replica in the foreground.

    Args:
        engine: ``docker`` or ``podman``.
        image: Of Triton.
        replica: What is to be started; its repository is mounted where Triton looks for it.
    """
    mounted = f"{replica.repository.resolve()}:/models:ro"
    around = [engine, "run", "--rm", "--name", name_of(replica.shared_memory), *GPUS[engine]]
    around += ["--network", "host", "--shm-size", SHARED_MEMORY, "--volume", mounted, image]
    return [*around, "tritonserver", "--model-repository=/models", *replica.options()]


def name_of(shared_memory: str) -> str:
    """Return a replica's container by its own prefix in shared memory."""
    return shared_memory.rstrip("-")


def remove(shared_memory: str) -> None:
    """Remove a replica's container where it is still there: one that was killed stays."""
    for engine in ENGINES:
        if shutil.which(engine):
            _succeeds([engine, "rm", "--force", name_of(shared_memory)])


def _succeeds(words: list[str]) -> bool:
    if shutil.which(words[0]) is None:
        return False
    return subprocess.run(words, capture_output=True, check=False).returncode == 0
