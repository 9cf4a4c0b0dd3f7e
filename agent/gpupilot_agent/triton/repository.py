"""Model repositories for Triton: ``config.pbtxt`` and the files beside it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Literal

from gpupilot_envs.atomic import atomic_path, write_text
from gpupilot_envs.profile import Batching, ServiceProfile

MODEL = "mobilenetv4"
"""Name the model is served under."""
INPUT = "pixel_values"
"""Name of the input: float32, ``(batch, 3, 224, 224)``; the public ONNX file's own name."""
OUTPUT = "logits"
"""Name of the output: float32, ``(batch, 1000)``."""
IMAGE_SHAPE = (3, 224, 224)
CLASSES = 1000
MAX_INSTANCES = 16
"""Most instances of one replica, as profiles have it."""

Backend = Literal["python", "onnxruntime"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """What ``config.pbtxt`` says of a model.

    Attributes:
        backend: ``onnxruntime`` runs ``model.onnx`` itself; ``python`` runs ``model.py``.
        gpu: Whether instances sit on a GPU (``KIND_GPU``) or on the CPU.
        batching: The dynamic batcher; ``max_batch`` also bounds a client's own batch.
        instances: Copies of the model that execute at once.
        timeout_ms: A request queued longer is rejected; 0 for never.
        max_queue: Requests that may wait; 0 for no bound.
        input_shape: Dimensions of one input without the batch; -1 for any size.
        parameters: Strings handed to ``model.py``.
    """

    backend: Backend
    gpu: bool
    batching: Batching
    instances: int = 1
    timeout_ms: float = 0.0
    max_queue: int = 0
    input_shape: Sequence[int] = IMAGE_SHAPE
    parameters: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """Return the configuration in protobuf's text format (Triton's ``ModelConfig``)."""
        kind = "KIND_GPU" if self.gpu else "KIND_CPU"
        lines = [
            f'name: "{MODEL}"',
            f'backend: "{self.backend}"',
            f"max_batch_size: {self.batching.max_batch}",
            f'input [ {{ name: "{INPUT}" data_type: TYPE_FP32 dims: {_list(self.input_shape)} }} ]',
            f'output [ {{ name: "{OUTPUT}" data_type: TYPE_FP32 dims: {_list([CLASSES])} }} ]',
            *self._batching_lines(),
            f"instance_group [ {{ kind: {kind} count: {self.instances} }} ]",
            *(
                f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}'
                for key, value in sorted(self.parameters.items())
            ),
        ]
        return "\n".join(lines) + "\n"

    def _batching_lines(self) -> list[str]:
        if not self.batching.enabled:
            return []
        inside = []
        if self.batching.preferred:
            inside.append(f"preferred_batch_size: {_list(self.batching.preferred)}")
        delay_us = round(1000 * self.batching.queue_delay_ms)
        inside.append(f"max_queue_delay_microseconds: {delay_us}")
        inside.extend(self._policy())
        return ["dynamic_batching {", *(f"  {line}" for line in inside), "}"]

    def _policy(self) -> list[str]:
        inside = []
        if self.timeout_ms:
            timeout_us = round(1000 * self.timeout_ms)
            inside.append(f"timeout_action: REJECT default_timeout_microseconds: {timeout_us}")
        if self.max_queue:
            inside.append(f"max_queue_size: {self.max_queue}")
        return [f"default_queue_policy {{ {' '.join(inside)} }}"] if inside else []


def cpu_config(batching: Batching, *, instances: int = 1, threads: int = 1) -> ModelConfig:
    """Return the configuration that runs the ONNX file on the CPU through the Python backend."""
    return ModelConfig(
        backend="python",
        gpu=False,
        batching=batching,
        instances=instances,
        parameters={"intra_op_threads": str(threads)},
    )


def gpu_config(batching: Batching, *, instances: int = 1) -> ModelConfig:
    """Return the configuration that runs the ONNX file on a GPU (NVIDIA's Triton image)."""
    return ModelConfig(backend="onnxruntime", gpu=True, batching=batching, instances=instances)


def emulated_config(profile: ServiceProfile, *, tenants: Path, seed: int) -> ModelConfig:
    """Return the configuration of a model that takes a profile's time without computing.

    Args:
        profile: Batch latencies, noise, batching, queue limits, instances and contention.
        tenants: File in which the instances that share a GPU mark that they execute.
        seed: Of the noise.
    """
    from gpupilot_envs.serving.speed import contention

    slower = contention(profile)[1 : MAX_INSTANCES + 1]
    times_ms = 1000.0 * profile.batch_latency_s()[1:]
    return ModelConfig(
        backend="python",
        gpu=False,
        batching=profile.batching,
        instances=profile.instances_per_replica,
        timeout_ms=profile.timeout_ms,
        max_queue=profile.max_queue,
        input_shape=(-1, -1, -1),
        parameters={
            "batch_latency_ms": ",".join(f"{time:.6g}" for time in times_ms),
            "noise_cv": f"{profile.noise_cv:.6g}",
            "contention": ",".join(f"{times:.6g}" for times in slower),
            "tenants_file": str(tenants),
            "seed": str(seed),
        },
    )


def write_model(repository: Path, config: ModelConfig, *, code: str | None = None) -> Path:
    """Write a model's folder into a repository and return the folder of its version.

    Args:
        repository: The folder that Triton is pointed at; made where it is missing.
        config: What ``config.pbtxt`` says.
        code: Name of the module of this package that becomes ``model.py``: ``onnx_model`` or
            ``emulated_model``; none for a backend that needs no code.
    """
    folder = repository / MODEL
    version = folder / "1"
    version.mkdir(parents=True, exist_ok=True)
    write_text(folder / "config.pbtxt", config.text())
    if code is not None:
        source = resources.files("gpupilot_agent.triton") / f"{code}.py"
        write_text(version / "model.py", source.read_text(encoding="utf-8"))
    return version


def add_onnx(version: Path, model: Path) -> None:
    """Put an ONNX file into a model's version folder, whole or not at all.

    Raises:
        OutputRefused: It cannot be written.
    """
    with atomic_path(version / "model.onnx") as partial:
        shutil.copyfile(model, partial)


def _list(values: Sequence[int]) -> str:
    return f"[ {', '.join(map(str, values))} ]"
