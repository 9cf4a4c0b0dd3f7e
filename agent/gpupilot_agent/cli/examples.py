"""Examples under a command's help; every one is parsed in the tests."""

from __future__ import annotations

HEADING = "Examples:"


def examples(*commands: str) -> str:
    """Return the epilog that shows ``commands``, each one or more lines to copy."""
    lines = [f"  {line}" for command in commands for line in command.splitlines()]
    return "\n".join([HEADING, *lines])
