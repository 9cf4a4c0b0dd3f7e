"""Recorded runs: a folder with what was run, every request of it, and Prometheus' recording.

``run.yaml`` (format ``gpupilot/run-v1``) says what ran, how it was loaded and what it was made
for. ``requests.parquet`` holds every request, as the load generator wrote it (``intended_s, lag_s,
latency_s, ok``) or in whole microseconds (``intended_us`` from the first, ``lag_us``,
``latency_us``, ``ok``); ``recording.parquet`` holds the service's metrics. The purpose is declared
before the run: what calibrates never judges.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gpupilot_envs.atomic import write_text
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.malformed import complaint
from gpupilot_envs.profile import Batching
from gpupilot_envs.serving.cluster import Balancing

FORMAT: Literal["gpupilot/run-v1"] = "gpupilot/run-v1"
_SHIPPED = Path(__file__).parent / "data" / "recordings"
CARD, REQUESTS, RECORDING = "run.yaml", "requests.parquet", "recording.parquet"

PAUSE_S = 0.010
"""A generator that runs before all other work is this late only where the machine stood still."""

CALM_SHARE = 0.5
"""Least share of a run that must be left between its pauses."""

BEFORE_PAUSE_S, AFTER_PAUSE_S, RECOVERY = 0.3, 1.0, 5.0
"""Left out around a pause; a backlog takes the multiple of it to work off at 0.83 of saturation."""

Purpose = Literal["calibrate", "fidelity", "traffic"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class RunCard(BaseModel):
    """What one run was: the service, the load, and what for. Units stand in the names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["gpupilot/run-v1"] = FORMAT
    name: str = Field(min_length=1)
    flavour: Literal["emulated", "cpu"]
    purpose: Purpose = Field(description="declared before the run was made")
    profile: str | None = Field(
        default=None, description="profile that the emulated flavour played; null for cpu"
    )
    replicas: int = Field(ge=1)
    instances: int = Field(ge=1)
    batching: Batching
    balancing: Balancing = "random"
    target_ms: Positive
    loop: Literal["open", "closed"] = "open"
    rate_rps: Positive | None = Field(default=None, description="offered, when it was steady")
    load_ratio: Positive | None = Field(default=None, description="offered rate over saturation")
    users: int | None = Field(default=None, ge=1, description="of a closed loop")
    warm_up_s: NonNegative = 0.0
    duration_s: Positive
    seed: int = 0
    lag_p99_ms: NonNegative | None = Field(
        default=None, description="how late the generator sent, 99th percentile"
    )
    commands: tuple[str, ...] = ()
    environment: Mapping[str, Any] = Field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """Every request of a run in the order sent, arrays of shape ``(n,)``.

    Attributes:
        sent_s: When the generator turned to it, seconds from the run's first request. Not the
            intended time: what the generator was late is no delay of the server.
        latency_s: From ``sent_s`` to the last byte of the answer, a wait for a free place in
            flight included.
        ok: Whether it was answered.
        warm_up: Whether it was sent before counting began.
        pauses_s: Begin and end of each time in which the machine stood still: the generator, the
            servers and all else, because a hypervisor or another tenant had it.
    """

    sent_s: NDArray[np.float64]
    latency_s: NDArray[np.float64]
    ok: NDArray[np.bool_]
    warm_up: NDArray[np.bool_]
    pauses_s: tuple[tuple[float, float], ...] = ()

    @property
    def counted_from_s(self) -> float:
        """When the first request that counts was sent."""
        return float(self.sent_s[np.argmin(self.warm_up)])

    @property
    def counted_until_s(self) -> float:
        """When the last request was sent."""
        return float(self.sent_s[-1])

    @property
    def latency_mean_s(self) -> float | None:
        """Mean latency of what was answered after the warm-up, pauses included."""
        counts = self.ok & ~self.warm_up
        return float(self.latency_s[counts].mean()) if counts.any() else None

    def calm_spans_s(self) -> tuple[tuple[float, float], ...]:
        """Return the times that count: after the warm-up, without pauses and what they left behind.

        A pause is left out from a little before it, when requests it held had already been sent,
        until its backlog is worked off. Where less than half of the run would be left, nothing is
        left out: the generator was late for want of a core, and there is no calm to be found.
        """
        whole = ((self.counted_from_s, self.counted_until_s),)
        calm = self._between_pauses()
        enough_s = CALM_SHARE * (self.counted_until_s - self.counted_from_s)
        return calm if sum(until - since for since, until in calm) >= enough_s else whole

    def _between_pauses(self) -> tuple[tuple[float, float], ...]:
        spans, begin_s = [], self.counted_from_s
        for from_s, until_s in self.pauses_s:
            if from_s - BEFORE_PAUSE_S > begin_s:
                spans.append((begin_s, from_s - BEFORE_PAUSE_S))
            begin_s = max(begin_s, until_s + AFTER_PAUSE_S + RECOVERY * (until_s - from_s))
        if begin_s < self.counted_until_s:
            spans.append((begin_s, self.counted_until_s))
        return tuple(spans)


