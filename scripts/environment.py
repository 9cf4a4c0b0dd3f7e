"""Make ``.venv`` ready: locked packages, and the smallest PyTorch that is to be had.

Standard library only: it runs before anything is installed. Idempotent: a stamp in the
environment remembers what it was made from, and an unchanged environment costs milliseconds.

PyTorch is chosen in this order, the first that can be had wins:

1. the one already in ``.venv``, when it has the locked version;
2. a CPU build from the package indexes or wheel folders that pip is configured with;
3. a CPU build from PyTorch's own CPU index, which uv knows by name;
4. the default build, which on Linux brings CUDA libraries (the size is said before it loads).
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import re
import subprocess
import sys
import time
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
UV = VENV / "bin" / "uv"
STAMP = VENV / "gpupilot-setup.json"
UV_REQUIREMENT = "uv>=0.9"
LOCK = "requirements.lock"
SOURCES = ("pyproject.toml", LOCK, "scripts/environment.py")
REACHABLE_WITHIN_S = "5"
CPU_INDEX_OPTIONS = ("--torch-backend=cpu",)
DEFAULT_BUILD_SIZE = "2.7 GB to download, 4.5 GB on disk; the CPU build is about 0.2 GB"

# what pip calls it -> (what uv reads, how uv separates several values)
UV_VARIABLES = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", " "),
}


def say(text: str) -> None:
    """Print one line of progress."""
    sys.stderr.write(f"setup: {text}\n")
    sys.stderr.flush()


def fingerprint(version: str = sys.version) -> str:
    """Return a digest of everything the environment is made from."""
    digest = hashlib.sha256(version.encode())
    for name in SOURCES:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def is_ready(wanted: str, *, dev: bool) -> bool:
    """Say whether the environment already holds what is asked for."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return stamp.get("fingerprint") == wanted and bool(stamp.get("dev") or not dev)


def pip_settings(lines: Sequence[str]) -> dict[str, str]:
    """Return pip's own settings by bare name from ``pip config list``, the strongest last.

    Args:
        lines: Such as ``global.index-url='…'`` (a file) or ``:env:.find-links='…'``.
    """
    found: dict[str, tuple[int, str]] = {}
    strength = {"global": 0, "install": 1, ":env:": 2}
    for line in lines:
        match = re.fullmatch(r"(global|install|:env:)\.([a-z-]+)=(.+)", line.strip())
        if not match:
            continue
        rank = strength[match[1]]
        if rank >= found.get(match[2], (0, ""))[0]:
            found[match[2]] = (rank, str(ast.literal_eval(match[3])))
    return {name: value for name, (_, value) in found.items()}


def uv_environment(settings: Mapping[str, str], base: Mapping[str, str]) -> dict[str, str]:
    """Return ``base`` with pip's indexes and wheel folders said in uv's words.

    What the user already told uv stays. Wheel folders that do not exist are left out,
    because uv refuses them where pip shrugs.
    """
    environment = dict(base)
    for name, (variable, separator) in UV_VARIABLES.items():
        values = settings.get(name, "").split()
        if name == "find-links":
            values = [value for value in values if "://" in value or Path(value).exists()]
        if values:
            environment.setdefault(variable, separator.join(values))
    environment["VIRTUAL_ENV"] = str(VENV)
    environment.setdefault("UV_LINK_MODE", "copy" if os.name == "nt" else "hardlink")
    return environment


def called(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """Run a command that must succeed and return its output.

    Raises:
        SystemExit: It failed; its own words have been printed.
    """
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"setup: failed: {' '.join(command)}")
    return done.stdout


def tried(command: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Run a command that may fail, quietly, and say whether it succeeded."""
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True)
    return done.returncode == 0


def make_venv() -> None:
    """Create the environment with pip and uv in it, where it is not there yet."""
    if not PYTHON.exists():
        say(f"making .venv with Python {sys.version.split()[0]}")
        try:
            venv.create(VENV, with_pip=True)
        except (OSError, subprocess.CalledProcessError) as error:
            hint = "on Debian and Ubuntu: apt install python3-venv"
            raise SystemExit(f"setup: cannot make .venv ({error}); {hint}") from error
    if not UV.exists():
        say("installing uv")
        called([str(PYTHON), "-m", "pip", "install", "--quiet", UV_REQUIREMENT])


def locked_torch(lock: str) -> str:
    """Return the version of torch that the text of a lock pins, such as ``2.13.0``."""
    match = re.search(r"^torch==([0-9.]+)", lock, flags=re.MULTILINE)
    if not match:
        raise SystemExit(f"setup: {LOCK} pins no torch; get it back from git")
    return match[1]


def installed_torch() -> str:
    """Return the version of torch in the environment, or nothing."""
    code = "import importlib.metadata as m; print(m.version('torch'))"
    done = subprocess.run([str(PYTHON), "-c", code], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def install_cpu_torch(version: str, environment: Mapping[str, str]) -> bool:
    """Install a CPU build of torch alone, from wherever one is to be had, and say if it worked."""
    if sys.platform != "linux":
        return False  # the default build has no CUDA there
    impatient = {
        **environment,
        "UV_HTTP_CONNECT_TIMEOUT": REACHABLE_WITHIN_S,
        "UV_HTTP_RETRIES": "1",
    }
    ask = [str(UV), "pip", "install", "--quiet", "--no-deps", f"torch=={version}+cpu"]
    for source, options in (("your indexes", ()), ("PyTorch's index", CPU_INDEX_OPTIONS)):
        if tried([*ask, "--dry-run", *options], impatient):
            say(f"PyTorch {version}: CPU build from {source}")
            if tried([*ask, *options], environment):
                return True
    return False


def install(environment: Mapping[str, str], *, dev: bool) -> None:
    """Install the project and what it needs at the locked versions, with PyTorch as chosen.

    The lock constrains and does not list, so one file serves with and without ``dev``, and a
    CPU build, which asks for no CUDA libraries, brings none: ``==2.13.0`` accepts ``2.13.0+cpu``.
    """
    version = locked_torch((ROOT / LOCK).read_text(encoding="utf-8"))
    is_present = installed_torch().partition("+")[0] == version
    if not is_present and not install_cpu_torch(version, environment) and sys.platform == "linux":
        say(f"PyTorch {version}: no CPU build to be had, default build ({DEFAULT_BUILD_SIZE})")
    say("installing the locked packages")
    command = [str(UV), "pip", "install", "--quiet", "-c", LOCK, "-e", f"{ROOT}[all]"]
    called([*command, *(("--group", "dev") if dev else ())], environment)


def main() -> None:
    """Make the environment ready for the demo, or with ``--dev`` for tests and checks too."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dev", action="store_true", help="also what tests and checks need")
    dev = parser.parse_args().dev
    wanted = fingerprint()
    if is_ready(wanted, dev=dev):
        return
    began = time.monotonic()
    make_venv()
    listing = called([str(PYTHON), "-m", "pip", "config", "list"]).splitlines()
    install(uv_environment(pip_settings(listing), os.environ), dev=dev)
    STAMP.write_text(json.dumps({"fingerprint": wanted, "dev": dev}), encoding="utf-8")
    say(f"ready in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
