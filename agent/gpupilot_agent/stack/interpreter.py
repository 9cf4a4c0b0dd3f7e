"""Which Python runs Triton's models: the backend's stub needs that interpreter's libpython."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpupilot_agent.stack import debian
from gpupilot_envs.errors import StackFailed

SUPPORTED = ("3.10", "3.11", "3.12")
"""Versions with a stub in the ``nvidia-pytriton`` wheel and a wheel of the numpy it works with."""

_PROBE = """
import json, sys, sysconfig
get = sysconfig.get_config_var
print(json.dumps({
    "version": "%d.%d" % sys.version_info[:2],
    "executable": sys.executable,
    "folders": [get("LIBDIR"), sys.base_prefix + "/lib"],
    "library": "libpython%d.%d.so.1.0" % sys.version_info[:2],
}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """A Python whose shared library can be loaded by Triton's stub.

    Attributes:
        executable: The interpreter outside any virtual environment.
        version: Such as ``3.11``.
        library_folder: Where its ``libpython`` lies.
    """

    executable: Path
    version: str
    library_folder: Path


def find_interpreter(cache: Path) -> Interpreter:
    """Return the first usable interpreter: the running one, then those on ``PATH``.

    A stub that loads another build's ``libpython`` fails or hangs, so the folder of this very
    interpreter's library is part of the answer. Debian ships the library in a package of its
    own, which is unpacked into ``cache`` when it is missing.

    Raises:
        StackFailed: No interpreter fits; says what to install.
    """
    probed = []
    for path in _candidates():
        found = _probe(path)
        if found is None:
            continue
        probed.append(found)
        for folder in map(Path, found["folders"]):
            if (folder / found["library"]).exists():
                return _interpreter(found, folder)
    for found in probed:
        if found["executable"].startswith("/usr/bin/") and debian.is_debian():
            unpacked = debian.unpack(f"libpython{found['version']}", cache)
            for library in sorted(unpacked.rglob(found["library"])):
                return _interpreter(found, library.parent)
    tried = ", ".join(found["executable"] for found in probed) or "none"
    raise StackFailed(
        f"no Python for Triton: need {', '.join(SUPPORTED)} with a shared libpython "
        f"(pyenv: build with --enable-shared; Debian: apt install libpython3); looked at {tried}"
    )


def _interpreter(found: dict[str, Any], folder: Path) -> Interpreter:
    return Interpreter(
        executable=Path(found["executable"]), version=found["version"], library_folder=folder
    )


def _candidates() -> Iterator[str]:
    yield getattr(sys, "_base_executable", sys.executable)
    for name in (*(f"python{version}" for version in reversed(SUPPORTED)), "python3"):
        for path in (shutil.which(name), shutil.which(name, path="/usr/bin:/usr/local/bin")):
            if path is not None:
                yield path


def _probe(executable: str) -> dict[str, Any] | None:
    """Return what an interpreter says of itself, ``None`` where it cannot serve."""
    done = subprocess.run([executable, "-c", _PROBE], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return None
    found: dict[str, Any] = json.loads(done.stdout)
    return found if found["version"] in SUPPORTED else None
