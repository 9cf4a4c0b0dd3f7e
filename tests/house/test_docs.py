"""What the documents say exists: commands, targets, links, schemas."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from jsonschema import Draft202012Validator

from gpupilot_agent.cli.main import app
from gpupilot_envs import embedded
from gpupilot_envs.profile import ServiceProfile

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/README.md")})
SCHEMAS = ROOT / "docs" / "schemas"


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def targets() -> set[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z]+):.*## ", text, flags=re.MULTILINE))


def commands() -> set[str]:
    return set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def code_in(path: Path) -> str:
    """Return the code spans and blocks of a document."""
    text = path.read_text(encoding="utf-8")
    blocks = re.findall(r"```.*?```", text, flags=re.DOTALL)
    spans = re.findall(r"`[^`\n]+`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return "\n".join([*blocks, *spans])


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_every_make_target_named_exists(path: Path) -> None:
    said = set(re.findall(r"(?<![\w-])make ([a-z]+)", code_in(path)))
    assert said <= targets()


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_every_command_named_exists(path: Path) -> None:
    said = set(re.findall(r"(?<![\w./-])gpupilot ([a-z]+)", code_in(path)))
    assert said <= commands()


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8"))
    broken = [
        link for link in links if "://" not in link and not (path.parent / link).resolve().exists()
    ]
    assert broken == []


def test_the_readme_names_the_two_commands() -> None:
    text = code_in(ROOT / "README.md")
    assert {"make demo", "make test"} <= set(re.findall(r"make [a-z]+", text))


def test_each_target_has_a_line_and_the_promised_ones_exist() -> None:
    assert {"demo", "test", "check", "bench", "train", "compare", "clean", "help"} <= targets()


def test_ci_runs_the_command_of_the_readme() -> None:
    entry = ROOT / ".ci" / "run"
    assert os.access(entry, os.X_OK)
    assert re.search(r"^exec make .*\btest$", entry.read_text(encoding="utf-8"), re.MULTILINE)


def script(name: str) -> Any:
    """Return a module of the scripts folder."""
    spec = importlib.util.spec_from_file_location(f"{name}_script", ROOT / f"scripts/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def generated() -> dict[str, str]:
    """Return every schema as `make schemas` would write it now."""
    found: dict[str, str] = script("schemas").schemas()
    return found


def test_the_list_of_options_is_that_of_the_command_line() -> None:
    committed = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert committed == script("commands").page(), "run: make commands"


def test_the_example_traffic_is_what_its_script_makes() -> None:
    committed = (ROOT / "examples" / "shop.csv").read_text(encoding="utf-8")
    assert committed == script("example_traffic").csv()


def test_the_schemas_are_those_of_the_code() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in SCHEMAS.iterdir()}
    assert committed == generated(), "run: make schemas"


@pytest.mark.parametrize("name", embedded.names())
def test_each_embedded_profile_follows_the_schema(name: str) -> None:
    schema = json.loads((SCHEMAS / "profile-v1.json").read_text(encoding="utf-8"))
    path = ROOT / "envs" / "gpupilot_envs" / "data" / f"{name}.yaml"
    Draft202012Validator(schema).validate(yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", embedded.names())
def test_each_embedded_profile_loads_and_says_how_it_was_measured(name: str) -> None:
    profile = embedded.find_profile(name)
    assert isinstance(profile, ServiceProfile)
    assert profile.name == name
    assert "not stated" not in (profile.measured.how, profile.measured.where)
