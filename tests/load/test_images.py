"""The images hold what the stack runs, and the Jobs ask for what the images hold."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpupilot_agent.stack.tools import MODEL_PACKAGES, SERVERS
from gpupilot_load import options

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "deploy" / "images"


def job_container(name: str) -> dict[str, Any]:
    job = yaml.safe_load((ROOT / "loadtests" / name).read_text(encoding="utf-8"))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = container
    return found


def test_triton_in_the_image_is_the_stack_s() -> None:
    text = (IMAGES / "triton-cpu.Dockerfile").read_text(encoding="utf-8")
    triton = next(name for name in SERVERS if name.startswith("nvidia-pytriton"))
    assert all(f'"{package}"' in text for package in (triton, *MODEL_PACKAGES))


@pytest.mark.parametrize("name", ["locust-job.yaml", "stress-job.yaml"])
def test_a_job_runs_what_its_image_holds(name: str) -> None:
    container = job_container(name)
    dockerfile = (IMAGES / "load.Dockerfile").read_text(encoding="utf-8")
    image = container["image"]
    assert f"-t {image} ." in dockerfile
    copied = [line.split()[1] for line in dockerfile.splitlines() if line.startswith("COPY ")]
    words = (*container["command"], *container["args"])
    named = [word.rpartition("=")[2] for word in words if "/" in word and "://" not in word]
    files = [word for word in named if not word.startswith("/")]
    assert files
    for file in files:
        assert (ROOT / file).is_file()
        assert file.partition("/")[0] in copied


def test_the_load_job_s_options_are_known() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host")
    options.add_common(parser)
    options.add_open(parser)
    parsed = parser.parse_args(job_container("locust-job.yaml")["args"])
    assert parsed.speed == 144.0
    assert options.objective(parsed).target_s == 0.06
