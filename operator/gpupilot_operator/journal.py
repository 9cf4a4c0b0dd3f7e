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
from pathlib import Path
from threading import Semaphore
from typing import TYPE_CHECKING

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.errors import GpupilotError
from gpupilot_operator.ports import Noted

if TYPE_CHECKING:
    from gpupilot_operator.journal_files import Files, Stream

_log = logging.getLogger(__name__)

MOST_BYTES = 3 * 2**28
ROWS_PER_WRITE = 20
"""A write takes some 10 ms, a row that waits more than a kilobyte."""
ROWS_WITH_NEWS = 6
"""What changes something is what people ask about: it waits for fewer."""
ROWS_PER_FILE = 720
WAITING_MOST = 2000
"""Writes that may wait for a slow disk; beyond, rows are lost and counted."""
IDLE_S = 60.0


@dataclass(slots=True)
class _Waiting:
    """Rows of one stream that wait to be written."""

    threshold: int
    rows: list[Noted] = field(default_factory=list)
    granted: Allocation | None = None
    has_news: bool = False

    def take(self, row: Noted) -> None:
        """Take in a row; one that grants another allocation than the last is news.

        The first is where it grants another than runs.
        """
        self.has_news |= row.grant.granted != (self.granted or row.running)
        self.granted = row.grant.granted
        self.rows.append(row)

    @property
    def is_due(self) -> bool:
        """Whether they are to be written."""
        most = min(self.threshold, ROWS_WITH_NEWS) if self.has_news else self.threshold
        return len(self.rows) >= most


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
        self._is_kept, self._folder = folder is not None, folder or Path()
        self._most_bytes, self._rows_per_file = most_bytes, rows_per_file
        self._files: Files | None = None
        self._rows_per_write = rows_per_write
        self._streams: dict[Stream, _Waiting] = {}
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="decision-log")
        self._room = Semaphore(WAITING_MOST)
        self.lost = 0

    def note(self, decisions: Sequence[Noted]) -> None:
        """Take in the decisions of one tick."""
        if not self._is_kept or not decisions:
            return
        for decision in decisions:
            stream = (decision.service.key, decision.policy)
            if stream not in self._streams:
                # services that begin together are not all written at the same tick
                phase = zlib.crc32(stream[0].encode()) % self._rows_per_write
                self._streams[stream] = _Waiting(threshold=1 + phase)
            waiting = self._streams[stream]
            waiting.take(decision)
            if waiting.is_due:
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
        rows, waiting.rows, waiting.has_news = tuple(waiting.rows), [], False
        if not rows:
            return
        if self._room.acquire(blocking=False):
            self._worker.submit(self._write, stream, rows)
        else:
            self.lost += len(rows)

    def _write(self, stream: Stream, rows: tuple[Noted, ...]) -> None:
        try:
            self._opened().write(stream, rows)
        except GpupilotError as error:
            self.lost += len(rows)
            _log.warning("decisions were not logged: %s", error)
        finally:
            self._room.release()

    def _opened(self) -> Files:
        """Return the files; Arrow is only loaded where something is written."""
        from gpupilot_operator.journal_files import Files

        if self._files is None:
            self._files = Files(self._folder, self._most_bytes, self._rows_per_file)
        return self._files
