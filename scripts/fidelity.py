"""``make fidelity``: the simulator against the real stack, live; --docs: against shipped runs.

Live: starts the stack, sends short loads, calibrates on those declared for it, predicts the
others, and prints the table. Exit code 3 when a number misses its limit.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from gpupilot_agent.report.fidelity import recovered
from gpupilot_envs.embedded import find_profile
from gpupilot_envs.fidelity.comparison import CALIBRATED
from gpupilot_envs.runs import find_runs, read_run

ROOT = Path(__file__).resolve().parents[1]
PLAYED = "mobilenetv4-edge"
"""Profile that the emulated GPU of the recordings plays."""

HEAD = """\
# Predicted against measured: the numbers

Made from the recordings in the package by `make fidelity ARGS=--docs`; what they mean is in
[fidelity.md](fidelity.md). Errors are of the prediction, positive where it says too much; bold ones
miss their limit, those in brackets have none at that load.

"""

KNOWN = """
## What calibration recovered of the emulated GPU

"""


def main() -> int:
    """Return the exit code of ``gpupilot fidelity``."""
    parser = argparse.ArgumentParser(prog="make fidelity")
    parser.add_argument("--docs", action="store_true", help="replay the shipped runs, renew docs/")
    parser.add_argument("--plan", type=Path, default=ROOT / "benchmarks" / "fidelity.yaml")
    parser.add_argument("--out", type=Path, help="folder of a live check")
    options = parser.parse_args()
    if options.docs:
        return _renew_docs()
    now = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return _live(options.plan, options.out or ROOT / "results" / "fidelity" / now)


def _live(plan: Path, out: Path) -> int:
    runs, profile = out / "runs", out / "profile.yaml"
    made = _gpupilot("campaign", plan, "--out", runs)
    if made:
        return made
    cards = {folder: read_run(folder) for folder in find_runs([runs])}
    known = [folder for folder, card in cards.items() if card.purpose == "calibrate"]
    made = _gpupilot("calibrate", *known, "--base", PLAYED, "--out", profile)
    return made or _gpupilot("fidelity", runs, "--profile", profile, "--out", out / "compared")


def _renew_docs() -> int:
    with tempfile.TemporaryDirectory() as work:
        out = Path(work) / "compared"
        _gpupilot("fidelity", "--out", out)
        known = recovered(find_profile(PLAYED), find_profile(CALIBRATED["emulated"]))
        text = "".join((HEAD, (out / "fidelity.md").read_text(encoding="utf-8"), KNOWN, known))
        (ROOT / "docs" / "fidelity-numbers.md").write_text(text, encoding="utf-8")
        shutil.copy(out / "fidelity.png", ROOT / "docs" / "images" / "fidelity.png")
    return 0


def _gpupilot(*words: object) -> int:
    command = [str(Path(sys.executable).with_name("gpupilot")), *map(str, words)]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
