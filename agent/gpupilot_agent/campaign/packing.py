"""Every request of a run in few bytes: whole microseconds, ascending, differences encoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from gpupilot_envs.atomic import atomic_path

MICRO = 1e6


def pack(journal: Path, target: Path) -> int:
    """Write the requests that Locust logged as the file of a run, and return how many.

    ``intended_us`` counts from the first request that was meant to be sent, ``latency_us`` and
    ``lag_us`` from ``intended_us``; ``ok`` says whether it was answered correctly.

    Raises:
        OutputRefused: The file cannot be written.
    """
    table = pa.csv.read_csv(journal)
    intended_s = table.column("intended_s").to_numpy()
    order = np.argsort(intended_s, kind="stable")
    columns = {
        "intended_us": _whole(intended_s - intended_s.min(), np.int64),
        "latency_us": _whole(table.column("latency_s").to_numpy(), np.int32),
        "lag_us": _whole(table.column("lag_s").to_numpy(), np.int32),
        "ok": table.column("ok").to_numpy(zero_copy_only=False).astype(bool),
    }
    packed = pa.table({name: values[order] for name, values in columns.items()})
    encodings = {name: "DELTA_BINARY_PACKED" for name in columns if name != "ok"}
    with atomic_path(target) as partial:
        pq.write_table(
            packed,
            partial,
            compression="zstd",
            use_dictionary=False,
            column_encoding={**encodings, "ok": "PLAIN"},
            write_statistics=False,
        )
    return len(order)


def _whole(seconds: np.ndarray, kind: type[np.signedinteger]) -> np.ndarray:
    return np.rint(MICRO * seconds).astype(kind)
