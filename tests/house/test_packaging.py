"""The wheel carries the three packages and their data, and works without the checkout."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from gpupilot_agent.generalist import load_generalist

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder the freshly built wheel was unpacked into."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run_in(site: Path, code: str) -> str:
    """Run code that sees the wheel before the checkout; returns what it prints."""
    front = f"import sys; sys.path.insert(0, {str(site)!r}); "
    done = subprocess.run(
        [sys.executable, "-c", front + code], cwd=site, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_the_wheel_holds_only_our_packages(unpacked: Path) -> None:
    found = {entry.name.partition("-")[0] for entry in unpacked.iterdir()}
    assert found == {"gpupilot", "gpupilot_operator", "gpupilot_agent", "gpupilot_envs"}


def test_the_wheel_imports_from_itself(unpacked: Path) -> None:
    code = "import gpupilot_envs.profile as m; print(m.__file__)"
    assert run_in(unpacked, code).startswith(str(unpacked))


def test_the_wheel_carries_its_profiles(unpacked: Path) -> None:
    code = "from gpupilot_envs import embedded as e; print(e.__file__, *e.names())"
    origin, *names = run_in(unpacked, code).split()
    assert origin.startswith(str(unpacked))
    published = ["bert-large-a100-mig", "mobilenetv4-cpu", "mobilenetv4-edge", "resnet50-a100-mig"]
    calibrated = ["mobilenetv4-cpu-triton", "mobilenetv4-edge-emulated"]
    assert names == sorted([*published, *calibrated])


def test_the_wheel_carries_the_shipped_policy(unpacked: Path) -> None:
    code = (
        "from gpupilot_agent import generalist as g; print(g.__file__, g.load_generalist().sha256)"
    )
    origin, sha256 = run_in(unpacked, code).split()
    assert origin.startswith(str(unpacked))
    assert sha256 == load_generalist().sha256


def test_the_command_is_declared(unpacked: Path) -> None:
    (points,) = unpacked.glob("*.dist-info/entry_points.txt")
    assert "gpupilot = gpupilot_agent.cli.main:run" in points.read_text(encoding="utf-8")


def test_the_licence_travels_along(unpacked: Path) -> None:
    (licence,) = unpacked.glob("*.dist-info/licenses/LICENSE")
    assert "Apache License" in licence.read_text(encoding="utf-8")
