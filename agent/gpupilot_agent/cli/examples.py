"""What a command's help says: paragraphs, and examples that are parsed in the tests."""

from __future__ import annotations

HEADING = "Examples:"


def examples(*commands: str) -> str:
    """Return the epilog that shows ``commands``, each one or more lines to copy."""
    lines = [f"  {line}" for command in commands for line in command.splitlines()]
    return "\n".join([HEADING, *lines])


def paragraphs(text: str) -> str:
    """Return ``text`` with each paragraph on one line, so that the terminal's width wraps it."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))
