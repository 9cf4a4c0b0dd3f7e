"""Recordings of a running service: Parquet, format ``gpupilot/recording-v1``.

One row per reading, ascending in time:

=======================  =======  ============================================================
column                   type     meaning (unit in the name; empty = the source did not answer)
=======================  =======  ============================================================
at_s                     float64  end of the window; Unix time live, from the start in a
                                  simulation; never empty
window_s                 float64  length of the window; never empty
age_s                    float64  age of the newest sample behind the reading
rate_rps                 float64  requests arriving per second
error_ratio              float64  share of requests rejected, timed out or failed
latency_p50_s, _p95_s,   float64  latency quantiles from histogram buckets
_p99_s
attainment_ratio         float64  share of all requests answered within the target
queue_time_s             float64  mean time queued per request
compute_time_s           float64  mean time of one batch execution
batch_mean               float64  mean requests per batch execution
pending_requests         float64  requests waiting, summed over ready pods
inflight_requests        float64  requests queued or executing, mean over the window
gpu_busy_ratio           float64  busy time of the GPU shares held, mean over pods
gpu_memory_used_bytes    float64  GPU memory in use, summed over pods
gpu_power_w              float64  power drawn by the GPUs in use, summed
cpu_cores_used           float64  CPU cores in use, summed over pods
replicas_ready           int64    pods that answer
replicas_pending         int64    pods that were asked for and do not answer yet
replicas                 int64    pods asked for; this and the columns below: the allocation
                                  the service ran with, never empty
gpu_share_milli          int64    thousandths of a GPU per pod
cpu_milli                int64    thousandths of a core per pod
memory_bytes             int64    memory limit per pod
instances_per_replica    int64    model instances per pod
batch_max                int64    largest batch
queue_delay_us           int64    ``max_queue_delay_microseconds``
=======================  =======  ============================================================

Further float64 columns may follow, named in the metadata: what a live recording tells beyond the
signals, for calibration (``docs/recording.md``).

File metadata (UTF-8): ``format``; ``service``, its name; ``profile_sha256``, empty when there is
none; and JSON: ``queries``, from column to the query that answered it; ``sources``, from column to
the exporters that answered; ``details``, the names of further columns; ``batch_times``, from batch
size to executions and their seconds in all, from the server's own statistics; ``target_s``, the
latency target behind ``attainment_ratio``, or null.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.atomic import atomic_path
from gpupilot_envs.errors import TraceInvalid
from gpupilot_envs.signals import SIGNAL_FIELDS, Signals
from gpupilot_envs.workload.trace import RateTrace, read_trace

FORMAT = "gpupilot/recording-v1"
"""Value of the file's ``format`` metadata."""

