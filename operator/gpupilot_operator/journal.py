"""The decision log of a running operator: rotated Parquet files that ``gpupilot explain`` reads.

One file per service and policy for about an hour (``docs/decisions.md``), written whole or not at
all by a thread of its own; the oldest go when all together would exceed their share of the disk.
A decision log that cannot be written is said and counted, and never holds up a decision.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Semaphore

from gpupilot_agent.decision_log import DecisionLog, append_decisions
from gpupilot_envs.errors import GpupilotError
from gpupilot_operator.journal_rows import alike, log_of
from gpupilot_operator.ports import Noted

_log = logging.getLogger(__name__)

MOST_BYTES = 3 * 2**28
ROWS_PER_WRITE = 60
ROWS_PER_FILE = 720
WAITING_MOST = 2000
"""Writes that may wait for a slow disk; beyond, rows are lost and counted."""
IDLE_S = 60.0
SWEPT_EVERY_S = 60.0

Stream = tuple[str, str]
"""A service's key and the name of who decided."""


@dataclass(slots=True)
class _Waiting:
    """Rows of one stream that wait to be written."""

    threshold: int
    rows: list[Noted] = field(default_factory=list)


class Journal:
    """Takes in decisions and has them written; the port of the control loop.

    Attributes:
        lost: Decisions that could not be written so far.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        most_bytes: int = MOST_BYTES,
        rows_per_write: int = ROWS_PER_WRITE,
        rows_per_file: int = ROWS_PER_FILE,
    ) -> None:
        """Write below ``folder``.

        Args:
            folder: ``<namespace>/<name>/<time>-<policy>.parquet`` below it; ``None`` keeps no log.
            most_bytes: Size of all files together, looked at once a minute.
            rows_per_write: Decisions of a service that wait for one write.
            rows_per_file: Decisions in one file.
        """
        self._files = None if folder is None else _Files(folder, most_bytes, rows_per_file)
        self._rows_per_write = rows_per_write
        self._streams: dict[Stream, _Waiting] = {}
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="decision-log")
        self._room = Semaphore(WAITING_MOST)
        self.lost = 0

    def note(self, decisions: Sequence[Noted]) -> None:
        """Take in the decisions of one tick."""
        if self._files is None or not decisions:
            return
        for decision in decisions:
            stream = (decision.service.key, decision.policy)
            if stream not in self._streams:
                # services that begin together are not all written at the same tick
                phase = zlib.crc32(stream[0].encode()) % self._rows_per_write
                self._streams[stream] = _Waiting(threshold=1 + phase)
            waiting = self._streams[stream]
            waiting.rows.append(decision)
            if len(waiting.rows) >= waiting.threshold:
                waiting.threshold = self._rows_per_write
                self._hand_over(stream, waiting)
        self._let_go(decisions[0].at_s)

    def close(self) -> None:
        """Write what waits, and stop."""
        for stream, waiting in self._streams.items():
            self._hand_over(stream, waiting)
        self._worker.shutdown(wait=True)

    def _let_go(self, now_s: float) -> None:
        """Write and forget the streams that nothing was added to for a while."""
        for stream, waiting in tuple(self._streams.items()):
            if waiting.rows and now_s - waiting.rows[-1].at_s > IDLE_S:
                self._hand_over(stream, waiting)
                del self._streams[stream]

    def _hand_over(self, stream: Stream, waiting: _Waiting) -> None:
        rows, waiting.rows = tuple(waiting.rows), []
        if not rows:
            return
        if self._room.acquire(blocking=False):
            self._worker.submit(self._write, stream, rows)
        else:
            self.lost += len(rows)

    def _write(self, stream: Stream, rows: tuple[Noted, ...]) -> None:
        try:
            if self._files is not None:
                self._files.write(stream, rows)
        except GpupilotError as error:
            self.lost += len(rows)
            _log.warning("decisions were not logged: %s", error)
        finally:
            self._room.release()


@dataclass(slots=True)
class _Open:
    """The file that the next rows of a stream go to."""

    path: Path
    rows: int


class _Files:
    """The files of all streams; used by one thread."""

    def __init__(self, folder: Path, most_bytes: int, rows_per_file: int) -> None:
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
