"""The public result of a comparison, ``gpupilot/comparison-v1``, typed in one place.

``docs/schemas/comparison-v1.json`` is generated from these types (:func:`json_schema`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gpupilot_agent.evaluation import Estimate
from gpupilot_envs.atomic import write_text
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.malformed import complaint

FORMAT: Literal["gpupilot/comparison-v1"] = "gpupilot/comparison-v1"

Number = Annotated[float, Field(allow_inf_nan=False)]
Params = dict[str, Number]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Metric(_Part):
    """A statistic over the runs and its 95 % bootstrap interval; null where there is none."""

    mean: Number | None
    ci95: tuple[Number | None, Number | None] = Field(
        description="[low, high]; both null where a single run tells no spread"
    )

    @classmethod
    def of(cls, estimate: Estimate) -> Metric:
        """Return the estimate as the file writes it."""
        return cls(mean=estimate.mean, ci95=estimate.ci95 or (None, None))


class LatencyMs(_Part):
    """Latency quantiles in milliseconds, mean over runs of each run's quantile."""

    p50: Metric
    p95: Metric
    p99: Metric


class Score(_Part):
    """What one policy did, over all runs or over the runs on one trace."""

    attainment_ratio: Metric = Field(
        description="requests answered correctly within the target over all requests, 0 to 1"
    )
    gpu_hours: Metric = Field(description="GPU shares held, mean per run (one trace, one seed)")
    gpu_hours_vs_oracle: Metric = Field(
        description="total GPU-hours over the oracle's on the same runs; null without an oracle"
    )
    energy_kwh: Metric = Field(description="mean per run")
    co2_g: Metric = Field(description="grams of CO2, mean per run; null without an intensity")
    latency_ms: LatencyMs
    scale_events_per_hour: Metric = Field(description="changes of the replica count")
    pod_restarts: Metric = Field(description="crashed pods started again, mean per run")
    recovery_s: Metric = Field(
        description="seconds until back on target after the arrival rate stepped up; "
        "null on traffic without a step"
    )
    overridden_ratio: Metric = Field(description="decisions that the guardrail changed, 0 to 1")


class FrontierPoint(_Part):
    """One measured setting of a policy."""

    setting: str = Field(description="name of the setting, unique within its policy")
    params: Params
    asked_attainment: Number = Field(description="attainment the policy was asked for, 0 to 1")
    attainment_ratio: Metric
    gpu_hours: Metric


class Paired(_Part):
    """Difference ``a - b`` of two policies over the same traces and seeds."""

    a: str
    b: str
    metric: str = Field(
        description="attainment_ratio, gpu_hours, or gpu_hours@LEVEL read from both frontiers"
    )
    diff: Number | None
    ci95: tuple[Number | None, Number | None]
    relative: Metric = Field(description="a / b - 1")


class FamilyScore(_Part):
    """What one policy did on the traces of one family."""

    attainment_ratio: Metric
    gpu_hours: Metric = Field(description="mean per run, as the policy ran")
    at_attainment: dict[str, Metric] = Field(
        description="level -> GPU-hours per run read from the frontier on this family alone"
    )


class Training(_Part):
    """What one training of the learned policy did by itself."""

    policy: str
    bundle: str = Field(description="SHA-256 of the bundle")
    seeds: dict[str, int]
    attainment_ratio: Metric
    gpu_hours: Metric
    at_attainment: dict[str, Metric]


class Row(_Part):
    """A learned policy against one reference, overall and family by family.

    Costs are read at equal attainment; ``relative`` below 0 says that the learned policy needs
    less. For the kind ``bursts`` it is the share of late requests instead, at 5 % more cost.
    """

    kind: Literal[
        "default",
        "tuned_rule",
        "tuned_queueing",
        "tuned_predictive",
        "clairvoyant",
        "oracle",
        "perfect",
        "bursts",
    ]
    policy: str
    against: str = Field(description="the policy it is compared with, or perfect-information")
    attainment: Number | None = Field(description="where both costs are read, 0 to 1")
    relative: Metric
    families: dict[str, Metric]
    note: str


class Impossible(_Part):
    """A run that cost less than perfect information allows: a bug in policy, world or bound."""

    policy: str
    setting: str
    trace: str
    seed: int
    gpu_hours: Number
    least_gpu_hours: Number


class Summary(_Part):
    """The whole of ``summary.json``."""

    format: Literal["gpupilot/comparison-v1"] = FORMAT
    policies: dict[str, Score]
    traces: dict[str, dict[str, Score]]
    at_attainment: dict[str, dict[str, Number | None]] = Field(
        description="level -> policy -> mean GPU-hours per run read from the measured frontier; "
        "null where the level lies outside what was measured"
    )
    at_attainment_ci95: dict[str, dict[str, tuple[Number | None, Number | None]]]
    paired: tuple[Paired, ...]
    paired_by_trace: dict[str, tuple[Paired, ...]]
    frontiers: dict[str, tuple[FrontierPoint, ...]]
    families: dict[str, dict[str, FamilyScore]] = Field(description="family -> policy")
    trainings: tuple[Training, ...] = Field(description="the learned policy, training by training")
    rows: tuple[Row, ...] = Field(description="the learned policy against each reference")
    perfect: dict[str, Metric] = Field(
        description="level -> GPU-hours per run that no policy of replicas can go below; "
        "empty without an oracle"
    )
    impossible: tuple[Impossible, ...]
    config: dict[str, Any]
    environment: dict[str, Any]
    hashes: dict[str, Any]


def json_schema() -> str:
    """Return the JSON Schema of ``summary.json`` as it stands in ``docs/schemas``."""
    schema = Summary.model_json_schema(mode="serialization")
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def write_summary(path: Path, summary: Summary) -> None:
    """Write ``summary.json``, whole or not at all.

    Raises:
        OutputRefused: The file cannot be written.
    """
    write_text(path, json.dumps(summary.model_dump(mode="json"), indent=2) + "\n")


def read_summary(path: Path) -> Summary:
    """Read a ``summary.json``.

    Raises:
        InputInvalid: The file is missing or does not follow ``gpupilot/comparison-v1``.
    """
    try:
        return Summary.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputInvalid(str(path), error.strerror, f"a {FORMAT} file") from error
    except ValidationError as error:
        raise InputInvalid(*complaint(error, str(path))) from error
