"""One command up, one down: what fails says why, and nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import numpy as np
import pytest
from PIL import Image

from gpupilot_agent.mobilenet.weights import ensure
from gpupilot_agent.stack import lifecycle, tools
from gpupilot_agent.stack.plan import StackPlan
from gpupilot_agent.stack.processes import Process
from gpupilot_agent.stack.state import SHARED_MEMORY, StackState
from gpupilot_agent.triton.client import Client
from gpupilot_envs.errors import StackFailed

Planner = Callable[..., StackPlan]
Reader = Callable[[StackState, str], float | None]
Waiter = Callable[[StackState, str, float], float | None]


def silent(_: str) -> None:
    """Hear nothing of what takes time."""


class Asking:
    """Sends one request after the other in the background, and keeps what fails."""

    def __init__(self, url: str) -> None:
        self.failures: list[str] = []
        self._url, self._ended = url, threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _ask(self) -> None:
        picture = np.zeros((1, 3, 8, 8), dtype=np.float32)
        with Client(self._url) as ask:
            while not self._ended.is_set():
                try:
                    ask(picture)
                except StackFailed as error:
                    self.failures.append(str(error))


def group_of(process: Process) -> list[int]:
    """Return the processes of a group, read afresh from the kernel."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == process.pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def left_of(folder: Path, state: StackState) -> list[str]:
    """Return what a stack left: processes, shared memory, files, ports."""
    left = [str(pid) for process in state.processes for pid in group_of(process)]
    left += [str(region) for region in SHARED_MEMORY.glob(f"{state.shared_memory}*")]
    left += [str(path) for path in folder.parent.iterdir()]
    for url in (state.gateway_url, state.admin_url, state.prometheus_url):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", int(url.rpartition(":")[2]))) == 0:
                left.append(url)
    return left


