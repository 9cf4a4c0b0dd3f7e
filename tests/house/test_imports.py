"""Imports point one way, heavy libraries stay at home, and help is quick."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "stable_baselines3", "gymnasium", "matplotlib", "scipy.stats", "numba")
HELP_OVER_TYPER = 2.0
"""CPU that help may take, over that of the library which prints it; numba alone would add more."""


def test_every_import_contract_is_kept() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", HEAVY)
def test_the_command_line_starts_without(name: str) -> None:
    code = f"import gpupilot_agent.cli.main, sys; sys.exit({name!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def cpu_s_of(arguments: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(arguments, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_costs_little_more_than_what_prints_it() -> None:
    command = [str(Path(sys.executable).with_name("gpupilot")), "--help"]
    bare = [sys.executable, "-c", "import typer.rich_utils"]
    spent, least = (min(cpu_s_of(words) for _ in range(3)) for words in (command, bare))
    assert spent < HELP_OVER_TYPER * least
