"""Columns of numbers from Parquet and CSV files, with errors that name the row."""

from __future__ import annotations

import csv as csv_rows
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gpupilot_envs.errors import TraceInvalid

Floats = NDArray[np.float64]


def read(path: Path, names: Sequence[str]) -> dict[str, Floats]:
    """Read the named columns as float64, an empty cell as NaN; other columns are ignored.

    The format is told from the content, not from the name.

    Raises:
        TraceInvalid: The file cannot be read, lacks a column, has it twice or holds something
            else than numbers.
    """
    table = _parquet(path) if _is_parquet(path) else _csv(path, names)
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise TraceInvalid(
            f"{path}: columns", table.column_names, f"a column named {' and '.join(missing)}"
        )
    twice = [name for name in names if table.column_names.count(name) > 1]
    if twice:
        raise TraceInvalid(f"{path}: columns", table.column_names, f"{twice[0]} only once")
    return {name: _numbers(path, name, table.column(name)) for name in names}


def write(path: Path, table: Mapping[str, Floats], *, csv: bool) -> None:
    """Write columns of equal length as CSV or Parquet."""
    arrow = pa.table(dict(table))
    if csv:
        pa.csv.write_csv(arrow, path)
    else:
        pq.write_table(arrow, path)


def check_length(path: Path, name: str, values: Floats, least: int) -> None:
    """Refuse a column that is shorter than ``least`` rows."""
    if len(values) < least:
        raise TraceInvalid(f"{path}: {name}", f"{len(values)} rows", f"at least {least} rows")


def check_finite(path: Path, name: str, values: Floats) -> None:
    """Refuse NaN (an empty cell too) and infinity."""
    _refuse(path, name, values, ~np.isfinite(values), "a finite number")


def check_rates(path: Path, name: str, values: Floats) -> None:
    """Refuse NaN, infinity and negative numbers."""
    wrong = ~np.isfinite(values) | (values < 0)
    _refuse(path, name, values, wrong, "a finite number of 0 or more")


def check_ascending(path: Path, name: str, values: Floats, *, strictly: bool) -> None:
    """Refuse a value below its predecessor, or equal to it when ``strictly``."""
    steps = np.diff(values)
    back = steps <= 0 if strictly else steps < 0
    if back.any():
        at = int(np.argmax(back)) + 1
        allowed = f"{'more than' if strictly else 'at least'} {values[at - 1]:g}, the row before"
        raise TraceInvalid(f"{path}: {name}, row {at + 1}", float(values[at]), allowed)


def gaps_beside(path: Path) -> list[tuple[float, float]]:
    """Return the trace's intervals in ``gaps.csv`` beside it; none when there is no such file.

    Raises:
        TraceInvalid: ``gaps.csv`` lacks a column or an interval is broken.
    """
    beside = path.with_name("gaps.csv")
    rows = _text_rows(beside, ("trace", "start_s", "end_s"))
    return [_interval(beside, row) for row in rows if row["trace"] == path.stem]


def family_beside(path: Path) -> str:
    """Return the trace's family in ``index.csv`` beside it, else the file's stem."""
    rows = _text_rows(path.with_name("index.csv"), ("name", "family"))
    return next((row["family"] for row in rows if row["name"] == path.stem), path.stem)


def _refuse(path: Path, name: str, values: Floats, wrong: NDArray[np.bool_], allowed: str) -> None:
    if wrong.any():
        at = int(np.argmax(wrong))
        raise TraceInvalid(f"{path}: {name}, row {at + 1}", float(values[at]), allowed)


def _is_parquet(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PAR1"
    except OSError as error:
        raise TraceInvalid(str(path), error.strerror, "a readable Parquet or CSV file") from error


def _parquet(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise TraceInvalid(str(path), "damaged Parquet", "a whole Parquet file") from error


def _csv(path: Path, names: Sequence[str]) -> pa.Table:
    # cells stay text here, so that the error for a bad one can name its row
    options = pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
    try:
        table = pa.csv.read_csv(path, convert_options=options)
        # Arrow decodes the header only when it is asked for
        return table.rename_columns(table.column_names)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        allowed = f"a CSV file with the header {','.join(names)}"
        raise TraceInvalid(str(path), _first_line(error), allowed) from error


def _numbers(path: Path, name: str, column: pa.ChunkedArray) -> Floats:
    try:
        if pa.types.is_string(column.type):
            trimmed = pc.utf8_trim_whitespace(column)
            column = pc.if_else(pc.equal(trimmed, ""), None, trimmed)
        numbers = pc.cast(column, pa.float64())
    except pa.ArrowException as error:
        row, value = _first_not_number(column)
        raise TraceInvalid(f"{path}: {name}, row {row}", value, "a number") from error
    return np.ascontiguousarray(numbers.to_numpy(), dtype=np.float64)


def _first_not_number(column: pa.ChunkedArray) -> tuple[int, object]:
    for row, value in enumerate(column.to_pylist(), start=1):
        try:
            float(value or "nan")
        except (TypeError, ValueError):
            return row, value
    return 1, str(column.type)


def _text_rows(path: Path, names: Sequence[str]) -> list[dict[str, str]]:
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv_rows.DictReader(file)
            header, rows = list(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv_rows.Error) as error:
        raise TraceInvalid(str(path), _first_line(error), "a readable CSV file") from error
    missing = [name for name in names if name not in header]
    if missing:
        raise TraceInvalid(f"{path}: columns", header, f"a column named {' and '.join(missing)}")
    return rows


def _interval(path: Path, row: dict[str, str]) -> tuple[float, float]:
    try:
        start_s, end_s = float(row["start_s"]), float(row["end_s"])
    except (TypeError, ValueError) as error:
        text = (row["start_s"], row["end_s"])
        raise TraceInvalid(f"{path}: start_s, end_s", text, "two numbers") from error
    if not 0.0 <= start_s < end_s < np.inf:
        raise TraceInvalid(f"{path}: start_s, end_s", (start_s, end_s), "0 <= start_s < end_s")
    return start_s, end_s


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
