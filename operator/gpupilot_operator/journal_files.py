"""The files of the decision log: which rows go where, and which file goes where space is short."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gpupilot_agent.decision_log import DecisionLog, append_decisions
from gpupilot_envs.errors import GpupilotError
from gpupilot_operator.journal_rows import alike, log_of
from gpupilot_operator.ports import Noted

_log = logging.getLogger(__name__)

SWEPT_EVERY_S = 60.0

Stream = tuple[str, str]
"""A service's key and the name of who decided."""


@dataclass(slots=True)
class _Open:
    """The file that the next rows of a stream go to."""

    path: Path
    rows: int


class Files:
    """The files of all streams; used by one thread."""

    def __init__(self, folder: Path, most_bytes: int, rows_per_file: int) -> None:
        """Write below a folder.

        Args:
            folder: ``<namespace>/<name>/<time>-<policy>.parquet`` below it.
            most_bytes: Size of all files together, looked at once a minute.
            rows_per_file: Decisions in one file.
        """
        self._folder, self._most_bytes, self._rows_per_file = folder, most_bytes, rows_per_file
        self._open: dict[Stream, _Open] = {}
        self._swept_s = float("-inf")

    def write(self, stream: Stream, rows: Sequence[Noted]) -> None:
        """Append rows to the stream's file, or begin another.

        Raises:
            OutputRefused: The disk is full or cannot be written.
        """
        for part in alike(rows):
            log = log_of(part)
            if not self._appended(stream, log):
                self._begin(stream, part[0], log)
        if rows[-1].at_s - self._swept_s >= SWEPT_EVERY_S:
            self._swept_s = rows[-1].at_s
            self._remove_oldest()

    def _appended(self, stream: Stream, log: DecisionLog) -> bool:
        """Whether the rows went into the file there is: of the same setting, and with room."""
        known = self._open.pop(stream, None)
        if known is None or known.rows + len(log.entries) > self._rows_per_file:
            return False
        try:
            append_decisions(known.path, log)
        except GpupilotError as error:
            _log.debug("%s; another file is begun", error)
            return False
        known.rows += len(log.entries)
        self._open[stream] = known
        return True

    def _begin(self, stream: Stream, first: Noted, log: DecisionLog) -> None:
        at = datetime.fromtimestamp(first.at_s, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        service = first.service
        folder = self._folder / service.namespace / service.name
        path = folder / f"{at}-{first.policy.replace('/', '-')}.parquet"
        append_decisions(path, log)
        self._open[stream] = _Open(path=path, rows=len(log.entries))

    def _remove_oldest(self) -> None:
        files = [(path.stat(), path) for path in self._folder.glob("*/*/*.parquet")]
        total = sum(known.st_size for known, _ in files)
        for known, path in sorted(files, key=lambda each: each[0].st_mtime_ns):
            if total <= self._most_bytes:
                return
            path.unlink(missing_ok=True)
            total -= known.st_size
