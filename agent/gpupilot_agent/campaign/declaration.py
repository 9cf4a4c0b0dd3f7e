"""What a campaign is to run, declared before it is run: service, load, purpose of each run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from gpupilot_envs.embedded import find_profile
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.malformed import complaint
from gpupilot_envs.profile import ServiceProfile, parse_profile
from gpupilot_envs.runs import Purpose
from gpupilot_envs.serving.cluster import Balancing
from gpupilot_envs.workload.generators import Params

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Flavour = Literal["emulated", "cpu"]

SHIPPED = Path(__file__).with_name("runs.yaml")
"""The campaign behind the recordings in the repository."""

FORMAT: Literal["gpupilot/campaign-v1"] = "gpupilot/campaign-v1"


class Traffic(BaseModel):
    """Generated traffic that varies.

    Attributes:
        family: Of the generator (``gpupilot_envs.workload.generators``).
        params: What differs from the family's defaults.
        peak: Highest load of any bin, as a share of saturation; higher ones are cut.
        bin_s: Seconds between two rates.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: str
    params: dict[str, Any] = {}
    peak: Positive = 1.2
    bin_s: Positive = 5.0

    def of(self) -> Params:
        """Return the generator's parameters.

        Raises:
            InputInvalid: There is no such family or parameter.
        """
        try:
            return TypeAdapter[Params](Params).validate_python(
                {"family": self.family, **self.params}
            )
        except ValidationError as error:
            raise InputInvalid(*complaint(error, "traffic")) from error


class Run(BaseModel):
    """One run: the service, the load as a share of what it can carry, and what for.

    Attributes:
        name: Of its folder.
        flavour: Of the stack.
        purpose: ``calibrate``, ``fidelity`` (never calibrated on) or ``traffic``.
        profile: The service; its batching and instances hold unless said otherwise.
        replicas: Servers.
        instances: Of the model in each server, ``None`` for the profile's.
        batching: What differs from the profile's dynamic batcher.
        balancing: Of the gateway.
        target_ms: Latency target.
        load: Offered rate over the saturation measured just before; open loop.
        users: Closed loop: users without pauses, unless ``think_s``.
        think_s: Their mean pause.
        cv: Of the gaps between arrivals.
        traffic: How the rate varies; ``load`` is its mean then.
        warm_up_s: Sent and not counted.
        duration_s: Counted.
        saturation_s: Seconds in which saturation is measured before.
        lag_limit_ms: The run is refused when the generator's 99th percentile lags more.
        seed: Of arrivals and noise.
        note: Why it is there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    flavour: Flavour
    purpose: Purpose
    profile: str
    replicas: int = Field(default=1, ge=1, le=16)
    instances: int | None = Field(default=None, ge=1, le=16)
    batching: dict[str, Any] = {}
    balancing: Balancing = "random"
    target_ms: Positive = 60.0
    load: Positive | None = None
    users: int | None = Field(default=None, ge=1)
    think_s: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    cv: Positive = 1.0
    traffic: Traffic | None = None
    warm_up_s: Positive = 15.0
    duration_s: Positive = 180.0
    saturation_s: Positive = 12.0
    lag_limit_ms: Positive = 5.0
    seed: int = Field(default=0, ge=0)
    note: str = ""

    @model_validator(mode="after")
    def _one_load(self) -> Self:
        if (self.load is None) == (self.users is None):
            raise ValueError("exactly one of load and users")
        if self.traffic is not None and self.load is None:
            raise ValueError("a load, the mean of the traffic")
        return self

    def service(self) -> ServiceProfile:
        """Return the profile as this run changes it.

        Raises:
            InputInvalid: There is no such profile, or it may not be so.
        """
        document = find_profile(self.profile).model_dump(mode="json")
        document["batching"] |= self.batching
        if self.instances is not None:
            document["instances_per_replica"] = self.instances
        return parse_profile(document, origin=f"run {self.name}")


class Campaign(BaseModel):
    """Runs, and what they have in common unless one says otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["gpupilot/campaign-v1"] = FORMAT
    runs: tuple[Run, ...]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        known: set[tuple[str, str]] = set()
        for run in self.runs:
            if (run.flavour, run.name) in known:
                raise ValueError(f"names that differ; there are two {run.flavour}/{run.name}")
            known.add((run.flavour, run.name))
        return self


def read_campaign(path: Path) -> Campaign:
    """Read a campaign's file: ``defaults`` by flavour, and ``runs``.

    Raises:
        InputInvalid: It is missing or a field is wrong; names the field.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        defaults = document.pop("defaults", {})
        runs = [defaults.get(run.get("flavour"), {}) | run for run in document["runs"]]
        return Campaign.model_validate(document | {"runs": runs})
    except OSError as error:
        raise InputInvalid(str(path), error.strerror or "unreadable", f"{FORMAT} YAML") from error
    except ValidationError as error:
        raise InputInvalid(*complaint(error, str(path))) from error
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, AttributeError, TypeError) as error:
        raise InputInvalid(str(path), "no list of runs", f"{FORMAT} YAML") from error
