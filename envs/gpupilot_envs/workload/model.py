"""A fitted workload model: its file ``gpupilot/workload-v1`` and the traffic it generates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

import yaml
from pydantic import TypeAdapter, ValidationError

from gpupilot_envs.atomic import write_text
from gpupilot_envs.errors import TraceInvalid
from gpupilot_envs.malformed import complaint
from gpupilot_envs.workload.diurnal import DiurnalParams
from gpupilot_envs.workload.generators import Params, generate
from gpupilot_envs.workload.trace import RateTrace

FORMAT: Literal["gpupilot/workload-v1"] = "gpupilot/workload-v1"
"""Value of the ``format`` field of a model's file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodness:
    """Distances between a trace and traffic generated from a fit, 0 (equal) to about 1 each.

    Attributes:
        rates_w1: Wasserstein distance of the distributions of rates, over the mean absolute
            deviation of the trace's rates.
        steps_ks: Kolmogorov-Smirnov distance of the changes of the log rate over five minutes
            (or one bin when that is longer): how sudden the traffic is.
        memory_rmse: Root mean square difference of the log rate's autocorrelation at lags of
            5 minutes to a day, as far as the trace reaches.
    """

    rates_w1: float
    steps_ks: float
    memory_rmse: float

    @property
    def distance(self) -> float:
        """Sum of the three; less is better."""
        return self.rates_w1 + self.steps_ks + self.memory_rmse


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """One family fitted to the trace.

    Attributes:
        params: Its parameters.
        goodness: How far generated traffic is from the trace.
    """

    params: Params
    goodness: Goodness


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadModel:
    """What a service's traffic is like.

    Attributes:
        format: Always :data:`FORMAT`.
        name: Name of the trace that was fitted.
        source_sha256: Hash of that trace.
        mean_rps: Its mean rate in requests per second.
        bin_s: Length of its bins in seconds.
        duration_s: Its length in seconds.
        arrivals_cv: Coefficient of variation of gaps within a bin, ``None`` when the source had
            no exact arrivals to tell it from.
        family: The family whose generated traffic is closest to the trace. ``replay`` is never
            chosen: it repeats the trace, so it is always close, and shows nothing new.
        fits: Every family that could be fitted.
    """

    format: Literal["gpupilot/workload-v1"] = FORMAT
    name: str
    source_sha256: str
    mean_rps: float
    bin_s: float
    duration_s: float
    arrivals_cv: float | None
    family: str
    fits: Mapping[str, Fit]

    @property
    def params(self) -> Params:
        """Parameters of the chosen family."""
        return self.fits[self.family].params

    @property
    def diurnal(self) -> DiurnalParams:
        """Parameters of the daily and weekly pattern; flat when the model has none."""
        known = self.fits["diurnal"].params if "diurnal" in self.fits else None
        return known if isinstance(known, DiurnalParams) else DiurnalParams(day_shape=(1.0,))


_ADAPTER: TypeAdapter[WorkloadModel] = TypeAdapter(WorkloadModel)
_FILE: TypeAdapter[dict[str, WorkloadModel]] = TypeAdapter(dict[str, WorkloadModel])


def generate_from(
    model: WorkloadModel,
    *,
    duration_s: float,
    seed: int,
    bin_s: float | None = None,
    family: str | None = None,
) -> RateTrace:
    """Return new traffic of the model's kind, at the model's mean rate.

    Args:
        model: A fitted model.
        duration_s: Length in seconds.
        seed: Seed, 0 or more.
        bin_s: Length of a bin; the model's by default.
        family: A fitted family; the chosen one by default.

    Raises:
        TraceInvalid: The family was not fitted.
        InputInvalid: A length or the seed is out of range.
    """
    name = model.family if family is None else family
    if name not in model.fits:
        raise TraceInvalid("family", name, f"one of {', '.join(model.fits)}, as fitted")
    step_s = model.bin_s if bin_s is None else bin_s
    trace = generate(model.fits[name].params, duration_s=duration_s, bin_s=step_s, seed=seed)
    return trace.scaled(model.mean_rps).renamed(f"{model.name}-{trace.name}", model.name)


def save_model(path: Path, model: WorkloadModel) -> None:
    """Write a model as YAML.

    Raises:
        OutputRefused: The file cannot be written.
    """
    write_text(path, yaml.safe_dump(_ADAPTER.dump_python(model, mode="json"), sort_keys=False))


def load_model(path: Path) -> WorkloadModel:
    """Read a model.

    Raises:
        TraceInvalid: The file is missing, not YAML, or a field is wrong; names the field.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TraceInvalid(str(path), error.strerror, f"a readable {FORMAT} file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TraceInvalid(str(path), "malformed YAML", f"{FORMAT} YAML") from error
    try:
        return _ADAPTER.validate_python(document)
    except ValidationError as error:
        raise TraceInvalid(*complaint(error, str(path))) from error


@cache
def fitted() -> dict[str, WorkloadModel]:
    """Return the models fitted to the development traces, by trace name.

    They are the package's ``fitted.yaml``: parameters only, from public traces whose sources
    and licences stand in its head; ``benchmarks/fit_traces.py`` makes it anew. ``replay`` is
    left out, because it would carry the data.
    """
    text = files(__package__).joinpath("fitted.yaml").read_text(encoding="utf-8")
    return _FILE.validate_python(yaml.safe_load(text))
