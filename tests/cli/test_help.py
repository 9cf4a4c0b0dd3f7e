"""Help teaches by example, and every example is a command line that parses."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
import typer

from gpupilot_agent.cli.examples import HEADING, examples, paragraphs
from gpupilot_agent.cli.main import app

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
PROMISED = (
    "demo",
    "simulate",
    "train",
    "tune",
    "compare",
    "report",
    "record",
    "calibrate",
    "explain",
    "stack",
    "model",
    "accuracy",
)


def example_lines(name: str) -> list[list[str]]:
    """Return the words of each example under a command's help."""
    text = str(COMMANDS[name].epilog).removeprefix(HEADING).replace("\\\n", " ")
    return [shlex.split(line) for line in text.strip().splitlines()]


def all_examples() -> list[list[str]]:
    return [words for name in COMMANDS for words in example_lines(name)]


@pytest.mark.parametrize("name", PROMISED)
def test_the_promised_commands_exist(name: str) -> None:
    assert name in COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_teaches_by_example(name: str) -> None:
    assert example_lines(name)
    assert all(words[:2] == ["gpupilot", name] for words in example_lines(name))


@pytest.mark.parametrize("words", all_examples(), ids=" ".join)
def test_an_example_parses(words: list[str]) -> None:
    COMMANDS[words[1]].make_context(words[1], words[2:])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name: str) -> None:
    unexplained = [
        option.name for option in COMMANDS[name].params if not getattr(option, "help", None)
    ]
    assert unexplained == []


def test_examples_keep_their_lines() -> None:
    assert examples("gpupilot a \\\n  --b", "gpupilot c").splitlines() == [
        HEADING,
        "  gpupilot a \\",
        "    --b",
        "  gpupilot c",
    ]


def test_a_paragraph_is_one_line_for_the_terminal_to_wrap() -> None:
    assert paragraphs("One\ntwo.\n\nThree\n  four.") == "One two.\n\nThree four."
    assert all("\n" not in part for c in COMMANDS.values() for part in c.help.split("\n\n"))
