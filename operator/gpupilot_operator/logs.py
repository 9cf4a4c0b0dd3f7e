"""Log lines: one JSON object each, for our own loggers and the libraries' alike."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any, TextIO

FIELDS = "fields"
"""Attribute of a record that holds what stands beside its message."""
LOUD = ("kopf.objects", "kubernetes", "urllib3", "aiohttp", "asyncio")
"""Loggers that tell of every event, or of every request, bodies included."""


class JsonLines(logging.Formatter):
    """Writes a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def set_up(level: str, stream: TextIO | None = None) -> None:
    """Let every logger of the process write JSON lines.

    Args:
        level: The least that is written: ``debug``, ``info``, ``warning`` or ``error``.
        stream: Where to; standard error by default.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    for name in LOUD:
        logging.getLogger(name).setLevel(logging.WARNING)
