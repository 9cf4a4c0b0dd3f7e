"""What a service costs to run: the profile file ``gpupilot/profile-v1`` and its meaning."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gpupilot_envs.errors import ProfileInvalid
from gpupilot_envs.malformed import complaint

FORMAT: Literal["gpupilot/profile-v1"] = "gpupilot/profile-v1"

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Curve = tuple[tuple[Positive, Positive], ...]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Batching(_Part):
    """Triton's dynamic batcher (``ModelDynamicBatching`` of the model configuration)."""

    enabled: bool = True
    max_batch: int = Field(default=8, ge=1, le=1024, description="max_batch_size")
    preferred: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(), description="preferred_batch_size, ascending"
    )
    queue_delay_ms: NonNegative = Field(default=0.0, description="max_queue_delay_microseconds")

    @model_validator(mode="after")
    def _preferred_fit(self) -> Self:
        if any(b <= a for a, b in pairwise(self.preferred)):
            raise ValueError("preferred to ascend without repeats")
        if self.preferred and self.preferred[-1] > self.max_batch:
            most = f"max_batch ({self.max_batch})"
            raise ValueError(f"preferred not to exceed {most}, as {self.preferred[-1]}")
        return self


class ColdStart(_Part):
    """Time from a pod holding its GPU to its first answer (image, model load, warm-up)."""

    mean: Positive = 30.0
    cv: NonNegative = 0.2


class Sharing(_Part):
    """How several pods or instances share one GPU and what that costs."""

    mode: Literal["exclusive", "time_slicing", "mps", "mig"] = "exclusive"
    speed_by_share: Curve = Field(
        default=((1000.0, 1.0),),
        description="[share in thousandths of a GPU, speed relative to the whole GPU]",
    )
    contention_by_tenants: Curve = Field(
        default=((1.0, 1.0),),
        description="[executions running on the GPU at once, slowdown of each]",
    )


class Power(_Part):
    """Board power in watts: idle while a pod holds the GPU, busy while it computes."""

    idle: NonNegative = 30.0
    busy: NonNegative = 150.0
    dynamic_by_share: Curve = Field(
        default=((1000.0, 1.0),),
        description="[share in thousandths, part of busy less idle it draws while it computes]",
    )


class Gpu(_Part):
    """The GPU the profile was measured on."""

    name: str = "unnamed"
    memory_mib: Positive = 16384.0
    sharing: Sharing = Sharing()
    power_w: Power = Power()


class Cpu(_Part):
    """How a CPU limit slows the service (pre- and post-processing, or CPU inference)."""

    speed_by_milli: Curve = Field(
        default=((1000.0, 1.0),),
        description="[CPU limit in thousandths of a core, speed relative to no limit]",
    )


class Measured(_Part):
    """Where the numbers come from, so that nobody mistakes a guess for a measurement."""

    how: str = "not stated"
    where: str = "not stated"
    when: str = "not stated"


class ServiceProfile(_Part):
    """A service as the simulator sees it. Times in milliseconds as the file writes them."""

    format: Literal["gpupilot/profile-v1"] = FORMAT
    name: str = Field(min_length=1)
    device: Literal["gpu", "cpu"] = Field(
        default="gpu", description="what a replica is billed for: its GPU share or its CPU limit"
    )
    batch_latency_ms: Curve = Field(
        min_length=1, description="[batch size, mean milliseconds of one execution], ascending"
    )
    noise_cv: NonNegative = Field(default=0.05, le=2.0, description="of one execution's time")
    batching: Batching = Batching()
    instances_per_replica: int = Field(default=1, ge=1, le=16)
    overhead_ms: NonNegative = Field(
        default=0.0, description="per request outside queue and execution: network, pre, post"
    )
    timeout_ms: NonNegative = Field(
        default=0.0, description="a request queued longer is rejected; 0 = never"
    )
    max_queue: int = Field(default=0, ge=0, description="queued requests per pod; 0 = unbounded")
    cold_start_s: ColdStart = ColdStart()
    gpu: Gpu = Gpu()
    cpu: Cpu = Cpu()
    measured: Measured = Measured()

    @model_validator(mode="after")
    def _curves_ascend(self) -> Self:
        curves = {
            "batch_latency_ms": self.batch_latency_ms,
            "gpu.sharing.speed_by_share": self.gpu.sharing.speed_by_share,
            "gpu.sharing.contention_by_tenants": self.gpu.sharing.contention_by_tenants,
            "gpu.power_w.dynamic_by_share": self.gpu.power_w.dynamic_by_share,
            "cpu.speed_by_milli": self.cpu.speed_by_milli,
        }
        for path, curve in curves.items():
            for before, after in pairwise(curve):
                if after[0] <= before[0]:
                    said = f"{after[0]:g} after {before[0]:g}"
                    raise ValueError(f"{path} to ascend in its first column, not {said}")
        for before, after in pairwise(self.batch_latency_ms):
            if after[1] < before[1]:
                said = f"{after[1]:g} after {before[1]:g}"
                raise ValueError(f"batch_latency_ms not to fall as the batch grows, as {said}")
        return self

    def batch_latency_s(self) -> NDArray[np.float64]:
        """Return seconds of one execution by batch size; index ``b`` is batch ``b``, 0 unused.

        Shape ``(max_batch + 1,)``. Linear between the given points; beyond the last point the
        last slope goes on; below the first the first value holds.
        """
        sizes = np.arange(self.batching.max_batch + 1, dtype=np.float64)
        given = np.array(self.batch_latency_ms, dtype=np.float64)
        out = np.interp(sizes, given[:, 0], given[:, 1])
        if len(given) > 1:
            slope = (given[-1, 1] - given[-2, 1]) / (given[-1, 0] - given[-2, 0])
            beyond = sizes > given[-1, 0]
            out[beyond] = given[-1, 1] + slope * (sizes[beyond] - given[-1, 0])
        return np.asarray(out / 1000.0, dtype=np.float64)


def load_profile(path: Path) -> ServiceProfile:
    """Read a profile file.

    Raises:
        ProfileInvalid: The file is missing, not YAML, or a field is wrong; names the field.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ProfileInvalid(str(path), error.strerror, "a readable profile file") from error
    try:
        document = yaml.safe_load(data.decode("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProfileInvalid(str(path), "malformed YAML", f"{FORMAT} YAML") from error
    if not isinstance(document, dict):
        raise ProfileInvalid(str(path), type(document).__name__, f"a mapping in {FORMAT}")
    return parse_profile(document, origin=str(path))


def parse_profile(document: dict[str, object], *, origin: str = "profile") -> ServiceProfile:
    """Return the typed profile of a parsed document.

    Raises:
        ProfileInvalid: The first wrong field, with its value and what is allowed.
    """
    try:
        return ServiceProfile.model_validate(document)
    except ValidationError as error:
        raise ProfileInvalid(*complaint(error, origin)) from error
