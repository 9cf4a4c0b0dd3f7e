"""The proof a policy needs before it may act, ``gpupilot/proof-v1``: on which service, and why.

``docs/schemas/proof-v1.json`` is generated from these types (:func:`json_schema`).
"""

from __future__ import annotations

import json
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from gpupilot_agent.results import Metric
from gpupilot_envs.atomic import write_text
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.malformed import complaint

FORMAT: Literal["gpupilot/proof-v1"] = "gpupilot/proof-v1"

METHOD = (
    "Arrivals are recorded, the response is simulated: the service's own recorded request rates "
    "were replayed through the event-level world of its profile, with the same guardrail, cold "
    "starts and metrics for every policy. Baselines were tuned on an earlier part of the "
    "recordings with equal budgets, and compared on the later part."
)

Verdict = Literal["promote", "hold"]
Number = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]


class Code(StrEnum):
    """Why a policy is promoted or held, in the CamelCase of Kubernetes conditions."""

    CHEAPER = "CheaperAtEqualAttainment"
    OBJECTIVE_INFEASIBLE = "ObjectiveInfeasible"
    PROFILE_UNKNOWN = "ProfileUnknown"
    PROFILE_MISMATCH = "ProfileMismatch"
    RECORDING_GAPS = "RecordingGaps"
    TOO_LITTLE_DATA = "TooLittleData"
    ATTAINMENT_WORSE = "AttainmentWorse"
    BASELINE_CHEAPER = "BaselineCheaper"
    NO_DIFFERENCE = "NoDifference"
    UNFAMILIAR = "OutOfDistribution"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Why(_Part):
    """One reason for the verdict."""

    code: Code
    text: str


class Evidence(_Part):
    """What the recordings hold and how it was used."""

    recorded_hours: Number
    gap_ratio: Share = Field(description="share of the recorded time without a request rate")
    longest_gap_s: Number
    tuned_hours: Number = Field(description="earlier part, on which the baselines were tuned")
    judged_hours: Number = Field(description="later part, on which everybody was compared")
    first_at_s: Number = Field(description="time of the first reading, Unix time when live")
    last_at_s: Number
    blocks: int = Field(ge=0, description="stretches that are resampled for the intervals")
    block_s: Number
    seeds: int


class PolicyResult(_Part):
    """What the policy did on the later part of the recordings."""

    attainment_ratio: Metric
    gpu_hours: Metric = Field(description="mean per recording and seed")
    latency_p95_ms: Metric
    overridden_ratio: Metric = Field(description="decisions that the guardrail changed")
    unfamiliar_ratio: Metric = Field(
        description="decisions outside of what the policy was trained on, left to its controller"
    )


class BaselineResult(_Part):
    """One tuned baseline on the same traffic, and the policy against it."""

    params: dict[str, Number] = Field(description="of the setting tuned to the objective")
    met_when_tuned: bool = Field(description="whether it met the objective on the earlier part")
    attainment_ratio: Metric
    gpu_hours: Metric
    cost_at_equal_attainment: Metric = Field(
        description="GPU-hours of the policy over the baseline's at the policy's attainment, - 1"
    )
    cost_as_they_ran: Metric = Field(description="the same with the baseline's chosen setting")
    attainment_difference: Metric = Field(description="policy - baseline, as they ran")


class Objective(_Part):
    """What the service must keep."""

    latency_ms: Number
    attainment_ratio: Share


class Hashes(_Part):
    """SHA-256 of what the proof stands on."""

    bundle: str
    profile: str | None
    recordings: dict[str, str] = Field(description="recording -> SHA-256 of its content")
    config: str


class Proof(_Part):
    """The whole of ``proof.json``."""

    format: Literal["gpupilot/proof-v1"] = FORMAT
    verdict: Verdict
    reasons: tuple[Why, ...]
    service: str
    created_at: AwareDatetime
    objective: Objective
    margin: Number = Field(description="the interval of the cost must end below this share")
    decisive: str | None = Field(description="the baseline that was hardest to beat")
    policy: PolicyResult | None = Field(description="null where nothing was simulated")
    baselines: dict[str, BaselineResult]
    evidence: Evidence
    hashes: Hashes
    method: str = METHOD
    environment: dict[str, Any]

    @property
    def promotes(self) -> bool:
        """Whether the policy may act."""
        return self.verdict == "promote"

    def age_s(self, now: datetime) -> float:
        """Return the seconds since the proof was made."""
        return (now - self.created_at).total_seconds()

    def covers(self, *, service: str, bundle_sha256: str) -> bool:
        """Tell whether this is the proof of this policy on this service."""
        return self.service == service and self.hashes.bundle == bundle_sha256


def json_schema() -> str:
    """Return the JSON Schema of ``proof.json`` as it stands in ``docs/schemas``."""
    schema = Proof.model_json_schema(mode="serialization")
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def write_proof(path: Path, proof: Proof) -> None:
    """Write ``proof.json``, whole or not at all.

    Raises:
        OutputRefused: The file cannot be written.
    """
    write_text(path, json.dumps(proof.model_dump(mode="json"), indent=2) + "\n")


def read_proof(path: Path) -> Proof:
    """Read a ``proof.json``; a folder stands for the one in it.

    Raises:
        InputInvalid: The file is missing or does not follow ``gpupilot/proof-v1``.
    """
    file = path / "proof.json" if path.is_dir() else path
    try:
        return Proof.model_validate_json(file.read_bytes())
    except OSError as error:
        raise InputInvalid(str(file), error.strerror, f"a {FORMAT} file") from error
    except ValidationError as error:
        raise InputInvalid(*complaint(error, str(file))) from error
