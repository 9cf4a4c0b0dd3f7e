"""What the process says when it ends: exit codes, and one sentence for what went wrong."""

from __future__ import annotations

import sys
from enum import IntEnum
from typing import NoReturn

import typer


class ExitCode(IntEnum):
    """How a command ended, as a shell sees it (``docs/cli.md``)."""

    DONE = 0
    UNEXPECTED = 1
    BAD_INPUT = 2
    ANSWER_IS_NO = 3
    INTERRUPTED = 130


def tell(sentence: str) -> None:
    """Write one line to standard error."""
    sys.stderr.write(f"gpupilot: {' '.join(sentence.split())}\n")
    sys.stderr.flush()


def refuse(sentence: str) -> NoReturn:
    """End the process because of what the user gave; say it, unless help has said it already."""
    if sentence:
        tell(sentence)
    sys.exit(ExitCode.BAD_INPUT)


def misuse(error: typer.TyperException) -> str:
    """Return a wrong use of the command line as one sentence that holds the value given."""
    from pydantic import ValidationError

    said = error.format_message()
    if not isinstance(error.__cause__, ValidationError):
        return said
    given = error.__cause__.errors()[0]["input"]
    return said.replace("Invalid value for", f"Invalid value {given!r} for", 1)
