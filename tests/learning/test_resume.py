"""A training killed at any moment and resumed ends as one never interrupted, bit for bit."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gpupilot_agent import bundle as bundles
from gpupilot_agent import ppo_checkpoint, training
from gpupilot_agent.training import BUNDLE, CHECKPOINT, LOG, train
from gpupilot_agent.training_config import PpoSettings, TrainConfig, Validation
from gpupilot_agent.training_data import Material
from gpupilot_agent.world_state import dumps, loads
from gpupilot_envs.errors import InputInvalid, OutputRefused
from gpupilot_envs.scenarios import Ranges, Scenarios

MakeScenarios = Callable[..., Scenarios]

TINY = PpoSettings(n_steps=16, batch_size=256, n_epochs=4, hidden=16, critic_updates=1)

PROGRAM = """
import pickle, sys
from gpupilot_agent import training
with open(sys.argv[1], "rb") as file:
    material, config = pickle.load(file)
training.prepare = lambda *_: material
training.train(config)
"""


class Stopped(Exception):
    """Ends a training in the middle, as an interruption does."""


@pytest.fixture
def material(make_scenarios: MakeScenarios) -> Material:
    faulty = Ranges(demand_replicas=(2.0, 6.0), faulty_share=0.5)
    scenarios = make_scenarios(ranges=faulty, episode_s=450.0)
    return Material(train=scenarios, validation=scenarios, trace_hashes={"train/made-up": "0" * 64})


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, material: Material) -> TrainConfig:
    monkeypatch.setattr(training, "prepare", lambda _config, _traffic: material)
    return TrainConfig(
        out=tmp_path / "run",
        services=32,
        copies=4,
        frames=40 * 512,
        validate_every=4,
        validation_services=12,
        validation_steps=20,
        checkpoint_s=0.0,
        ppo=TINY,
    )


def outcome(folder: Path) -> tuple[list[bytes], list[dict[str, Any]], list[bytes]]:
    """Return what a training came to: the shipped weights, the log, the last learner."""
    bundle = bundles.load(folder / BUNDLE)
    shipped = [array.tobytes() for layer in bundle.networks[0] for array in layer]
    rows = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    log = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
    kept = torch.load(folder / CHECKPOINT, weights_only=True)
    return shipped, log, [tensor.numpy().tobytes() for tensor in kept["policy"].values()]


def interrupt_after(frames: int) -> Callable[[Validation], None]:
    def at(validation: Validation) -> None:
        if validation.frames >= frames:
            raise Stopped

    return at


def start(program: Path) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-c", PROGRAM, str(program)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, env=environment, stderr=subprocess.PIPE)


def kill_in_the_middle(process: subprocess.Popen[bytes], folder: Path, wait_s: float) -> None:
    """Kill a training that has written a checkpoint ``wait_s`` after it did."""
    deadline = time.monotonic() + 120.0
    while not (folder / CHECKPOINT).exists():
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(wait_s)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (folder / BUNDLE).exists()


def test_a_killed_training_resumes_to_the_same_weights(
    config: TrainConfig, material: Material, tmp_path: Path
) -> None:
    """The process gets SIGKILL while it trains; a checkpoint may be half-written then."""
    whole = replace(config, out=tmp_path / "whole", frames=32 * 512)
    killed = replace(whole, out=tmp_path / "killed", resume=True)
    program = tmp_path / "killed.pickle"
    program.write_bytes(pickle.dumps((material, killed)))
    kill_in_the_middle(start(program), killed.out, 0.3)
    train(killed)
    train(whole)
    assert outcome(killed.out) == outcome(whole.out)


@pytest.mark.parametrize("frames", [4 * 512, 16 * 512, 28 * 512])
def test_an_interruption_anywhere_changes_nothing(config: TrainConfig, frames: int) -> None:
    whole = replace(config, out=config.out / "whole")
    cut = replace(config, out=config.out / "cut")
    train(whole)
    with pytest.raises(Stopped):
        train(cut, on_validation=interrupt_after(frames))
    train(replace(cut, resume=True))
    assert outcome(cut.out) == outcome(whole.out)


def test_a_finished_training_is_left_as_it_is(config: TrainConfig) -> None:
    path = train(config)
    before = path.stat().st_mtime_ns
    assert train(replace(config, resume=True)) == path
    assert path.stat().st_mtime_ns == before


def test_a_longer_training_goes_on_from_the_end_of_a_shorter_one(config: TrainConfig) -> None:
    train(replace(config, frames=8 * 512))
    train(replace(config, frames=16 * 512, resume=True))
    _, log, _ = outcome(config.out)
    assert [row["frames"] for row in log] == [512 * k for k in (4, 8, 12, 16)]


def test_where_there_is_no_checkpoint_it_starts(config: TrainConfig) -> None:
    train(replace(config, frames=512, resume=True))
    assert (config.out / BUNDLE).exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 7}, "seed: 7 is not allowed; expected 0"),
        ({"target_ms": 50.0}, "target_ms: 50.0 is not allowed; expected 60.0"),
        ({"ppo": replace(TINY, hidden=8)}, "ppo.hidden: 8 is not allowed; expected 16"),
        ({"services": 64, "copies": 8}, "copies and 1 more: 8"),
    ],
    ids=["seed", "objective", "network", "two"],
)
def test_another_configuration_is_refused(
    config: TrainConfig, change: dict[str, Any], said: str
) -> None:
    train(replace(config, frames=512))
    before = (config.out / CHECKPOINT).read_bytes()
    with pytest.raises(InputInvalid, match=re.escape(said)) as refused:
        train(replace(config, resume=True, frames=1024, **change))
    assert "to start again" in str(refused.value)
    assert (config.out / CHECKPOINT).read_bytes() == before


def test_another_state_of_the_code_is_refused(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(replace(config, frames=512))
    now = {**ppo_checkpoint.made_with(), "code": "edited"}
    monkeypatch.setattr(ppo_checkpoint, "made_with", lambda: now)
    with pytest.raises(InputInvalid, match="resume: code: 'edited'"):
        train(replace(config, frames=1024, resume=True))


@pytest.mark.parametrize("kept", [0, 1, 100, -1000, -1])
def test_a_damaged_checkpoint_is_one_sentence(config: TrainConfig, kept: int) -> None:
    train(replace(config, frames=512))
    file = config.out / CHECKPOINT
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(InputInvalid, match="checkpoint; delete it"):
        train(replace(config, frames=1024, resume=True))


def test_a_checkpoint_of_an_older_format_is_refused(config: TrainConfig) -> None:
    config.out.mkdir()
    torch.save({"format": "gpupilot/checkpoint-v1"}, config.out / CHECKPOINT)
    with pytest.raises(InputInvalid, match="checkpoint-v2"):
        train(replace(config, resume=True))


def test_two_trainings_never_share_a_folder(config: TrainConfig) -> None:
    def second(_: Validation) -> None:
        with pytest.raises(OutputRefused, match="another training"):
            train(config)
        raise Stopped

    with pytest.raises(Stopped):
        train(config, on_validation=second)


def test_arrays_that_share_memory_share_it_again() -> None:
    table, random = np.zeros((4, 3)), np.random.default_rng(3)
    random.random(7)
    state = {"table": table, "column": table[1:, 1], "random": random, "again": random}
    back = loads(dumps(state, {}), {})
    back["table"][2, 1] = 7.0
    assert back["column"].tolist() == [0.0, 7.0, 0.0]
    assert back["random"] is back["again"]
    assert back["random"].random() == random.random()


def test_what_is_shared_is_written_by_name() -> None:
    big = np.zeros(1_000_000)
    data = dumps({"big": big}, {"tables": big})
    assert len(data) < 100
    assert loads(data, {"tables": big})["big"] is big
    with pytest.raises(pickle.UnpicklingError, match="'tables'"):
        loads(data, {})


@pytest.mark.parametrize("hostile", [os.system, print, Path, subprocess.run, np.memmap, np.save])
def test_a_state_cannot_run_code_of_its_choice(hostile: object) -> None:
    data = pickle.dumps({"environment": hostile})
    with pytest.raises(pickle.UnpicklingError, match="no part of a fleet"):
        loads(data, {})
