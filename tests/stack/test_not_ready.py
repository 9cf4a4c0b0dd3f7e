"""A real Triton that runs but has no model yet: every command says so in a sentence."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpupilot_agent.stack import processes
from gpupilot_agent.stack.lifecycle import answered
from gpupilot_agent.stack.plan import free_ports
from gpupilot_agent.stack.server import Ports, Replica
from gpupilot_agent.stack.state import SHARED_MEMORY
from gpupilot_agent.stack.tools import toolbox

ROOT = Path(__file__).resolve().parents[2]
REGION = "gpupilot-not-ready-"


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of a server that waits to be told which model to load."""
    folder = tmp_path_factory.mktemp("triton")
    (folder / "models").mkdir()
    http, grpc, metrics = free_ports(3)
    replica = Replica(
        name="triton-0",
        ports=Ports(http=http, grpc=grpc, metrics=metrics),
        repository=folder / "models",
        shared_memory=REGION,
    )
    tools = toolbox(lambda _: None)
    command = [*replica.command(tools), "--model-control-mode=explicit"]
    process = processes.start("triton-0", command, folder / "log", replica.environment(tools))
    try:
        url = f"http://127.0.0.1:{http}"
        processes.wait_until(
            lambda: answered(f"{url}/v2/health/live"), [process], within_s=60, what="triton-0"
        )
        yield url
    finally:
        processes.stop([process])
        for region in SHARED_MEMORY.glob(f"{REGION}*"):
            region.unlink()


def ended(tmp_path: Path, *words: object) -> tuple[int, str]:
    """Run a program of ours; returns its exit code and all it complained of."""
    done = subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    return done.returncode, done.stderr


def test_load_without_a_model(waiting: str, tmp_path: Path) -> None:
    locust, file = Path(sys.executable).with_name("locust"), ROOT / "loadtests" / "closed_loop.py"
    words = ("-f", file, "--headless", "-t", "5s", "--host", waiting, "--requests", "r.parquet")
    code, said = ended(tmp_path, locust, *words)
    assert code == 2, said
    assert "--model: 'mobilenetv4' is not allowed; expected a model that is ready" in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_recording_without_a_model(waiting: str, tmp_path: Path) -> None:
    gpupilot = Path(sys.executable).with_name("gpupilot")
    words = ("--prometheus", "http://127.0.0.1:9", "--service", "mobilenetv4", "--triton", waiting)
    code, said = ended(tmp_path, gpupilot, "record", *words, "--out", "r.parquet")
    assert code == 2, said
    assert f"--triton: '{waiting}, model mobilenetv4' is not allowed; expected a ready" in said
    assert len(said.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_baseline_without_a_model(waiting: str, tmp_path: Path) -> None:
    file = ROOT / "loadtests" / "baseline.py"
    code, said = ended(tmp_path, sys.executable, file, "--url", waiting)
    assert code == 2, said
    assert "model mobilenetv4' is not allowed; expected a ready model" in said
    assert len(said.splitlines()) == 1
    assert list(tmp_path.rglob("*.json")) == []
