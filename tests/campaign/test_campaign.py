"""A campaign against real servers: what was declared is what is kept, and nothing half-made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from gpupilot_agent.campaign.conduct import Workshop, conduct
from gpupilot_agent.campaign.declaration import SHIPPED, Run, read_campaign
from gpupilot_agent.campaign.generator import load_scripts
from gpupilot_agent.campaign.loads import traffic_of
from gpupilot_agent.stack import lifecycle
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.runs import RECORDING, read_run, requests_of
from gpupilot_envs.workload.recording import read_recording

PROFILE: dict[str, Any] = {
    "format": "gpupilot/profile-v1",
    "name": "sleeper",
    "batch_latency_ms": [[1, 20], [4, 32]],
    "noise_cv": 0,
    "batching": {"enabled": True, "max_batch": 4, "queue_delay_ms": 0},
}
"""Saturates at 125 requests/s."""


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a service that sleeps."""
    path = tmp_path_factory.mktemp("profile") / "sleeper.yaml"
    path.write_text(yaml.safe_dump(PROFILE), encoding="utf-8")
    return path


def declared(profile: Path, **changes: Any) -> Run:
    """Return a short run; a busy machine's lateness does not end it."""
    usual: dict[str, Any] = {
        "name": "short",
        "flavour": "emulated",
        "purpose": "calibrate",
        "profile": str(profile),
        "load": 0.4,
        "warm_up_s": 2.0,
        "duration_s": 11.0,
        "saturation_s": 6.0,
        "lag_limit_ms": 1000.0,
        "seed": 5,
    }
    return Run.model_validate(usual | changes)


def shop_in(folder: Path, said: list[str]) -> Workshop:
    return Workshop(
        out=folder, scripts=load_scripts(None), onnx=None, realtime=False, say=said.append
    )


def test_a_run_is_kept_whole_and_made_once(profile: Path, tmp_path: Path) -> None:
    said: list[str] = []
    run = declared(profile)
    assert conduct([run], shop_in(tmp_path, said)) == {}
    folder = tmp_path / "emulated" / "short"
    card = read_run(folder)
    assert (card.purpose, card.replicas, card.instances) == ("calibrate", 1, 1)
    assert card.batching.max_batch == 4
    saturation = card.environment["saturation_rps"]
    assert saturation == pytest.approx(125.0, rel=0.3)
    assert card.rate_rps == pytest.approx(0.4 * saturation, rel=1e-3)
    sent = requests_of(folder, card)
    counted = ~sent.warm_up
    assert sent.ok.all()
    assert len(sent.sent_s) == card.environment["requests"]
    assert counted.sum() / 11.0 == pytest.approx(card.rate_rps, rel=0.25)
    assert np.quantile(sent.latency_s[counted], 0.05) > 0.02
    recording = read_recording(folder / RECORDING)
    assert {reading.window_s for reading in recording.readings} == {5.0}
    assert recording.readings[0].rate_rps == pytest.approx(card.rate_rps, rel=0.4)
    starts = tuple(card.environment["cold_starts_s"].values())
    assert recording.details["cold_start_s"][: len(starts)] == starts
    executed = sum(size * count for size, (count, _) in recording.batch_times.items())
    assert executed == pytest.approx(counted.sum(), abs=10)
    assert [path.name for path in tmp_path.iterdir() if path.name != ".work"] == ["emulated"]
    conduct([run], shop_in(tmp_path, said))
    assert said[-1] == "emulated/short: there already"


def test_a_late_generator_is_refused(profile: Path, tmp_path: Path) -> None:
    said: list[str] = []
    run = declared(profile, name="late", users=2, load=None, lag_limit_ms=1e-6)
    failed = conduct([run], shop_in(tmp_path, said))
    assert "the generator was late itself" in failed["emulated/late"]
    assert list((tmp_path / "emulated").iterdir()) == []
    assert lifecycle.status(tmp_path / ".work" / "emulated-late" / "stack") is None


