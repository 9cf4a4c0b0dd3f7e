"""`scripts/environment.py` hands pip's indexes on to uv and knows when nothing changed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


BACKEND = """
import pathlib, zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    wheel = pathlib.Path(folder) / "gpupilot-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in {files!r}.items():
            archive.writestr("gpupilot-1.dist-info/" + name, text)
    return wheel.name
"""
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "gpupilot"
version = "1"
[project.optional-dependencies]
all = ["torch>=2"]
[dependency-groups]
dev = ["checker"]
"""


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("setup_script", ROOT / "scripts/environment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_variable_outweighs_a_file(script: ModuleType) -> None:
    lines = ["global.index-url='https://a.example'", ":env:.index-url='https://b.example'"]
    for order in (lines, lines[::-1]):
        assert script.pip_settings(order) == {"index-url": "https://b.example"}


def test_other_sections_are_not_read(script: ModuleType) -> None:
    assert script.pip_settings(["download.index-url='https://a.example'", ""]) == {}


def test_wheel_folders_reach_uv(script: ModuleType, tmp_path: Path) -> None:
    settings = {"find-links": f"{tmp_path} https://wheels.example /no/such/folder"}
    environment = script.uv_environment(settings, {})
    assert environment["UV_FIND_LINKS"] == f"{tmp_path},https://wheels.example"


def test_what_uv_was_told_stays(script: ModuleType) -> None:
    told = {"UV_DEFAULT_INDEX": "https://mine.example"}
    environment = script.uv_environment({"index-url": "https://pip.example"}, told)
    assert environment["UV_DEFAULT_INDEX"] == "https://mine.example"


def test_unset_stays_unset(script: ModuleType) -> None:
    assert "UV_DEFAULT_INDEX" not in script.uv_environment({}, {})


def test_the_lock_pins_torch(script: ModuleType) -> None:
    assert script.locked_torch("sympy==1.14\ntorch==2.13.0\n") == "2.13.0"
    with pytest.raises(SystemExit, match="pins no torch"):
        script.locked_torch("sympy==1.14\n")


@pytest.mark.parametrize(
    ("made_for_dev", "asked_for_dev", "ready"),
    [(True, True, True), (True, False, True), (False, False, True), (False, True, False)],
)
def test_the_stamp_knows_what_it_was_made_for(
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    made_for_dev: bool,
    asked_for_dev: bool,
    ready: bool,
) -> None:
    stamp = tmp_path / "stamp.json"
    stamp.write_text(json.dumps({"fingerprint": "same", "dev": made_for_dev}), encoding="utf-8")
    monkeypatch.setattr(script, "STAMP", stamp)
    assert script.is_ready("same", dev=asked_for_dev) is ready
    assert not script.is_ready("changed", dev=asked_for_dev)


def test_another_python_is_another_environment(script: ModuleType) -> None:
    assert script.fingerprint("3.11") != script.fingerprint("3.12")


def metadata(name: str, version: str, *lines: str) -> dict[str, str]:
    """Return the files that make an otherwise empty wheel."""
    head = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    return {
        "METADATA": "\n".join([*head, *lines, ""]),
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }


def add_wheel(folder: Path, name: str, version: str, *lines: str) -> None:
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for file, text in metadata(name, version, *lines).items():
            archive.writestr(f"{name}-{version}.dist-info/{file}", text)


@pytest.fixture
def wheels(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the script set up a small project of its own; returns the folder it gets wheels from."""
    project, folder = tmp_path / "project", tmp_path / "wheels"
    project.mkdir()
    folder.mkdir()
    files = metadata("gpupilot", "1", "Provides-Extra: all", 'Requires-Dist: torch; extra == "all"')
    (project / "backend.py").write_text(BACKEND.format(files=files), encoding="utf-8")
    (project / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
    pins = "torch==2.13.0\ncudalib==1  # via torch\nchecker==1\n"
    (project / "requirements.lock").write_text(pins, encoding="utf-8")
    for name, version in (
        ("torch", "2.14.0"),
        ("cudalib", "1"),
        ("checker", "1"),
        ("checker", "2"),
    ):
        add_wheel(folder, name, version)
    add_wheel(folder, "torch", "2.13.0", "Requires-Dist: cudalib")
    venv.create(tmp_path / "venv")
    monkeypatch.setattr(sys, "platform", "linux")  # elsewhere no CPU build is looked for
    monkeypatch.setattr(script, "ROOT", project)
    monkeypatch.setattr(script, "VENV", tmp_path / "venv")
    monkeypatch.setattr(script, "PYTHON", tmp_path / "venv/bin/python")
    monkeypatch.setattr(script, "UV", Path(sys.executable).parent / "uv")
    return folder


def installed(script: ModuleType, wheels: Path, *, dev: bool) -> dict[str, str]:
    """Run the installation with nothing to be had but ``wheels``; returns versions by name."""
    alone = {"UV_NO_INDEX": "1", "UV_OFFLINE": "1", "UV_CACHE_DIR": str(wheels.parent / "cache")}
    base = {name: value for name, value in os.environ.items() if not name.startswith("UV_")}
    environment = script.uv_environment({"find-links": str(wheels)}, {**base, **alone})
    script.install(environment, dev=dev)
    code = "import importlib.metadata as m; [print(d.name, d.version) for d in m.distributions()]"
    done = subprocess.run([script.PYTHON, "-c", code], check=True, capture_output=True, text=True)
    return dict(line.split() for line in done.stdout.splitlines())


def test_a_cpu_build_brings_no_cuda_library(script: ModuleType, wheels: Path) -> None:
    add_wheel(wheels, "torch", "2.13.0+cpu")
    found = installed(script, wheels, dev=False)
    assert found == {"gpupilot": "1", "torch": "2.13.0+cpu"}


def test_the_default_build_comes_as_locked_where_there_is_no_other(
    script: ModuleType, wheels: Path
) -> None:
    found = installed(script, wheels, dev=False)
    assert found == {"gpupilot": "1", "torch": "2.13.0", "cudalib": "1"}


def test_developers_get_their_tools_later_and_keep_the_build(
    script: ModuleType, wheels: Path
) -> None:
    add_wheel(wheels, "torch", "2.13.0+cpu")
    installed(script, wheels, dev=False)
    found = installed(script, wheels, dev=True)
    assert found == {"gpupilot": "1", "torch": "2.13.0+cpu", "checker": "1"}
