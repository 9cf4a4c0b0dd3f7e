"""`scripts/environment.py` hands pip's indexes on to uv and knows when nothing changed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


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
    with pytest.raises(SystemExit, match="uv lock"):
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


def test_the_lock_names_the_public_index_only() -> None:
    """A lock written behind a mirror would send every user there."""
    text = (ROOT / "uv.lock").read_text(encoding="utf-8")
    hosts = {part.split("/")[0] for part in text.split("https://")[1:]}
    assert hosts == set()
