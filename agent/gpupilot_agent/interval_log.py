"""One interval of a comparison's time series: what was asked, granted, ready and late."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gpupilot_envs.errors import InputInvalid

SERIES = "series"
"""Folder of a comparison that holds one file per policy (``docs/results.md``)."""


def is_comparison(run: Path) -> bool:
    """Tell whether the folder is one a comparison left."""
    return (run / SERIES).is_dir()


def interval(
    run: Path, *, policy: str | None, trace: str | None, seed: int, at_s: float
) -> dict[str, Any]:
    """Return the row in force at ``at_s`` of one run of a comparison.

    Args:
        run: Folder of the comparison.
        policy: Whose run.
        trace: On which traffic.
        seed: Of which repetition.
        at_s: Time on the trace's own clock.

    Raises:
        InputInvalid: The policy, trace, seed or time is not in the comparison; lists what is.
    """
    names = sorted(path.stem for path in (run / SERIES).glob("*.parquet"))
    if policy not in names:
        raise InputInvalid("--policy", policy, f"one of {', '.join(names)}")
    rows = pq.read_table(run / SERIES / f"{policy}.parquet")
    rows = rows.set_column(
        rows.schema.get_field_index("trace"), "trace", rows["trace"].cast(pa.string())
    )
    rows = _only(rows, "--trace", "trace", trace)
    rows = _only(rows, "--seed", "seed", seed)
    ends_s = rows["t_s"].to_numpy()
    begins_s = ends_s - rows["interval_s"].to_numpy()
    inside = ((begins_s <= at_s) & (at_s < ends_s)).nonzero()[0]
    if not len(inside):
        covered = f"a time from {begins_s.min():g} to {ends_s.max():g} s that was replayed"
        raise InputInvalid("--at", at_s, covered)
    row: dict[str, Any] = rows.slice(int(inside[0]), 1).to_pylist()[0]
    return {"policy": policy, **row}


def _only(rows: pa.Table, option: str, column: str, value: object) -> pa.Table:
    kept = rows.filter(pc.equal(rows[column], pa.scalar(value, rows.schema.field(column).type)))
    if value is None or not kept.num_rows:
        known = ", ".join(str(name) for name in sorted(pc.unique(rows[column]).to_pylist()))
        raise InputInvalid(option, value, f"one of {known}")
    return kept
