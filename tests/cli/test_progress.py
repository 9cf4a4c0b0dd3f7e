"""Progress off a terminal: a line now and then, and always the last."""

from __future__ import annotations

import pytest

from gpupilot_agent.cli import options, progress
from gpupilot_envs import embedded


def test_off_a_terminal_only_the_end_is_said_when_it_comes_soon(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress.meter("working", 4.0) as told:
        for done in range(1, 5):
            told(done, "ok")
        told(4, "again")
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err == "working: 100 % ok\n"


def test_a_long_work_is_heard_of_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN_EVERY_S", 0.0)
    with progress.counter("working") as told:
        told(1, 4, "first")
        told(2, 4, "second")
    assert capsys.readouterr().err == "working: 25 % 1/4 first\nworking: 50 % 2/4 second\n"


def test_a_long_work_says_how_long_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    times_s = iter([0.0, 30.0, 90.0])
    with progress.meters(["seed 1"], 1.0, clock=lambda: next(times_s)) as (told,):
        told(0.25)
        told(1.0)
    assert capsys.readouterr().err == "seed 1: 25 %, 1:30 left\nseed 1: 100 %\n"


def test_the_default_profile_written_out_is_the_embedded_one() -> None:
    assert options.DEFAULT_PROFILE == embedded.DEFAULT
