"""Write docs/commands.md: every command, option and default, from the command line itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer

from gpupilot_agent.cli.examples import HEADING
from gpupilot_agent.cli.main import app

TARGET = Path(__file__).resolve().parents[1] / "docs" / "commands.md"
HEAD = """\
# Commands and their options

Made from the command line itself by `make commands`; `gpupilot COMMAND --help` says the same. What
the commands are for, exit codes and files: [cli.md](cli.md).
"""


def page() -> str:
    """Return the page."""
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return "\n".join([HEAD, *(_section(name, command) for name, command in commands.items())])


def _section(name: str, command: Any) -> str:
    examples = str(command.epilog or "").removeprefix(HEADING).strip("\n")
    plain = "\n".join(line.removeprefix("  ") for line in examples.splitlines())
    rows = "\n".join(_row(option) for option in command.params)
    table = f"| option | default | meaning |\n|---|---|---|\n{rows}\n\n" if rows else ""
    return f"## gpupilot {name}\n\n{command.help}\n\n{table}```\n{plain}\n```\n"


def _row(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    if option.param_type_name == "argument":
        names = f"`{option.metavar or option.name}`"
    default = "required" if option.required else _default(option)
    meaning = " ".join(str(getattr(option, "help", "") or "").split()).replace("|", "\\|")
    return f"| {names} | {default} | {meaning} |"


def _default(option: Any) -> str:
    shown = option.show_default if isinstance(option.show_default, str) else option.default
    if shown is None or shown is False or callable(shown) or shown == "":
        return ""
    return "on" if shown is True else f"`{shown}`"


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{TARGET}\n")
