"""Every command meets every wrong file: one sentence that names it, code 2, nothing written."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

Shell = Callable[..., Any]

EXECUTABLE = Path(sys.executable).with_name("gpupilot")

BAD = "<the bad file>"
TRACE = "<a good trace>"
OUT = "<a new folder>"

READERS = {
    "simulate a trace": ("simulate", "--replicas", 1, "--trace", BAD),
    "simulate arrivals": ("simulate", "--replicas", 1, "--arrivals", BAD),
    "simulate a profile": ("simulate", "--replicas", 1, "--rate", 1, "--profile", BAD),
    "compare": ("compare", "--traces", BAD, "--policies", "hpa", "--out", OUT),
    "compare a policy": (
        *("compare", "--traces", TRACE, "--policies", "ppo"),
        *("--bundle", BAD, "--out", OUT),
    ),
    "compare settings": (
        *("compare", "--traces", TRACE, "--policies", "hpa-tuned"),
        *("--tuned", BAD, "--out", OUT),
    ),
    "tune": ("tune", "--traces", BAD, "--policies", "hpa", "--out", OUT),
    "record": ("record", "--trace", BAD, "--out", OUT),
    "record a policy": ("record", "--trace", TRACE, "--policy", BAD, "--out", OUT),
    "calibrate": ("calibrate", BAD, "--out", OUT),
    "gate": ("gate", "--policy", "generalist", "--service-recordings", BAD, "--out", OUT),
    "gate a policy": ("gate", "--policy", BAD, "--service-recordings", TRACE, "--out", OUT),
    "train": ("train", "--traces", BAD, "--out", OUT),
    "train by a file": ("train", "--config", BAD, "--out", OUT),
    "fine-tune": ("train", "--fine-tune", "--recordings", BAD, "--out", OUT),
    "study": ("study", "--trials", 1, "--config", BAD, "--out", OUT),
    "demo": ("demo", "--traffic", "recorded", "--recordings", BAD, "--out", OUT),
    "report": ("report", BAD),
    "explain": ("explain", BAD),
    "card": ("card", BAD),
    "export": ("export", BAD, "--onnx", OUT),
}


def missing(path: Path) -> None:
    """Leave nothing there."""


def folder(path: Path) -> None:
    path.mkdir()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def noise(path: Path) -> None:
    path.write_bytes(bytes(range(255, 127, -1)))


def loop(path: Path) -> None:
    path.symlink_to(path)


FILES = {make.__name__: make for make in (missing, folder, empty, noise, loop)}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("command", READERS)
def test_a_wrong_file(shell: Shell, traces: Path, tmp_path: Path, command: str, kind: str) -> None:
    bad, out = tmp_path / "bad.parquet", tmp_path / "out"
    FILES[kind](bad)
    stands_for: dict[object, Path] = {BAD: bad, TRACE: traces / "calm.csv", OUT: out}
    ended = shell(*(stands_for.get(word, word) for word in READERS[command]))
    assert ended.code == 2, ended.err
    assert ended.out == ""
    assert ended.err.startswith("gpupilot: ")
    assert ended.err.count("\n") == 1
    assert "bad.parquet" in ended.err
    assert "Traceback" not in ended.err
    assert not out.exists()


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes, as a full disk would."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)


def test_a_recording_that_does_not_fit_leaves_nothing(
    shell: Shell, tiny: Path, traces: Path, tmp_path: Path
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    words = ("--profile", tiny, "--target-ms", 500, "--trace", traces / "calm.csv", "--out")
    # the first one also compiles; what numba keeps would not fit either
    assert shell("record", *words, whole).code == 0
    with files_up_to(2000):
        ended = shell("record", *words, out)
    assert ended.code == 2, ended.err
    assert "size is not allowed" in ended.err
    assert list(tmp_path.iterdir()) == [whole]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["interrupted", "terminated"])
def test_a_command_told_to_end_leaves_nothing_half_written(
    tiny: Path, traces: Path, tmp_path: Path, how: signal.Signals
) -> None:
    out = tmp_path / "out"
    words = ("--profile", tiny, "--target-ms", "500", "--policies", "hpa", "--trials", "4000")
    with subprocess.Popen(
        [EXECUTABLE, "tune", *words, "--traces", traces, "--out", out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as running:
        try:
            deadline_s = time.monotonic() + 120
            while not any(out.rglob("*.json")) and time.monotonic() < deadline_s:
                time.sleep(0.05)
            running.send_signal(how)
            _, said = running.communicate(timeout=60)
        finally:
            running.kill()
    assert running.returncode == 130, said
    assert "Traceback" not in said
    assert list(out.rglob("*.partial")) == []
    assert not (out / "tuned.json").exists()
