"""Runs the command line in this process, as a shell would see it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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


TINY = """\
format: gpupilot/profile-v1
name: tiny
batch_latency_ms: [[1, 100], [8, 240]]
cold_start_s: {mean: 5.0, cv: 0.1}
"""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the profile of a slow service: seconds of traffic are a handful of requests."""
    path = tmp_path_factory.mktemp("profile") / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of two ten-minute traces."""
    folder = tmp_path_factory.mktemp("traces")
    for name, rise in (("calm", 1.0), ("busy", 3.0)):
        rows = [f"{15 * i},{10 + rise * 10 * (i % 20) / 20}" for i in range(40)]
        (folder / f"{name}.csv").write_text("\n".join(["t_s,rps", *rows]), encoding="utf-8")
    return folder
