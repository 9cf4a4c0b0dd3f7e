"""Copy a virtual environment and what it needs to run into an empty root: no shell, no packages.

Usage: ``python whole.py VENV ROOT``. Beside the environment: its interpreter's standard library,
every shared library that any of it links, certificates, and a user to run as. What no operator
runs is left out: tests, headers, other protocols of Arrow, the Kubernetes client's second half.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

UNUSED_PACKAGES = ("pip", "pip-*", "setuptools*", "kubernetes/aio", "numba/cuda", "scipy/io")
UNUSED_FILES = ("pyarrow/*flight*", "pyarrow/*s3*", "pyarrow/*gandiva*", "pyarrow/*orc*")
UNUSED_ANYWHERE = ("tests", "include", "*.pyi", "*.pxd", "*.pyx", "*.pxi", "*.h", "*.a", "*.c")
UNUSED_OF_PYTHON = ("test", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "config-*")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
USER = "gpupilot:x:65532:65532::/tmp:/nonexistent\n"


def slimmed(packages: Path) -> None:
    """Remove from site-packages what is never run."""
    for pattern in (*UNUSED_PACKAGES, *UNUSED_FILES):
        _remove(packages.glob(pattern))
    for pattern in UNUSED_ANYWHERE:
        _remove(packages.rglob(pattern))


def _remove(paths: Iterator[Path]) -> None:
    for path in list(paths):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()


def libraries(*folders: Path) -> set[Path]:
    """Return the shared libraries that programs and libraries under some folders link."""
    linked: set[Path] = set()
    for folder in folders:
        for file in folder.rglob("*") if folder.is_dir() else [folder]:
            if file.is_file() and not file.is_symlink() and _is_elf(file):
                said = subprocess.run(["ldd", file], capture_output=True, text=True, check=False)
                linked |= {Path(path) for path in re.findall(r"(/\S+) \(0x", said.stdout)}
    return linked


def _is_elf(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(4) == b"\x7fELF"


def copied(path: Path, root: Path) -> None:
    """Copy a file to its own place under a root, under every name that leads to it."""
    target = root / path.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path.resolve(), target)


def compiled(root: Path, *folders: Path) -> None:
    """Compile every module under some folders of a root, for ever: nobody edits an image."""
    words = ("-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash")
    subprocess.run([sys.executable, *words, "-s", root, "-p", "/", *folders], check=True)


def main(environment: Path, root: Path) -> None:
    """Make the root."""
    packages = next(environment.glob("lib/python*/site-packages"))
    slimmed(packages)
    standard = Path(sysconfig.get_path("stdlib"))
    ignored = shutil.ignore_patterns(*UNUSED_OF_PYTHON, "__pycache__", "dist-packages")
    shutil.copytree(standard, root / standard.relative_to("/"), ignore=ignored, symlinks=True)
    shutil.copytree(environment, root / environment.relative_to("/"), symlinks=True)
    kept = root / environment.relative_to("/")
    for library in libraries(kept, root / standard.relative_to("/")):
        if not library.is_relative_to(environment) and not library.is_relative_to(root):
            copied(library, root)
    compiled(root, kept / "lib", root / standard.relative_to("/"))
    if CERTIFICATES.exists():
        copied(CERTIFICATES, root)
    (root / "etc" / "passwd").write_text(USER, encoding="ascii")
    for folder, mode in (("tmp", 0o1777), ("var/lib/gpupilot", 0o777)):
        (root / folder).mkdir(parents=True)
        (root / folder).chmod(mode)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
