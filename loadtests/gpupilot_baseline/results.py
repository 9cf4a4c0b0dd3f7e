"""The baseline's ``summary.json`` (``gpupilot/baseline-v1``), a public format."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

FORMAT = "gpupilot/baseline-v1"


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Percentiles(_Kept):
    """Latency in milliseconds; null where it is not known."""

    mean: float | None
    p50: float | None
    p95: float | None
    p99: float | None


class Level(_Kept):
    """So many users, in numbers; null where nobody could tell."""

    users: int
    requests: int = Field(description="counted, without the warm-up")
    success_percent: float | None
    throughput_rps: float | None = Field(description="answered correctly, per second")
    latency_ms: Percentiles = Field(description="of correct answers, at the user")
    attainment_percent: float | None = Field(description="of all requests, within target_ms")
    gateway_ms: Percentiles | None = Field(description="the same, at the gateway's histogram")
    busy_percent: float | None = Field(
        description="share of its time that a model instance executes batches, from Triton's own "
        "statistics; of the emulated flavour the emulated GPU's"
    )
    batch_mean: float | None = Field(description="requests per execution")
    cpu_cores: float | None = Field(description="used by the servers' processes")
    memory_mib: float | None = Field(description="most resident memory of the servers' processes")
    gpu_percent: float | None = Field(description="as the GPU's exporter says it")
    gpu_memory_mib: float | None
    gpu_power_w: float | None
    send_lag_p99_ms: float | None = Field(description="how late the load generator itself was")
    valid: bool = Field(description="false: the generator was late, the latencies are its own")


class Summary(_Kept):
    """One baseline."""

    format: Literal["gpupilot/baseline-v1"] = "gpupilot/baseline-v1"
    flavour: str = Field(description="emulated, cpu, or the address of the server measured")
    target_ms: float
    levels: tuple[Level, ...]
    config: dict[str, Any]
    environment: dict[str, Any]


def json_schema() -> str:
    """Return the JSON Schema of ``summary.json`` as it stands in ``docs/schemas``."""
    schema = Summary.model_json_schema(mode="serialization")
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": FORMAT, **schema}
    return json.dumps(document, indent=2, sort_keys=True) + "\n"
