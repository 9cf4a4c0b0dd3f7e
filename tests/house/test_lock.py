"""`requirements.lock` pins all that is declared, on every platform, and names no place to get it.

Whoever sets up takes packages from where their pip is configured to look; a lock that named the
host it was made with would send everybody there.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PIN = re.compile(
    r"[a-z0-9-]+==[0-9][0-9a-z.]*( ; [^#]+?)? +# via [^/:]+(\(pyproject\.toml(:dev)?\))?"
)
NOT_OURS = {"results", "dist", "build", "__pycache__"}
REGISTRIES = [
    ".".join(parts)
    for parts in (("pypi", "org"), ("pythonhosted", "org"), ("pytorch", "org"), ("npmjs", "org"))
]


def lock() -> list[str]:
    return (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()


def declared() -> list[Requirement]:
    """Return what the project, its extras and the group of its developers ask for."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        document = tomllib.load(file)
    project = document["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    lines = [*project["dependencies"], *extras, *document["dependency-groups"]["dev"]]
    return [found for line in lines if (found := Requirement(line)).name != project["name"]]


def our_files() -> Iterator[Path]:
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [
            name for name in folders if name not in NOT_OURS and (name[0] != "." or name == ".ci")
        ]
        yield from (Path(folder) / name for name in names)


def test_a_line_is_a_pin_and_why_it_is_there() -> None:
    assert [line for line in lock() if not PIN.fullmatch(line)] == []


def test_all_that_is_declared_is_pinned_as_declared() -> None:
    pins: dict[str, list[str]] = {}
    for line in lock():
        name, _, rest = line.partition("==")
        pins.setdefault(canonicalize_name(name), []).append(rest.split()[0])
    for wanted in declared():
        versions = pins.get(canonicalize_name(wanted.name), [])
        assert versions, f"{wanted.name} is not locked; run: make lock"
        assert all(map(wanted.specifier.contains, versions)), f"{wanted} is locked at {versions}"


def test_no_file_names_a_registry() -> None:
    naming = {
        path.relative_to(ROOT).as_posix()
        for path in our_files()
        if any(host.encode() in path.read_bytes() for host in REGISTRIES)
    }
    assert naming == set()
