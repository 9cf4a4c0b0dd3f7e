"""Every request in a file that survives the process: CSV as it happens, Parquet at the end.

A killed run leaves the CSV journal; ``python -m gpupilot_load.request_log JOURNAL OUT`` makes the
Parquet file of it, a torn last line left out.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from gpupilot_envs.atomic import atomic_path
from gpupilot_envs.errors import GpupilotError, InputInvalid, OutputRefused
from gpupilot_load.tally import Outcome

COLUMNS = {
    "intended_s": pa.float64(),
    "lag_s": pa.float64(),
    "waited_s": pa.float64(),
    "latency_s": pa.float64(),
    "ok": pa.bool_(),
    "reason": pa.string(),
    "warm_up": pa.bool_(),
}
"""Columns of the file; times in seconds, ``intended_s`` in Unix time."""


class RequestLog:
    """Appends requests to a journal and, for a target that ends in ``.parquet``, converts it."""

    def __init__(self, target: Path) -> None:
        """Open the journal.

        Args:
            target: The file that is wanted, ``.parquet`` or ``.csv``.

        Raises:
            OutputRefused: The file exists already or cannot be written.
        """
        self.target = target
        self.journal = _journal(target)
        for path in {target, self.journal}:
            if path.exists():
                raise OutputRefused(f"{path} exists already; choose another --requests file")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._file: TextIO = self.journal.open("x", encoding="utf-8", newline="\n")
        except OSError as error:
            raise OutputRefused(f"cannot write {self.journal}: {error.strerror}") from error
        self._write(f"{','.join(COLUMNS)}\n")

    def add(self, outcome: Outcome) -> None:
        """Append one request; on the disk after the next :meth:`flush`, which see."""
        times = (outcome.intended_s, outcome.lag_s, outcome.waited_s, outcome.latency_s)
        numbers = ",".join(f"{value:.6f}" for value in times)
        ok, warm_up = str(outcome.ok).lower(), str(outcome.warm_up).lower()
        self._write(f"{numbers},{ok},{_word(outcome.reason)},{warm_up}\n")

    def flush(self) -> None:
        """Hand what was appended to the operating system: a killed process loses nothing more.

        Raises:
            OutputRefused: The disk is full; what is on it stays, in whole lines.
        """
        try:
            self._file.flush()
        except OSError as error:
            raise self._given_up(error) from error

    def close(self) -> None:
        """Finish the file.

        Raises:
            OutputRefused: It cannot be written; the journal stays.
        """
        self.flush()
        self._file.close()
        if self.target != self.journal:
            convert(self.journal, self.target)
            self.journal.unlink()

    def _write(self, text: str) -> None:
        try:
            self._file.write(text)
        except OSError as error:
            raise self._given_up(error) from error

    def _given_up(self, error: OSError) -> OutputRefused:
        """Let go of the journal with the lines that are whole."""
        with suppress(OSError):  # it tries once more to write what did not fit
            self._file.close()
        whole = self.journal.read_bytes().rfind(b"\n") + 1
        os.truncate(self.journal, whole)
        return OutputRefused(
            f"cannot write {self.journal}: {error.strerror}; the requests until then are in it"
        )


def convert(journal: Path, target: Path) -> None:
    """Write the requests of a journal as Parquet, whole or not at all.

    Raises:
        InputInvalid: The journal is none.
        OutputRefused: The file cannot be written.
    """
    try:
        text = journal.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        options = pa.csv.ConvertOptions(column_types=COLUMNS, include_columns=list(COLUMNS))
        table = pa.csv.read_csv(pa.BufferReader(whole), convert_options=options)
    except (OSError, pa.ArrowException, KeyError) as error:
        said = str(error).splitlines()[0]
        raise InputInvalid(str(journal), said, "a journal of requests") from error
    with atomic_path(target) as partial:
        pq.write_table(table, partial)


def _journal(target: Path) -> Path:
    return target if target.suffix == ".csv" else target.with_name(f"{target.name}.journal.csv")


def _word(reason: str) -> str:
    return "".join(c if c.isalnum() or c in "._- " else "_" for c in reason)


if __name__ == "__main__":
    try:
        convert(*map(Path, sys.argv[1:3]))
    except GpupilotError as error:
        sys.exit(str(error))