def read_run(folder: Path) -> RunCard:
    """Read a run's card.

    Raises:
        InputInvalid: It is missing or a field is wrong; names the field.
    """
    path = folder / CARD
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputInvalid(str(path), error.strerror or "unreadable", f"{FORMAT} YAML") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputInvalid(str(path), "malformed YAML", f"{FORMAT} YAML") from error
    try:
        return RunCard.model_validate(document)
    except ValidationError as error:
        raise InputInvalid(*complaint(error, str(path))) from error


def write_run(folder: Path, card: RunCard) -> None:
    """Write a run's card, whole or not at all; the folder is made where it is missing.

    Raises:
        OutputRefused: It cannot be written.
    """
    document = card.model_dump(mode="json", exclude_none=True)
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    write_text(folder / CARD, text)


def requests_of(folder: Path, card: RunCard) -> Requests:
    """Read every request of a run.

    Raises:
        InputInvalid: The file is missing, is no log of requests, or none of them counts.
    """
    path = folder / REQUESTS
    try:
        table = pq.read_table(path)
        columns = {name: table.column(name).to_numpy() for name in table.column_names}
    except (OSError, pa.ArrowException) as error:
        said = str(error).splitlines()[0]
        raise InputInvalid(str(path), said, "the requests of a run, Parquet") from error
    seconds = _seconds(path, columns)
    intended_s, lag_s = seconds["intended"], seconds["lag"]
    sent_s = intended_s + lag_s
    order = np.argsort(sent_s, kind="stable")
    warm_up = intended_s < card.warm_up_s
    if warm_up.all():
        raise InputInvalid(str(path), "nothing after the warm-up", "requests that count")
    return Requests(
        sent_s=(sent_s - sent_s.min())[order],
        latency_s=(seconds["latency"] - lag_s)[order],
        ok=columns["ok"].astype(bool)[order],
        warm_up=warm_up[order],
        pauses_s=_pauses_s(intended_s, lag_s, sent_s.min()),
    )


def _pauses_s(
    intended_s: NDArray[np.float64], lag_s: NDArray[np.float64], origin_s: float
) -> tuple[tuple[float, float], ...]:
    """Return the times in which nothing was sent although it was due, merged where they meet."""
    held = np.flatnonzero(lag_s > PAUSE_S)
    found: list[tuple[float, float]] = []
    for index in held[np.argsort(intended_s[held])]:
        from_s, until_s = (
            float(intended_s[index] - origin_s),
            float(intended_s[index] + lag_s[index] - origin_s),
        )
        if found and from_s <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], until_s))
        else:
            found.append((from_s, until_s))
    return tuple(found)


def _seconds(path: Path, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
    """Return the times of the load generator's own log, or of its compact form, in seconds.

    ``intended`` counts from the first.
    """
    unit, scale = ("us", 1e-6) if "intended_us" in columns else ("s", 1.0)
    wanted = {name: f"{name}_{unit}" for name in ("intended", "lag", "latency")}
    for column in (*wanted.values(), "ok"):
        if column not in columns:
            raise InputInvalid(str(path), f"no column {column}", "the requests of a run")
    found = {name: columns[column] * scale for name, column in wanted.items()}
    found["intended"] = found["intended"] - found["intended"].min(initial=np.inf)
    return found


def shipped() -> tuple[Path, ...]:
    """Return the folders of the runs in the package."""
    return find_runs([_SHIPPED])


def find_runs(roots: Iterable[Path]) -> tuple[Path, ...]:
    """Return the folders of all runs in or below the given folders, in order, none twice."""
    found = {card.parent: None for root in roots for card in sorted(root.rglob(CARD))}
    return tuple(found)
