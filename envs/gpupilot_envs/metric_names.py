"""Which series answer which signal: the table ``gpupilot/metric-names-v1`` and its meaning.

One entry per exporter. A user's file adds entries, or replaces those of the same name, and stands
before the embedded ones: whoever has other names says so once (``docs/recording.md``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.latency_sources import SOURCES as LATENCY_SOURCES
from gpupilot_envs.latency_sources import HistogramSource
from gpupilot_envs.malformed import complaint

FORMAT: Literal["gpupilot/metric-names-v1"] = "gpupilot/metric-names-v1"

SIGNALS = (
    "age_s",
    "queue_time_s",
    "compute_time_s",
    "batch_mean",
    "pending_requests",
    "inflight_requests",
    "gpu_busy_ratio",
    "gpu_memory_used_bytes",
    "gpu_power_w",
    "cpu_cores_used",
    "replicas_ready",
    "replicas_pending",
)
"""Fields of ``Signals`` the table answers; rate, errors and latency come from the gateway."""

ALLOCATION = ("replicas", "gpu_share_milli", "cpu_milli", "memory_bytes")
"""Fields of ``Allocation`` the table may answer."""

DETAILS = ("executions_per_s", "compute_p50_s", "compute_p95_s", "cold_start_s")
"""Further columns of a recording that the table answers, for calibration."""

_KNOWN = frozenset((*SIGNALS, *ALLOCATION, *DETAILS))
_EMBEDDED = resources.files("gpupilot_envs") / "data" / "metrics" / "metric-names.yaml"
_AGGREGATES = ("sum", "avg", "max", "min", "count")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class ServiceLabel(_Part):
    """Where a series says which service it is of."""

    label: str = Field(pattern="^[a-zA-Z_][a-zA-Z0-9_]*$")
    pattern: str = Field(default="(.+)", description="its first group is the service's name")
    namespace: str | None = Field(default=None, description="label that holds the namespace")

    @model_validator(mode="after")
    def _has_a_group(self) -> Self:
        if "(.+)" not in self.pattern:
            raise ValueError("pattern to hold (.+), which stands for the service's name")
        return self


class Expression(_Part):
    """How the series of one service become one number."""

    sum: str | None = None
    avg: str | None = None
    max: str | None = None
    min: str | None = None
    count: str | None = Field(default=None, description="how many series there are")
    over: str | None = Field(default=None, description="divide by the sum of this")
    scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_aggregate(self) -> Self:
        given = [name for name in _AGGREGATES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of {', '.join(_AGGREGATES)}, not {given or 'none'}")
        return self

    @property
    def aggregate(self) -> tuple[str, str]:
        """The aggregation and what it is over."""
        name = next(name for name in _AGGREGATES if getattr(self, name) is not None)
        return name, str(getattr(self, name))


class MetricSource(_Part):
    """One exporter: how it names services, and what it answers."""

    name: str = Field(min_length=1)
    group: Literal["server", "gpu", "kubernetes"]
    service: ServiceLabel
    signals: dict[str, Expression]

    @model_validator(mode="after")
    def _signals_exist(self) -> Self:
        for name in self.signals:
            if name not in _KNOWN:
                raise ValueError(f"signals to be among {', '.join(sorted(_KNOWN))}, not {name}")
        return self


class Histogram(_Part):
    """A gateway's histogram of whole requests."""

    name: str = Field(min_length=1)
    covers: str = "not stated"
    histogram: str = Field(description="metric name without _bucket")
    unit_s: Annotated[float, Field(gt=0)] = 1.0
    service: ServiceLabel
    answered: str = Field(description="label matchers of correct answers")


class _Table(_Part):
    format: Literal["gpupilot/metric-names-v1"]
    gateways: tuple[Histogram, ...] = ()
    sources: tuple[MetricSource, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricNames:
    """Every source, the preferred ones first.

    Attributes:
        gateways: Histograms of users' latency.
        sources: Everything else.
    """

    gateways: tuple[Histogram, ...]
    sources: tuple[MetricSource, ...]

    def answering(self, group: str) -> Mapping[str, list[tuple[MetricSource, Expression]]]:
        """Return each signal of a group with the sources that may answer it, the first first."""
        found: dict[str, list[tuple[MetricSource, Expression]]] = {}
        for source in self.sources:
            if source.group == group:
                for signal, expression in source.signals.items():
                    found.setdefault(signal, []).append((source, expression))
        return found


def metric_names(path: Path | None = None) -> MetricNames:
    """Return the embedded table, a user's entries before it.

    Raises:
        InputInvalid: The user's file cannot be read or is wrong; names the field.
    """
    own = _table(_EMBEDDED.read_text(encoding="utf-8"), "metric-names.yaml")
    built_in = tuple(
        _of_source(source)
        for source in LATENCY_SOURCES.values()
        if isinstance(source, HistogramSource)
    )
    if path is None:
        return MetricNames(gateways=built_in, sources=own.sources)
    try:
        theirs = _table(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputInvalid("--metric-names", str(path), f"a {FORMAT} file") from error
    replaced = {*(s.name for s in theirs.sources), *(g.name for g in theirs.gateways)}
    return MetricNames(
        gateways=(*theirs.gateways, *(g for g in built_in if g.name not in replaced)),
        sources=(*theirs.sources, *(s for s in own.sources if s.name not in replaced)),
    )


def _table(text: str, origin: str) -> _Table:
    try:
        return _Table.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise InputInvalid(origin, "malformed YAML", f"{FORMAT} YAML") from error
    except ValidationError as error:
        raise InputInvalid(*complaint(error, origin)) from error


def _of_source(source: HistogramSource) -> Histogram:
    return Histogram(
        name=source.name,
        covers=source.covers,
        histogram=source.histogram,
        unit_s=source.unit_s,
        service=ServiceLabel(label=source.service_label, namespace="namespace"),
        answered=source.answered,
    )
