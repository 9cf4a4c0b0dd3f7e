"""The walk of docs/serving.md, run as the page has it, on real processes, only shorter."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from gpupilot_agent.stack.plan import free_ports
from gpupilot_agent.stack.state import SHARED_MEMORY, StackState
from gpupilot_envs.embedded import find_profile
from gpupilot_envs.workload.recording import read_recording

ROOT = Path(__file__).resolve().parents[2]
SHORTER = {
    "--speed 144": "--speed 1440",
    "--since 5m": "--since 2m",
    "--rate 60 --duration 65": "--rate 60 --duration 15",
    "cp examples/check-run.yaml": "sed 's/_s: 60/_s: 10/' examples/check-run.yaml >",
    # 1 and 3: whether this machine keeps 60 ms at this moment is not what is tested
    "--slo-ms 60         #": "--slo-ms 60 || [ $? -ne 2 ]  #",
    "requests.parquet    #": "requests.parquet || [ $? -ne 2 ]  #",
    "--rate 60\n": "--rate 60 --json > simulated.json\n",
    "gpupilot fidelity records/check --profile models/walk/profile.yaml": (
        "gpupilot fidelity records/check --profile models/walk/profile.yaml --json "
        "> fidelity.json || [ $? -eq 3 ]"
    ),
}
"""Half a minute instead of five, fifteen seconds instead of one minute; numbers, no tables."""
RATE_RPS = 60.0
GPUPILOT = Path(sys.executable).with_name("gpupilot")


@dataclass(frozen=True, slots=True, kw_only=True)
class Walked:
    """What the walk left and said."""

    folder: Path
    said: str
    state: StackState


def page_commands() -> str:
    """Return the block of commands under the heading of the page."""
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    _, _, section = text.partition("## From traffic to a profile\n")
    found = re.search(r"```\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found[1]


def script(folder: Path) -> str:
    """Return the page's commands, shorter, and with places and ports of their own."""
    gateway, prometheus = free_ports(2)
    ports = f'make stack ARGS="--port {gateway} --prometheus-port {prometheus}"'
    changes = SHORTER | {
        "make stack  ": f"{ports}  ",
        ". .venv/bin/activate": f". {Path(sys.executable).with_name('activate')}",
        "make stack-down": "gpupilot stack status --json > state.json\nmake stack-down",
    }
    text = page_commands()
    for old, new in changes.items():
        assert text.count(old) == 1, f"the page no longer says {old!r}"
        text = text.replace(old, new)
    # what fails half way must not leave a stack behind either
    begin = f"set -eu\ntrap '{GPUPILOT} stack down >&2' EXIT\n"
    places = r"\b(records/|models/|\w+\.json\b)"
    return begin + re.sub(places, rf"{folder}/\1", text)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Walked:
    folder = tmp_path_factory.mktemp("walk")
    done = subprocess.run(
        ["bash", "-c", script(folder)],
        cwd=ROOT,
        env=os.environ | {"XDG_STATE_HOME": str(folder / "state")},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    found = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    return Walked(folder=folder, said=done.stdout, state=StackState.model_validate(found["stack"]))


def test_the_recording_holds_the_traffic(walked: Walked) -> None:
    """The two minutes hold the run and the silence around it."""
    recording = read_recording(walked.folder / "records" / "walk.parquet")
    busy = [reading for reading in recording.readings if (reading.rate_rps or 0.0) > 5.0]
    rates = [reading.rate_rps or 0.0 for reading in busy]
    assert len(rates) >= 10
    assert sum(rates) / len(rates) == pytest.approx(RATE_RPS, rel=0.3)
    assert "gpupilot-gateway" in recording.sources["rate_rps"]
    assert all(reading.attainment_ratio is not None for reading in busy)


def test_the_profile_is_that_of_the_emulated_service(walked: Walked) -> None:
    """The batch times come back; what a busy machine adds to them is never negative."""
    text = (walked.folder / "models" / "walk" / "profile.yaml").read_text(encoding="utf-8")
    played = dict(find_profile("mobilenetv4-edge").batch_latency_ms)
    measured = dict(yaml.safe_load(text)["batch_latency_ms"])
    for batch in (1, 2):
        assert 0.97 * played[batch] < measured[batch] < 3.0 * played[batch]


def test_the_simulator_answers_with_that_profile(walked: Walked) -> None:
    found = json.loads((walked.folder / "simulated.json").read_text(encoding="utf-8"))
    assert found["throughput_rps"] == pytest.approx(RATE_RPS, rel=0.05)


def test_the_simulator_is_held_against_a_run_of_its_own(walked: Walked) -> None:
    """Ten seconds tell the throughput; the rest says how busy this machine was."""
    (run,) = json.loads((walked.folder / "fidelity.json").read_text(encoding="utf-8"))["runs"]
    assert run["run"] == "emulated/check"
    assert 400 < run["requests"] < 1000
    throughput = run["numbers"]["throughput_rps"]
    assert throughput["predicted"] == pytest.approx(throughput["measured"], rel=0.1)
    assert run["numbers"]["latency_p50_s"]["measured"] > 0.0112


def test_nothing_is_left(walked: Walked) -> None:
    assert walked.said.rstrip().endswith("stopped and removed")
    assert not any(process.is_alive() for process in walked.state.processes)
    assert not list(SHARED_MEMORY.glob(f"{walked.state.shared_memory}*"))
    assert not list((walked.folder / "state").rglob("state.json"))
