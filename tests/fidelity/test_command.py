"""``gpupilot fidelity`` on small recorded runs: tables, files, exit codes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from gpupilot_agent.cli.main import app
from gpupilot_agent.report import fidelity as report
from gpupilot_envs.errors import GpupilotError
from gpupilot_envs.runs import write_run


@pytest.fixture(scope="module")
def runs(queue: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("runs")
    queue.recorded(base / "light", load=0.4)
    queue.recorded(base / "heavy", load=0.8, seed=1)
    (base / "calibrated-on").mkdir()
    write_run(base / "calibrated-on", queue.card(name="calibrated-on", purpose="calibrate"))
    return base


@pytest.fixture(scope="module")
def profiles(queue: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    base, written = tmp_path_factory.mktemp("profiles"), {}
    for name, slower in (("true", 1.0), ("wrong", 1.2)):
        path = base / f"{name}.yaml"
        path.write_text(yaml.safe_dump(queue.service(slower=slower).model_dump(mode="json")))
        written[name] = str(path)
    return written


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["fidelity", *map(str, words)])


def test_a_true_profile_passes_and_writes(
    runs: Path, profiles: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    found = run(runs, "--profile", profiles["true"], "--seeds", 1, "--out", out, "--json")
    assert found.exit_code == 0, found.output
    document = json.loads(found.stdout)
    assert document == json.loads((out / "fidelity.json").read_text())
    assert document["passed"]
    assert [one["run"] for one in document["runs"]] == ["cpu/heavy", "cpu/light"]
    assert document["runs"][0]["numbers"]["latency_p95_s"]["limit"] == 0.10
    assert (out / "fidelity.png").read_bytes().startswith(b"\x89PNG")
    assert "| cpu/light | 0.4" in (out / "fidelity.md").read_text()
    assert "1 runs are not for judging" in found.stderr


def test_a_wrong_profile_is_exit_code_3_and_says_where(
    runs: Path, profiles: dict[str, str]
) -> None:
    found = run(runs / "light", "--profile", profiles["wrong"], "--seeds", 1)
    assert found.exit_code == 3
    assert "MISSED" in found.stdout
    assert "0 of 1 runs in all of theirs" in found.stdout


@pytest.mark.parametrize("case", ["no folder", "no run", "only calibration", "full"])
def test_what_cannot_be_judged_is_one_sentence(runs: Path, tmp_path: Path, case: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    words = {
        "no folder": (tmp_path / "nowhere",),
        "no run": (tmp_path,),
        "only calibration": (runs / "calibrated-on",),
        "full": (runs, "--out", tmp_path / "full"),
    }[case]
    found = run(*words)
    assert isinstance(found.exception, GpupilotError)
    assert "\n" not in str(found.exception)


def test_runs_that_judge_never_calibrate(runs: Path, tmp_path: Path) -> None:
    words = ["calibrate", str(runs / "light"), "-o", str(tmp_path / "made.yaml")]
    found = CliRunner().invoke(app, words)
    assert isinstance(found.exception, GpupilotError)
    assert "held out" in str(found.exception)
    assert not list(tmp_path.iterdir())


def test_what_was_recovered_is_told_beside_what_was_played(queue: Any) -> None:
    text = report.recovered(queue.service(), queue.service(slower=1.05))
    assert "| batch of 1, ms | 10 | 10.5 | +0.500 |" in text
    assert "| noise | 0 | 0 | +0.000 |" in text


def test_every_number_has_a_name_for_people() -> None:
    from gpupilot_envs.fidelity.comparison import LIMITS

    assert set(report.UNITS) == set(LIMITS)
    assert {name for panel in report.PANELS for name in panel} < set(LIMITS)