def test_what_a_killed_campaign_left_is_ended_by_the_next(profile: Path, tmp_path: Path) -> None:
    """Killed outright while it measures: what still runs is ended by the next start."""
    runs = tmp_path / "runs.yaml"
    document = {"format": "gpupilot/campaign-v1", "runs": [declared(profile).model_dump()]}
    runs.write_text(yaml.safe_dump(_plain(document)), encoding="utf-8")
    out = tmp_path / "out"
    command = [Path(sys.executable).with_name("gpupilot"), "campaign", runs, "--out", out]
    first = subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL)
    journal = out / ".work" / "emulated-short" / "load" / "process.json"
    until_s = time.monotonic() + 60.0
    while not journal.exists() and time.monotonic() < until_s:
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    left = lifecycle.status(journal.parents[1] / "stack")
    assert left is not None
    assert set(left.values()) == {"ready"}
    assert not (out / "emulated" / "short").exists()
    second = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    assert (out / "emulated" / "short" / RECORDING).exists()
    assert lifecycle.status(journal.parents[1] / "stack") is None
    assert not _runs(str(out))


def _plain(document: Any) -> Any:
    """Return a document without the fields that are not set, as people write it."""
    runs = [{k: v for k, v in run.items() if v is not None} for run in document["runs"]]
    return document | {"runs": runs}


def _runs(folder: str) -> list[str]:
    """Return what still runs with a folder in its command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        if path.parent.name == str(os.getpid()):
            continue
        try:
            words = path.read_bytes().decode("utf-8", "replace").replace("\0", " ")
        except OSError:
            continue
        if folder in words:
            found.append(words)
    return found


def test_traffic_is_generated_scaled_and_cut() -> None:
    (run,) = (r for r in read_campaign(SHIPPED).runs if (r.flavour, r.name) == ("cpu", "traffic"))
    trace = traffic_of(run, 200.0)
    assert run.traffic is not None
    assert trace.peak_rps <= 200.0 * run.traffic.peak + 1e-9
    assert trace.mean_rps == pytest.approx(200.0 * (run.load or 0.0), rel=0.05)
    assert trace.duration_s == pytest.approx(run.warm_up_s + run.duration_s)
    assert np.array_equal(trace.rps, traffic_of(run, 200.0).rps)


def test_the_shipped_campaign_covers_what_it_must() -> None:
    """Both purposes span load, instances, replicas and batching, in both flavours."""
    runs = read_campaign(SHIPPED).runs
    for flavour in ("emulated", "cpu"):
        for purpose in ("calibrate", "fidelity"):
            chosen = [r for r in runs if (r.flavour, r.purpose) == (flavour, purpose)]
            assert {r.replicas for r in chosen} == {1, 2}
            assert {r.service().instances_per_replica for r in chosen} == {1, 2}
            assert {r.service().batching.enabled for r in chosen} == {True, False}
        lengths = [r.duration_s for r in runs if (r.flavour, r.purpose) == (flavour, "traffic")]
        assert max(lengths) >= 45 * 60
        assert any(r.users for r in runs if r.flavour == flavour)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"load": None}, "exactly one of load and users"),
        ({"purpose": "test"}, "'calibrate', 'fidelity' or 'traffic'"),
        ({"name": "../up"}, "name"),
        ({"traffic": {"family": "diurnal"}, "load": None, "users": 3}, "a load, the mean"),
    ],
    ids=["load", "purpose", "name", "traffic"],
)
def test_a_wrong_declaration_is_one_sentence(
    changes: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    usual = {"name": "a", "flavour": "cpu", "purpose": "fidelity", "profile": "mobilenetv4-cpu"}
    path = tmp_path / "runs.yaml"
    run = usual | {"load": 0.5} | changes
    path.write_text(yaml.safe_dump({"runs": [run]}), encoding="utf-8")
    with pytest.raises(InputInvalid, match=sentence):
        read_campaign(path)


def test_a_file_that_is_no_campaign_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.yaml"
    path.write_text("[1, 2]", encoding="utf-8")
    with pytest.raises(InputInvalid, match="no list of runs"):
        read_campaign(path)
