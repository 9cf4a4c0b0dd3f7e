"""Take out of a virtual environment what the operator never runs, and the sources of the rest.

Usage: ``python slim.py VENV``. Machine code loses its symbols, libraries keep their compiled
modules alone: an error still names file and line. The project itself is installed later, sources
and all, for its kernels are cached beside them. What goes is named here package by package;
``tests/e2e/test_image.py`` holds that the operator works without it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

UNUSED = (
    # of the client the connection is used; requests and answers are plain JSON
    *("kubernetes/aio", "kubernetes/client/api", "kubernetes/client/apis"),
    "kubernetes/client/models/v[12]*",
    *("numba/cuda", "numpy/f2py/src", "numpy/distutils", "numpy/_core/_simd.*"),
    # of SciPy the special functions and a root finder are used
    *("scipy/cluster", "scipy/datasets", "scipy/differentiate", "scipy/fftpack", "scipy/integrate"),
    *("scipy/interpolate", "scipy/io", "scipy/ndimage", "scipy/odr", "scipy/signal", "scipy/stats"),
    # of Arrow, Parquet files on a disk; two of its libraries come three times, for want of links
    *("pyarrow/*flight*", "pyarrow/*gandiva*", "pyarrow/*orc*", "pyarrow/*encryption*"),
    *("pyarrow/_acero.*", "pyarrow/_dataset*.so", "pyarrow/_substrait.*", "pyarrow/_feather.*"),
    *("pyarrow/*cpp_tests*", "pyarrow/src", "pyarrow/includes"),
    *("pyarrow/libarrow_python.so", "pyarrow/libarrow_python.so.*.*.*"),
)
UNUSED_ANYWHERE = ("tests", "include", "*.pyi", "*.pxd", "*.pyx", "*.pxi", "*.h", "*.a", "*.c")
KEPT_MODELS = ("v1_managed_fields_entry", "v1_object_meta", "v1_owner_reference")
"""Of the Kubernetes client: its informer names them."""
SHIPPED_BESIDE = ".libs"
"""Folders of libraries that wheels bring along; their layout was changed, and is left as it is."""
NEVER_CHECKED = ("--invalidation-mode", "unchecked-hash")
"""Compiled once, for ever: nobody edits an image."""


def removed(paths: Iterable[Path]) -> None:
    """Remove files and folders."""
    for path in list(paths):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.exists() and path.stem not in KEPT_MODELS:
            path.unlink()


def stripped(packages: Path) -> None:
    """Take the symbols out of libraries; nobody debugs them in here."""
    for library in packages.rglob("*.so*"):
        if not library.parent.name.endswith(SHIPPED_BESIDE):
            subprocess.run(["strip", "--strip-unneeded", library], check=True)


def sourceless(folder: Path, *words: str) -> None:
    """Put compiled modules in the place of their sources.

    Args:
        folder: Where they are.
        words: Further ones for ``compileall``: what the modules are to take for their place.
    """
    compiling = (sys.executable, "-m", "compileall", "-q", "-b", *NEVER_CHECKED)
    subprocess.run([*compiling, *words, str(folder)], check=True)
    removed(folder.rglob("__pycache__"))
    removed(source for source in folder.rglob("*.py") if source.with_suffix(".pyc").exists())


def main(environment: Path) -> None:
    """Make the environment slim."""
    packages = next(environment.glob("lib/python*/site-packages"))
    for pattern in UNUSED:
        removed(packages.glob(pattern))
    for pattern in UNUSED_ANYWHERE:
        removed(packages.rglob(pattern))
    stripped(packages)
    sourceless(packages)
    removed(each for each in environment.glob("bin/*") if not each.name.startswith("python"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