_WHOLE = ("replicas_ready", "replicas_pending")
_ALWAYS = ("at_s", "window_s")
_ALLOCATION = tuple(item.name for item in fields(Allocation))
_SCHEMA = pa.schema(
    [
        pa.field(name, pa.int64() if name in _WHOLE else pa.float64(), name not in _ALWAYS)
        for name in SIGNAL_FIELDS
    ]
    + [pa.field(name, pa.int64(), nullable=False) for name in _ALLOCATION]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Readings of one service and the allocation it ran with.

    Attributes:
        service: Name of the service.
        readings: Readings, strictly ascending in ``at_s``.
        allocations: Allocation at each reading, as many as readings.
        profile_sha256: Hash of the service profile's file, or ``None``.
        queries: Query that answered each column.
        sources: Exporters that answered each column.
        details: Further columns, each as long as the readings.
        batch_times: Executions of each batch size and the seconds they took in all.
        target_s: Latency target behind the attainment, or ``None``.

    Raises:
        TraceInvalid: On construction, when the readings do not ascend or the lengths differ.
    """

    service: str
    readings: tuple[Signals, ...]
    allocations: tuple[Allocation, ...]
    profile_sha256: str | None = None
    queries: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    batch_times: Mapping[int, tuple[int, float]] = field(default_factory=dict)
    target_s: float | None = None

    def __post_init__(self) -> None:
        """Check times and lengths."""
        if len(self.readings) != len(self.allocations):
            counts = (len(self.readings), len(self.allocations))
            raise TraceInvalid(f"{self.service}: readings, allocations", counts, "equal counts")
        for name, column in self.details.items():
            if len(column) != len(self.readings):
                raise TraceInvalid(
                    f"{self.service}: {name}", len(column), f"{len(self.readings)}, as readings"
                )
        at_s = np.array([reading.at_s for reading in self.readings])
        back = ~(np.diff(at_s) > 0)
        if back.any():
            row = int(np.argmax(back)) + 1
            raise TraceInvalid(
                f"{self.service}: at_s, row {row + 1}", float(at_s[row]), f"above {at_s[row - 1]}"
            )

    def trace(self) -> RateTrace:
        """Return the arrival rate as a trace; readings without a rate are masked, and so are holes.

        Bins are as long as the usual step between readings and end at them. A reading whose
        window is longer than a bin is a moving mean, and so is then the trace.

        Raises:
            TraceInvalid: There are fewer than two readings, or none has a rate.
        """
        if len(self.readings) < 2:
            raise TraceInvalid(f"{self.service}: readings", len(self.readings), "2 or more")
        at_s = np.array([reading.at_s for reading in self.readings])
        rates = np.array([_number(reading.rate_rps) for reading in self.readings])
        bin_s = float(np.median(np.diff(at_s)))
        bins = np.rint((at_s - at_s[0]) / bin_s).astype(np.int64)
        rps = np.full(int(bins[-1]) + 1, np.nan)
        rps[bins] = rates
        masked = np.isnan(rps)
        if masked.all():
            raise TraceInvalid(f"{self.service}: rate_rps", "empty in every row", "some rates")
        return RateTrace(
            name=self.service,
            family="recording",
            bin_s=bin_s,
            rps=np.where(masked, 0.0, rps),
            masked=masked,
        )


def write_recording(path: Path, recording: Recording) -> None:
    """Write the file, whole or not at all.

    Raises:
        OutputRefused: The file cannot be written.
    """
    _write(path, _rows_of(recording), _metadata_of(recording))


def append_recording(path: Path, later: Recording) -> None:
    """Add readings to a recording, or start it; an interruption leaves the old file whole.

    Raises:
        TraceInvalid: The file is no recording, is of another service or profile, or ``later``
            does not start after its end.
        OutputRefused: The file cannot be written.
    """
    if not path.exists():
        write_recording(path, later)
        return
    table = _recorded(path)
    earlier = _about(path, _metadata(table))
    for name in ("service", "profile_sha256"):
        here, there = getattr(later, name), getattr(earlier, name)
        if here != there:
            raise TraceInvalid(f"{path}: {name}", here, f"{there!r}, as recorded so far")
    if later.readings and table.num_rows:
        end_s, begin_s = table.column("at_s")[-1].as_py(), later.readings[0].at_s
        if begin_s <= end_s:
            row = table.num_rows + 1
            raise TraceInvalid(f"{later.service}: at_s, row {row}", begin_s, f"above {end_s}")
    whole = pa.concat_tables(
        [_bare(path, table, earlier.details), _rows_of(later)], promote_options="default"
    )
    _write(path, whole, _metadata_of(_joined(earlier, later)))


def read_recording(path: Path) -> Recording:
    """Read a recording.

    Raises:
        TraceInvalid: The file is missing, damaged, of another format or version, lacks a column,
            or its times do not ascend; names what is wrong.
    """
    table = _recorded(path)
    about = _about(path, _metadata(table))
    rows = _rows(path, table)
    return replace(
        about,
        readings=tuple(Signals(**{n: _known(row[n]) for n in SIGNAL_FIELDS}) for row in rows),
        allocations=tuple(Allocation(**{name: row[name] for name in _ALLOCATION}) for row in rows),
        details={
            name: tuple(_known(value) for value in table.column(name).to_pylist())
            for name in about.details
        },
    )


def read_traffic(path: Path) -> RateTrace:
    """Read a rate trace from a trace file or from a recording, whichever the file is.

    Raises:
        TraceInvalid: See :func:`read_recording` and
            :func:`~gpupilot_envs.workload.trace.read_trace`.
    """
    if is_recording(path):
        return read_recording(path).trace().renamed(path.stem)
    return read_trace(path)


def is_recording(path: Path) -> bool:
    """Tell whether the file is a Parquet file that calls itself a recording of any version."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (pa.ArrowException, OSError):
        return False
    return bytes(metadata.get(b"format", b"")).startswith(b"gpupilot/recording")


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _known(value: Any) -> Any:
    """Return ``None`` for the NaN that other writers use for an empty cell."""
    return None if value != value else value


def _table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except FileNotFoundError as error:
        raise TraceInvalid(str(path), "no such file", f"a {FORMAT} file") from error
    except (pa.ArrowException, OSError) as error:
        raise TraceInvalid(str(path), "not a readable Parquet file", f"a {FORMAT} file") from error


def _metadata(table: pa.Table) -> dict[str, str]:
    raw: dict[bytes, bytes] = table.schema.metadata or {}
    return {key.decode(): value.decode() for key, value in raw.items()}


def _recorded(path: Path) -> pa.Table:
    """Return the file's table if it is a recording of this version."""
    table = _table(path)
    found = _metadata(table).get("format")
    if found != FORMAT:
        raise TraceInvalid(f"{path}: format", found, FORMAT)
    return table


def _about(path: Path, metadata: Mapping[str, str]) -> Recording:
    """Return a recording without rows; ``details`` has its names."""
    batches = json.loads(metadata.get("batch_times", "{}"))
    return Recording(
        service=metadata.get("service", path.stem),
        readings=(),
        allocations=(),
        profile_sha256=metadata.get("profile_sha256") or None,
        queries=json.loads(metadata.get("queries", "{}")),
        sources=json.loads(metadata.get("sources", "{}")),
        details=dict.fromkeys(json.loads(metadata.get("details", "[]")), ()),
        batch_times={int(size): (count, time_s) for size, (count, time_s) in batches.items()},
        target_s=json.loads(metadata.get("target_s", "null")),
    )


def _joined(earlier: Recording, later: Recording) -> Recording:
    """Return what the metadata of both recordings say together, without rows."""
    sources = dict(earlier.sources)
    for column, names in later.sources.items():
        known = [name for name in sources.get(column, "").split(", ") if name]
        more = [name for name in names.split(", ") if name not in known]
        sources[column] = ", ".join([*known, *more])
    sizes = sorted({*earlier.batch_times, *later.batch_times})
    parts = (earlier.batch_times, later.batch_times)
    return replace(
        later,
        readings=(),
        allocations=(),
        queries={**earlier.queries, **later.queries},
        sources=sources,
        details=dict.fromkeys((*earlier.details, *later.details), ()),
        batch_times={
            size: (
                sum(part.get(size, (0, 0.0))[0] for part in parts),
                sum(part.get(size, (0, 0.0))[1] for part in parts),
            )
            for size in sizes
        },
        target_s=later.target_s if later.target_s is not None else earlier.target_s,
    )


def _rows_of(recording: Recording) -> pa.Table:
    rows = [
        {**asdict(reading), **asdict(allocation)}
        for reading, allocation in zip(recording.readings, recording.allocations, strict=True)
    ]
    table = pa.Table.from_pylist(rows, schema=_SCHEMA)
    for name, column in recording.details.items():
        table = table.append_column(name, pa.array(column, pa.float64()))
    return table


def _metadata_of(recording: Recording) -> dict[str, str]:
    documents = {
        "queries": dict(recording.queries),
        "sources": dict(recording.sources),
        "details": sorted(recording.details),
        "batch_times": {str(size): pair for size, pair in recording.batch_times.items()},
        "target_s": recording.target_s,
    }
    return {
        "format": FORMAT,
        "service": recording.service,
        "profile_sha256": recording.profile_sha256 or "",
    } | {name: json.dumps(document, sort_keys=True) for name, document in documents.items()}


def _write(path: Path, table: pa.Table, metadata: Mapping[str, str]) -> None:
    with atomic_path(path) as partial:
        pq.write_table(table.replace_schema_metadata(dict(metadata)), partial)


def _bare(path: Path, table: pa.Table, details: Iterable[str]) -> pa.Table:
    """Return the columns of the format and the details, typed, without metadata."""
    typed = _typed(path, table)
    for name in details:
        typed = typed.append_column(name, table.column(name).cast(pa.float64()))
    return typed.replace_schema_metadata(None)


def _typed(path: Path, table: pa.Table) -> pa.Table:
    missing = [name for name in _SCHEMA.names if name not in table.column_names]
    if missing:
        raise TraceInvalid(f"{path}: columns", table.column_names, f"also {', '.join(missing)}")
    try:
        typed = table.select(_SCHEMA.names).cast(_SCHEMA)
    except (pa.ArrowException, ValueError) as error:
        raise TraceInvalid(
            f"{path}: columns", str(error).splitlines()[0], "the types of the format"
        ) from error
    for name in (*_ALWAYS, *_ALLOCATION):
        if typed.column(name).null_count:
            raise TraceInvalid(f"{path}: {name}", "an empty cell", "a number in every row")
    return typed


def _rows(path: Path, table: pa.Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = _typed(path, table).to_pylist()
    return rows
