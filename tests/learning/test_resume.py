"""A training killed at any moment and resumed ends as one never interrupted, bit for bit."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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


UPDATE = 32 * 16
"""Service-decisions in one update."""

EPISODE_S = 225.0
"""So short that services end, and the curriculum is asked, several times in a training."""


class Stopped(Exception):
    """Ends a training in the middle, as an interruption does."""


@pytest.fixture(scope="module")
def material(make_scenarios: MakeScenarios) -> Material:
    faulty = Ranges(demand_replicas=(2.0, 6.0), faulty_share=0.5)
    scenarios = make_scenarios(ranges=faulty, episode_s=EPISODE_S)
    return Material(train=scenarios, validation=scenarios, trace_hashes={"train/made-up": "0" * 64})


@pytest.fixture(scope="module", autouse=True)
def _prepared(material: Material) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "prepare", lambda _config, _traffic: material)
        yield


def _config(out: Path) -> TrainConfig:
    return TrainConfig(
        out=out,
        services=32,
        copies=4,
        frames=18 * UPDATE,
        validate_every=3,
        validation_services=12,
        validation_steps=20,
        checkpoint_s=0.0,
        ppo=TINY,
    )


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    return _config(tmp_path / "run")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a training that nobody interrupted."""
    folder = tmp_path_factory.mktemp("trained") / "whole"
    train(_config(folder))
    return folder


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a training of one update, to be copied."""
    folder = tmp_path_factory.mktemp("trained") / "begun"
    train(replace(_config(folder), frames=UPDATE))
    return folder


@pytest.fixture
def short(begun: Path, config: TrainConfig) -> TrainConfig:
    """Return a configuration in whose folder one update has been trained."""
    shutil.copytree(begun, config.out)
    return config


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
    deadline = time.monotonic() + 480.0
    try:
        while not (folder / CHECKPOINT).exists():
            assert process.poll() is None, process.communicate()[1].decode()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(wait_s)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (folder / BUNDLE).exists()


def test_a_killed_training_resumes_to_the_same_weights(
    config: TrainConfig, material: Material, whole: Path, tmp_path: Path
) -> None:
    """The process gets SIGKILL while it trains; a checkpoint may be half-written then."""
    killed = replace(config, resume=True)
    program = tmp_path / "killed.pickle"
    program.write_bytes(pickle.dumps((material, killed)))
    kill_in_the_middle(start(program), killed.out, 0.1)
    train(killed)
    assert outcome(killed.out) == outcome(whole)


@pytest.mark.parametrize("updates", [3, 9, 15])
def test_an_interruption_anywhere_changes_nothing(
    config: TrainConfig, whole: Path, updates: int
) -> None:
    with pytest.raises(Stopped):
        train(config, on_validation=interrupt_after(updates * UPDATE))
    train(replace(config, resume=True))
    assert outcome(config.out) == outcome(whole)


def test_the_curriculum_is_part_of_what_is_kept(whole: Path) -> None:
    """Services came again in that training: what an interruption must not forget."""
    kept = bundles.load(whole / BUNDLE).card["curriculum"]
    assert sum(row["kept"] for row in kept if row["name"].startswith("traffic")) > 8
    assert all(np.isfinite(row["regret"]) for row in kept)


def test_a_finished_training_is_left_as_it_is(short: TrainConfig) -> None:
    path = short.out / BUNDLE
    before = path.stat().st_mtime_ns
    assert train(replace(short, frames=UPDATE, resume=True)) == path
    assert path.stat().st_mtime_ns == before


def test_a_longer_training_goes_on_from_the_end_of_a_shorter_one(config: TrainConfig) -> None:
    train(replace(config, frames=6 * UPDATE))
    train(replace(config, frames=12 * UPDATE, resume=True))
    _, log, _ = outcome(config.out)
    assert [row["frames"] for row in log] == [UPDATE * k for k in (0, 3, 6, 9, 12)]


def test_where_there_is_no_checkpoint_it_starts(config: TrainConfig) -> None:
    train(replace(config, frames=UPDATE, resume=True))
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
    short: TrainConfig, change: dict[str, Any], said: str
) -> None:
    before = (short.out / CHECKPOINT).read_bytes()
    with pytest.raises(InputInvalid, match=re.escape(said)) as refused:
        train(replace(short, resume=True, **change))
    assert "to start again" in str(refused.value)
    assert (short.out / CHECKPOINT).read_bytes() == before


def test_another_state_of_the_code_is_refused(
    short: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = {**ppo_checkpoint.made_with(), "code": "edited"}
    monkeypatch.setattr(ppo_checkpoint, "made_with", lambda: now)
    with pytest.raises(InputInvalid, match="resume: code: 'edited'"):
        train(replace(short, resume=True))


@pytest.mark.parametrize("kept", [0, 1, 100, -1000, -1])
def test_a_damaged_checkpoint_is_one_sentence(short: TrainConfig, kept: int) -> None:
    file = short.out / CHECKPOINT
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(InputInvalid, match="checkpoint; delete it"):
        train(replace(short, resume=True))


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