def imagenet_style(folder: Path) -> Path:
    """Write two noisy pictures of each of three classes, folders named by WordNet id."""
    random = np.random.default_rng(3)
    for wnid in ("n01443537", "n02123045", "n02666196"):
        (folder / wnid).mkdir()
        for number in range(2):
            pixels = random.integers(0, 256, size=(260, 300, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / wnid / f"{number}.png")
    return folder


def accuracy(folder: Path, *words: str) -> dict[str, object]:
    """Return what `gpupilot accuracy` says of a folder of pictures."""
    gpupilot = Path(sys.executable).with_name("gpupilot")
    command = [str(gpupilot), "accuracy", str(folder), "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_a_dead_replica_costs_errors_and_then_none(
    tmp_path: Path, plan_of: Planner, settled: Waiter
) -> None:
    """Killed outright: its requests fail and are counted until the gateway leaves it out."""
    folder = tmp_path / "stack"
    state = lifecycle.up(plan_of(folder, replicas=2, balancing="round_robin"), say=silent)
    picture = np.zeros((1, 3, 8, 8), dtype=np.float32)
    with pytest.raises(StackFailed, match="runs already"):
        lifecycle.up(plan_of(folder), say=silent)
    victim = next(process for process in state.processes if process.name == "triton-1")
    os.kill(victim.pid, signal.SIGKILL)
    refusals: list[str] = []
    with Client(state.gateway_url) as ask:
        for _ in range(40):
            try:
                ask(picture)
            except StackFailed as error:
                refusals.append(str(error))
            time.sleep(0.1)
        in_the_end = [ask(picture).shape for _ in range(4)]
    assert in_the_end == [(1, 1000)] * 4
    assert refusals
    assert all("503" in refusal for refusal in refusals)
    query = 'envoy_gpupilot_request_duration_us_count{outcome="failed"}'
    counted = len(refusals) + 1.0  # and the one that began the series
    assert settled(state, query, counted) == counted
    assert lifecycle.status(folder) == {
        "prometheus": "ready",
        "triton-0": "ready",
        "triton-1": "ended",
        "gateway": "ready",
    }
    assert any(SHARED_MEMORY.glob(f"{state.shared_memory}*"))
    assert lifecycle.down(folder)
    assert left_of(folder, state) == []
    assert not lifecycle.down(folder)
    assert lifecycle.status(folder) is None


def test_servers_come_and_go_while_requests_are_answered(
    tmp_path: Path, plan_of: Planner, value: Reader, settled: Waiter
) -> None:
    folder = tmp_path / "stack"
    one = lifecycle.up(plan_of(folder, balancing="round_robin"), say=silent)
    assert list(one.cold_starts_s) == ["triton-0"]
    with Asking(one.gateway_url) as asking:
        two = lifecycle.scale(folder, 2, say=silent)
        new = 'sum(envoy_gpupilot_requests{replica="triton-1",code="200"}) > bool 5'
        assert settled(two, new, 1.0) == 1.0
        assert settled(two, 'sum(up{job="triton"})', 2.0) == 2.0
        lifecycle.scale(folder, 1, say=silent)
        before = value(two, "sum(envoy_gpupilot_requests)") or 0.0
        assert settled(two, f"sum(envoy_gpupilot_requests) > bool {before + 5}", 1.0) == 1.0
    assert asking.failures == []
    assert 0.0 < two.cold_starts_s["triton-1"] < lifecycle.READY_WITHIN_S
    gone = next(process for process in two.processes if process.name == "triton-1")
    assert group_of(gone) == []
    assert set(lifecycle.status(folder) or {}) == {"prometheus", "triton-0", "gateway"}
    assert lifecycle.down(folder)
    assert left_of(folder, two) == []


def test_there_must_be_a_stack_to_scale(tmp_path: Path) -> None:
    with pytest.raises(StackFailed, match="no stack in"):
        lifecycle.scale(tmp_path, 2, say=silent)


def test_the_real_model_answers_as_onnxruntime_does(
    tmp_path: Path, plan_of: Planner, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from gpupilot_agent.mobilenet.accuracy import from_file

    path, _ = ensure("seeded", tmp_path_factory.mktemp("models"))
    folder = tmp_path / "stack"
    service = {"batching": {"enabled": True, "max_batch": 4}}
    state = lifecycle.up(plan_of(folder, service, flavour="cpu", model=path), say=silent)
    pictures = np.random.default_rng(1).normal(size=(4, 3, 224, 224)).astype(np.float32)
    with Client(state.gateway_url) as ask:
        together = ask(pictures)
        alone = np.concatenate([ask(pictures[index : index + 1]) for index in range(4)])
    labelled = imagenet_style(tmp_path_factory.mktemp("pictures"))
    served = accuracy(labelled, "--url", state.gateway_url, "--batch", "4")
    lifecycle.down(folder)
    assert served == accuracy(labelled, "--model", str(path))
    assert served["pictures"] == 6
    wanted = from_file(path)(pictures)
    np.testing.assert_array_equal(together, wanted)
    np.testing.assert_allclose(alone, wanted, rtol=1e-4, atol=1e-3)
    assert left_of(folder, state) == []


def test_a_model_that_cannot_load_says_so(tmp_path: Path, plan_of: Planner) -> None:
    broken = tmp_path / "in" / "broken.onnx"
    broken.parent.mkdir()
    broken.write_bytes(b"no network")
    folder = tmp_path / "out" / "stack"
    with pytest.raises(StackFailed, match="triton-0 ended") as told:
        lifecycle.up(plan_of(folder, flavour="cpu", model=broken), say=silent)
    assert "InvalidProtobuf" in told.value.log or "INVALID_PROTOBUF" in told.value.log
    assert list(folder.parent.iterdir()) == []


def test_a_port_in_use_is_named(tmp_path: Path, plan_of: Planner) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StackFailed, match=f"--port: port {port} is in use"):
            lifecycle.up(plan_of(tmp_path / "stack", gateway_port=port), say=silent)
    assert list(tmp_path.iterdir()) == []


def test_without_package_indexes_it_says_what_it_needs(
    tmp_path: Path, plan_of: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(tools.CACHE_VARIABLE, str(tmp_path / "cache"))
    for name, value in (("INDEX_URL", "http://127.0.0.1:9/"), ("RETRIES", "0"), ("FIND_LINKS", "")):
        monkeypatch.setenv(f"PIP_{name}", value)
    with pytest.raises(StackFailed, match="package indexes reachable"):
        lifecycle.up(plan_of(tmp_path / "stack"), say=silent)
    kept = {path.name for path in (tmp_path / "cache" / "tools").iterdir()}
    assert not any(name.startswith("serving") and "partial" not in name for name in kept)
    assert not (tmp_path / "stack").exists()


def test_a_process_is_not_mistaken_for_a_later_one() -> None:
    """Its number alone does not make it ours: the start must fit."""
    stat = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    mine = Process(name="test", pid=os.getpid(), started=int(stat[19]), log=Path(sys.executable))
    assert mine.is_alive()
    assert not mine.model_copy(update={"started": mine.started + 1}).is_alive()
