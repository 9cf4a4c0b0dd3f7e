"""Ctrl-C ends with 130 and leaves whole files only."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

EXECUTABLE = Path(sys.executable).with_name("gpupilot")


def _hear_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_an_interrupted_comparison_leaves_whole_files(
    tiny: Path, traces: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words: list[str | Path] = [
        "compare",
        "--profile",
        tiny,
        "--target-ms",
        "500",
        "--traces",
        traces,
    ]
    words += ["--policies", "static,hpa,kpa", "--seeds", "400", "--no-report", "--out", out]
    with subprocess.Popen(
        [EXECUTABLE, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # started by a background job, a process would never hear of an interrupt
        preexec_fn=_hear_interrupts,
    ) as running:
        try:
            deadline_s = time.monotonic() + 120
            while len(list(out.glob("tasks/*.json"))) < 3 and time.monotonic() < deadline_s:
                time.sleep(0.05)
            running.send_signal(signal.SIGINT)
            _, said = running.communicate(timeout=60)
        finally:
            running.kill()

    assert running.returncode == 130, said
    assert "Traceback" not in said
    finished = list(out.glob("tasks/*.json"))
    assert 3 <= len(finished) < 2400
    assert all(json.loads(path.read_text(encoding="utf-8")) for path in finished)
    assert list(out.rglob("*.partial")) == []
    assert not (out / "summary.json").exists()
