"""Renew the shipped profiles that were calibrated: from the recordings in the package."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from gpupilot_agent.report.fit_report import write_fit_report
from gpupilot_envs.calibration.fitting import Calibration, calibrate
from gpupilot_envs.embedded import find_profile
from gpupilot_envs.fidelity.comparison import CALIBRATED
from gpupilot_envs.runs import RECORDING, RunCard, find_runs, read_run, requests_of, shipped
from gpupilot_envs.workload.recording import read_recording

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "envs" / "gpupilot_envs" / "data"
BASES = {"emulated": "mobilenetv4-edge", "cpu": "mobilenetv4-cpu"}
"""Profile that gives what the recordings do not show, by flavour."""

WORDS = {
    "emulated": "An emulated GPU behind the real Triton and gateway: only the model sleeps.",
    "cpu": "MobileNetV4-small in the real Triton and gateway, onnxruntime on one shared CPU core.",
}


def main(folder: Path | None) -> int:
    """Write each flavour's profile, and its fit report into docs; return the exit code."""
    folders = shipped() if folder is None else find_runs([folder])
    cards = {run: read_run(run) for run in folders}
    for flavour, name in CALIBRATED.items():
        chosen = {
            run: card
            for run, card in cards.items()
            if card.flavour == flavour and card.purpose == "calibrate"
        }
        if chosen:
            _renew(flavour, name, chosen)
    return 0


def _renew(flavour: str, name: str, runs: dict[Path, RunCard]) -> None:
    found = _calibrated(flavour, runs)
    write_fit_report(ROOT / "docs" / "reports" / f"fit-{name}", found)
    if found.profile is None:
        raise SystemExit(f"{name}: {'; '.join(found.refusals)}")
    document: dict[str, Any] = found.profile.model_dump(mode="json")
    document["name"] = name
    document["measured"]["where"] = _where(runs)
    body = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)
    head = f"# {WORDS[flavour]}\n# Made of the recordings by scripts/profiles.py.\n"
    (DATA / f"{name}.yaml").write_text(head + body, encoding="utf-8")
    sys.stdout.write(f"{name}:\n  " + "\n  ".join(found.notes) + "\n")


def _calibrated(flavour: str, runs: dict[Path, RunCard]) -> Calibration:
    newest_s = max((run / RECORDING).stat().st_mtime for run in runs)
    return calibrate(
        [read_recording(run / RECORDING) for run in runs],
        find_profile(BASES[flavour]),
        when=f"recorded until {datetime.fromtimestamp(newest_s, UTC).date().isoformat()}",
        users_s=[requests_of(run, card).latency_mean_s for run, card in runs.items()],
    )


def _where(runs: dict[Path, RunCard]) -> str:
    """Return which machine the runs were made on, and their names."""
    made_on = next(iter(runs.values())).environment
    names = ", ".join(card.name for card in runs.values())
    return f"{made_on.get('cpu_count')} shared cores, {made_on.get('cpu')}; runs {names}"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
