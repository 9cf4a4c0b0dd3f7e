"""Runs the command line in this process, as a shell would see it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from gpupilot_agent.cli.main import run


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str


Shell = Callable[..., Ended]


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """Return a function that runs ``gpupilot`` with the given words."""

    def call(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["gpupilot", *map(str, words)])
        capsys.readouterr()
        code = 0
        try:
            run()
        except SystemExit as ended:
            code = int(ended.code or 0)
        written = capsys.readouterr()
        return Ended(code=code, out=written.out, err=written.err)

    return call
