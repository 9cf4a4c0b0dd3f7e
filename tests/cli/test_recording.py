"""`gpupilot record` writes what `calibrate` and `explain` read, and the circle closes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpupilot_agent.bundle import Bundle, save
from gpupilot_envs.actions import SIZES
from gpupilot_envs.controller import Controller
from gpupilot_envs.observation import FIELDS
from gpupilot_envs.profile import load_profile

Shell = Callable[..., Any]
FIT = ("fit.html", "fit.json", "fit.png")


@pytest.fixture
def recorded(shell: Shell, tiny: Path, traces: Path, tmp_path: Path) -> Path:
    """Return the folder of a recording over loads from light to heavy."""
    words = ("--profile", tiny, "--trace", traces / "busy.csv", "--target-ms", 500)
    ended = shell("record", *words, "--replicas", 2, "--out", tmp_path / "rec")
    assert ended.code == 0, ended.err
    assert "40 readings, 40 decisions" in ended.out
    return tmp_path / "rec"


def test_calibrate_gives_back_the_profile_that_was_simulated(
    shell: Shell, recorded: Path, tiny: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    ended = shell("calibrate", recorded / "recording.parquet", "--base", tiny, "--out", out)
    assert ended.code == 0, ended.err
    found = dict(load_profile(out / "profile.yaml").batch_latency_ms)
    assert found[1.0] == pytest.approx(100.0, rel=0.05)
    assert found[8.0] == pytest.approx(240.0, rel=0.05)
    assert "no traffic model: recording: bins: 40" in ended.err
    assert {path.name for path in out.iterdir()} == {"profile.yaml", *FIT}
    fit = json.loads((out / "fit.json").read_text(encoding="utf-8"))
    assert [f["parameter"] for f in fit["findings"] if f["refusal"] is None] == [
        "batch_latency_ms",
        "gpu.power_w",
    ]
    page = (out / "fit.html").read_text(encoding="utf-8")
    assert "0 starts of pods were recorded" in page
    assert "<svg" in page


def test_a_profile_can_be_named(shell: Shell, recorded: Path, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.yaml"
    words = (recorded / "recording.parquet", "--base", tiny, "-o", out)
    assert shell("calibrate", *words).code == 0
    assert load_profile(out).name == "tiny"
    assert (tmp_path / "mine-fit.html").exists()
    assert "exists already" in shell("calibrate", *words).err


def test_traces_and_recordings_are_not_mixed(
    shell: Shell, recorded: Path, traces: Path, tmp_path: Path
) -> None:
    ended = shell(
        "calibrate", recorded / "recording.parquet", traces / "busy.csv", "--out", tmp_path / "m"
    )
    assert ended.code == 2
    assert "expected a recording" in ended.err


def test_a_recording_that_cannot_tell_says_so_and_ends_with_3(
    shell: Shell, tiny: Path, tmp_path: Path
) -> None:
    """A steady light load shows one batch size only."""
    trace = tmp_path / "steady.csv"
    rows = "\n".join(f"{5 * i},2" for i in range(120))
    trace.write_text(f"t_s,rps\n{rows}\n", encoding="utf-8")
    words = ("--profile", tiny, "--trace", trace, "--target-ms", 500, "--replicas", 4)
    assert shell("record", *words, "--every", 5, "--out", tmp_path / "rec").code == 0
    out = tmp_path / "model"
    source = tmp_path / "rec" / "recording.parquet"
    ended = shell("calibrate", source, "--base", tiny, "--out", out)
    assert ended.code == 3
    assert "no profile: the mean batch stayed between" in ended.err
    assert {path.name for path in out.iterdir()} == {"traffic.yaml", *FIT}


def test_calibrate_reads_a_plain_trace_and_answers_a_machine(shell: Shell, tmp_path: Path) -> None:
    trace = tmp_path / "t.csv"
    rows = "\n".join(f"{60 * i},{10 + i % 7}" for i in range(200))
    trace.write_text(f"t_s,rps\n{rows}\n", encoding="utf-8")
    ended = shell("calibrate", trace, "--out", tmp_path / "model", "--json")
    document = json.loads(ended.out)
    assert ended.code == 0
    assert document["profile"] is None
    assert document["traffic"]["family"] in document["traffic"]["distance"]
    assert document["traffic"]["mean_rps"] == pytest.approx(12.97, rel=0.01)


def test_explain_reads_what_was_recorded(shell: Shell, recorded: Path) -> None:
    document = json.loads(shell("explain", recorded, "--at", 300, "--json").out)
    assert document["policy"] == "static"
    assert document["asked"]["replicas"] == 2
    assert document["signals"]["rate_rps"] > 0


def test_the_same_seed_records_the_same(
    shell: Shell, tiny: Path, traces: Path, recorded: Path, tmp_path: Path
) -> None:
    words = ("--profile", tiny, "--trace", traces / "busy.csv", "--target-ms", 500)
    again = tmp_path / "again"
    assert shell("record", *words, "--replicas", 2, "--out", again).code == 0
    name = "recording.parquet"
    assert (again / name).read_bytes() == (recorded / name).read_bytes()


def test_gate_holds_what_too_short_a_recording_cannot_prove(
    shell: Shell, recorded: Path, tiny: Path, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.npz"
    save(_plain_policy(), policy)
    source = recorded / "recording.parquet"
    words = ("gate", "--policy", policy, "--service-recordings", source, "--profile", tiny)
    ended = shell(*words, "--target-ms", 500, "--out", tmp_path / "proof")
    assert ended.code == 3, ended.err
    assert ended.out.startswith("HOLD: tiny\n  TooLittleData: 0.2 h are recorded")
    assert {path.name for path in (tmp_path / "proof").iterdir()} == {"proof.json", "proof.html"}
    again = shell(*words, "--target-ms", 500, "--out", tmp_path / "proof")
    assert (again.code, "not empty" in again.err) == (2, True)


def test_gate_judges_and_answers_a_machine(
    shell: Shell, recorded: Path, tiny: Path, tmp_path: Path
) -> None:
    """Ten minutes in stretches of half a minute: enough to run, whatever the verdict."""
    policy = tmp_path / "policy.npz"
    save(_plain_policy(), policy)
    source = recorded / "recording.parquet"
    ended = shell(
        *("gate", "--policy", policy, "--service-recordings", source, "--profile", tiny),
        *("--baselines", "static,queueing", "--trials", 2, "--block-minutes", 0.5),
        *("--target-ms", 500, "--attainment", 90, "--json", "--out", tmp_path / "proof"),
    )
    document = json.loads(ended.out)
    assert ended.code == {"promote": 0, "hold": 3}[document["verdict"]]
    assert set(document["baselines"]) == {"static-tuned", "queueing-tuned"}
    assert document["evidence"]["blocks"] >= 8


def test_gate_refuses_recordings_and_baselines_that_cannot_be(
    shell: Shell, tiny: Path, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.npz"
    save(_plain_policy(), policy)
    words = ("gate", "--policy", policy, "--profile", tiny, "--out", tmp_path / "proof")
    missing = shell(*words, "--service-recordings", tmp_path / "none.parquet")
    assert (missing.code, "none.parquet" in missing.err) == (2, True)
    assert not (tmp_path / "proof").exists()


def _plain_policy() -> Bundle:
    zeros = np.zeros((len(FIELDS), sum(SIZES)), dtype=np.float32)
    return Bundle(
        networks=(((zeros, np.zeros(sum(SIZES), dtype=np.float32)),),),
        controller=Controller(z=1.0, conformal=False),
        config={},
        seeds={},
        trace_hashes={},
        commit="unknown",
        card={},
    )
