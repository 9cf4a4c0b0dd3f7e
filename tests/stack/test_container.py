"""The gpu flavour: what it would run, and what it says where it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpupilot_agent.stack import container, lifecycle
from gpupilot_agent.stack.plan import StackPlan
from gpupilot_agent.stack.server import Ports, Replica
from gpupilot_envs.embedded import find_profile
from gpupilot_envs.errors import GpupilotError

IMAGE = "tritonserver:24.10-py3"


def program(folder: Path, name: str, body: str) -> None:
    """Put a program on the test's PATH."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("programs", "image", "sentence"),
    [
        ({}, "", "--image"),
        ({}, IMAGE, "needs docker or podman"),
        ({"podman": "exit 0"}, IMAGE, "needs an NVIDIA GPU"),
        ({"docker": "exit 0", "nvidia-smi": "exit 9"}, IMAGE, "needs an NVIDIA GPU"),
        ({"docker": "exit 1", "nvidia-smi": "exit 0"}, IMAGE, f"`docker pull {IMAGE}` first"),
    ],
    ids=["image", "engine", "no driver", "no GPU", "not pulled"],
)
def test_what_is_missing_is_one_sentence_and_nothing_is_left(
    programs: dict[str, str],
    image: str,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = tmp_path / "bin"
    there.mkdir()
    for name, body in programs.items():
        program(there, name, body)
    monkeypatch.setenv("PATH", str(there))
    plan = StackPlan(
        flavour="gpu",
        folder=tmp_path / "stack",
        profile=find_profile("mobilenetv4-edge"),
        model=tmp_path / "model.onnx",
        image=image,
    )
    with pytest.raises(GpupilotError, match=sentence):
        lifecycle.up(plan, say=lambda _: None)
    assert not plan.folder.exists()


@pytest.mark.parametrize("engine", container.ENGINES)
def test_a_replica_runs_in_the_foreground_on_the_hosts_ports(engine: str, tmp_path: Path) -> None:
    replica = Replica(
        name="triton-1",
        ports=Ports(http=1001, grpc=1002, metrics=1003),
        repository=tmp_path / "models",
        shared_memory="gpupilot-ab-1-",
    )
    words = container.command(engine, IMAGE, replica)
    at = words.index(IMAGE)
    assert words[:2] == [engine, "run"]
    assert words[at + 1 :][:2] == ["tritonserver", "--model-repository=/models"]
    assert f"{tmp_path / 'models'}:/models:ro" in words[:at]
    assert words[words.index("--name") + 1] == "gpupilot-ab-1"
    assert {"--http-port=1001", "--grpc-port=1002", "--metrics-port=1003"} <= set(words[at:])
    assert not any("allow-gpu-metrics=false" in word for word in words)
