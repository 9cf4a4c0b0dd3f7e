"""Every way to end has its exit code and at most one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gpupilot_agent.cli import main
from gpupilot_agent.cli.outcome import ExitCode
from gpupilot_envs.errors import BundleRefused, GpupilotError, InputInvalid, OutputRefused

Shell = Callable[..., Any]


def fails_with(error: BaseException) -> Callable[..., None]:
    def failing(*_: object, **__: object) -> None:
        raise error

    return failing


def test_success_says_the_version(shell: Shell) -> None:
    ended = shell("version")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.strip() == "0.1.0"


@pytest.mark.parametrize(
    "error",
    [InputInvalid("--rate", -1, "more than 0"), OutputRefused("full"), BundleRefused("old")],
    ids=lambda e: type(e).__name__,
)
def test_a_user_error_is_one_sentence(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, error: GpupilotError
) -> None:
    monkeypatch.setattr(main, "app", fails_with(error))
    ended = shell()
    assert ended.code == ExitCode.BAD_INPUT
    assert ended.err == f"gpupilot: {error}\n"
    assert ended.out == ""


def test_an_unexpected_error_is_one_sentence_that_says_how_to_see_more(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(main.TRACEBACK_VARIABLE, raising=False)
    monkeypatch.setattr(main, "app", fails_with(RuntimeError("two\nlines")))
    ended = shell()
    assert ended.code == ExitCode.UNEXPECTED
    assert ended.err.count("\n") == 1
    assert "RuntimeError: two lines" in ended.err
    assert main.TRACEBACK_VARIABLE in ended.err


def test_the_traceback_is_there_when_asked_for(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(main.TRACEBACK_VARIABLE, "1")
    monkeypatch.setattr(main, "app", fails_with(RuntimeError("seen")))
    with pytest.raises(RuntimeError, match="seen"):
        shell()


def test_ctrl_c_ends_with_130(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "installed_version", fails_with(KeyboardInterrupt()))
    assert shell("version").code == ExitCode.INTERRUPTED


@pytest.mark.parametrize("words", [("nope",), ("simulate",), ("simulate", "--replicas", "many")])
def test_wrong_usage_ends_with_2(shell: Shell, words: tuple[str, ...]) -> None:
    ended = shell(*words)
    assert ended.code == ExitCode.BAD_INPUT
    assert "Traceback" not in ended.err
