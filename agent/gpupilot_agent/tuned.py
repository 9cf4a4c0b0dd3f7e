"""The file ``gpupilot tune`` writes, ``gpupilot/tuned-v1``: every trial, and what was chosen."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gpupilot_agent.frontier import pareto
from gpupilot_envs.atomic import write_text
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.malformed import complaint

FORMAT: Literal["gpupilot/tuned-v1"] = "gpupilot/tuned-v1"

Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]

_LEAST_MISS = 1e-7


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Outcome(_Part):
    """What a setting did on some traffic."""

    attainment_ratio: Share
    gpu_hours: Finite = Field(description="mean per run")


class Trial(Outcome):
    """One setting and what it did on all training traffic, and trace by trace."""

    params: dict[str, Finite]
    by_trace: dict[str, Outcome]


class Choice(_Part):
    """The setting chosen for an attainment level."""

    trial: int = Field(ge=0, description="index into trials")
    meets: bool = Field(
        description="whether it met the level on the training traffic; "
        "false: no trial did and this one came closest"
    )


class Search(_Part):
    """The search over one policy's settings."""

    trials: tuple[Trial, ...] = Field(description="trial 0 has the defaults")
    frontier: tuple[int, ...] = Field(description="trials none other beats, cheapest first")
    chosen: dict[str, Choice] = Field(description="by attainment level")

    def params(self, level: float) -> dict[str, float]:
        """Return the parameters chosen for a level."""
        return self.trials[self.chosen[f"{level:g}"].trial].params


class Tuned(_Part):
    """The whole file."""

    format: Literal["gpupilot/tuned-v1"] = FORMAT
    policies: dict[str, Search]
    config: dict[str, Any]
    environment: dict[str, Any]
    hashes: dict[str, Any]


def search_result(trials: Sequence[Trial], levels: Sequence[float]) -> Search:
    """Return the frontier of the trials and the cheapest that meets each level."""
    attainment = np.array([trial.attainment_ratio for trial in trials])
    cost = np.array([trial.gpu_hours for trial in trials])
    return Search(
        trials=tuple(trials),
        frontier=tuple(int(index) for index in pareto(attainment, cost)),
        chosen={f"{level:g}": choose(trials, level) for level in levels},
    )


def choose(trials: Sequence[Trial], level: float) -> Choice:
    """Return the cheapest trial that meets ``level``, or the one that comes closest to it."""
    meeting = [i for i, trial in enumerate(trials) if trial.attainment_ratio >= level]
    if meeting:
        return Choice(trial=min(meeting, key=lambda i: trials[i].gpu_hours), meets=True)
    order = sorted(
        range(len(trials)), key=lambda i: (-trials[i].attainment_ratio, trials[i].gpu_hours)
    )
    return Choice(trial=order[0], meets=False)


def spread(search: Search, levels: Sequence[float]) -> list[int]:
    """Return the frontier trials nearest to each level, by the share of late requests, in order."""
    miss = {index: _log_miss(search.trials[index].attainment_ratio) for index in search.frontier}

    def nearest(level: float) -> int:
        return min(miss, key=lambda index: abs(miss[index] - _log_miss(level)))

    return list(dict.fromkeys(nearest(level) for level in levels))


def write_tuned(path: Path, tuned: Tuned) -> None:
    """Write the file, whole or not at all.

    Raises:
        OutputRefused: The file cannot be written.
    """
    write_text(path, json.dumps(tuned.model_dump(mode="json"), indent=2) + "\n")


def read_tuned(path: Path) -> Tuned:
    """Read a file of ``gpupilot tune``; a folder stands for the ``tuned.json`` in it.

    Raises:
        InputInvalid: The file is missing or does not follow ``gpupilot/tuned-v1``.
    """
    file = path / "tuned.json" if path.is_dir() else path
    try:
        return Tuned.model_validate_json(file.read_bytes())
    except OSError as error:
        raise InputInvalid(str(file), error.strerror, f"a {FORMAT} file") from error
    except ValidationError as error:
        raise InputInvalid(*complaint(error, str(file))) from error


def json_schema() -> str:
    """Return the JSON Schema of ``tuned.json`` as it stands in ``docs/schemas``."""
    schema: Mapping[str, object] = Tuned.model_json_schema(mode="serialization")
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def _log_miss(attainment: float) -> float:
    return math.log10(max(1.0 - attainment, _LEAST_MISS))
