"""The tree is laid out so that `operator/` can never shadow the standard library."""

from __future__ import annotations

import operator
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "operator": "gpupilot_operator",
    "agent": "gpupilot_agent",
    "envs": "gpupilot_envs",
}


def test_the_standard_operator_wins() -> None:
    assert Path(operator.__file__).parent != ROOT / "operator"
    assert operator.__file__.endswith("operator.py")


@pytest.mark.parametrize("folder", PACKAGES)
def test_a_directory_of_packages_holds_no_module(folder: str) -> None:
    assert list((ROOT / folder).glob("*.py")) == []


@pytest.mark.parametrize(("folder", "package"), PACKAGES.items())
def test_each_package_is_typed(folder: str, package: str) -> None:
    assert (ROOT / folder / package / "__init__.py").is_file()
    assert (ROOT / folder / package / "py.typed").is_file()


def test_tests_are_no_packages() -> None:
    """A `tests/operator/__init__.py` would be imported as `operator`."""
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def sources() -> list[Path]:
    return [path for folder in PACKAGES for path in (ROOT / folder).rglob("*.py")]


@pytest.mark.parametrize("path", sources(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_module_is_small_and_says_its_idea_first(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 400
    assert re.match(r'"""\S.{10,}', lines[0])


@pytest.mark.parametrize("name", ["utils", "helpers", "misc", "common", "manager"])
def test_no_module_has_a_name_that_needs_its_author(name: str) -> None:
    assert [path for path in sources() if path.stem == name] == []
