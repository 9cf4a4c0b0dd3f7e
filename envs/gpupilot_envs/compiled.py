"""Typed access to the compiler: ``@compiled`` is ``numba.njit`` that mypy understands.

Machine code is cached, and an edit anywhere in the package throws it away. Numba itself looks
only at the file of the outermost kernel: after an edit to a kernel that another file calls, it
would go on running the old code without a word.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., object])
A = TypeVar("A")

_HERE = Path(__file__).parent
_SETTINGS: Any = numba.config


def compiled(function: F) -> F:
    """Compile a kernel of scalars and arrays; the machine code is cached beside its package.

    No ``fastmath``: kernels must see NaN as NaN, and results must not depend on reordering.
    """
    return cast("F", _jit(function))


def inlined(function: F) -> F:
    """Compile a small kernel that is always inlined into the kernel that calls it."""
    return cast("F", _jit(function, inline="always"))


def _borrowed(_: Any, array: Any) -> tuple[Any, Callable[..., Any]]:
    """Type ``borrowed(array)`` and say how to generate it: the array without its owner."""

    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        view = context.make_array(array)(context, builder, arguments[0])
        for owner in ("meminfo", "parent"):
            setattr(view, owner, getattr(view, owner).type(None))
        return view._getvalue()

    return array(array), generate


def _fused(_: Any, a: Any, b: Any, c: Any) -> tuple[Any, Callable[..., Any]] | None:
    """Type ``fused(a, b, c)`` of three float32 and say how to generate it."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    single = numba.types.float32
    return (single(a, b, c), generate) if a == b == c == single else None


fused: Callable[[Any, Any, Any], Any] = cast("Callable[[Any, Any, Any], Any]", intrinsic(_fused))
"""In a kernel, ``a * b + c`` of three float32, rounded once (IEEE 754 fusedMultiplyAdd).

Said by name, it is the same number on every machine and in every loop; left to the compiler
(``fastmath``), it would be where the compiler found it worth while.
"""

borrowed: Callable[[A], A] = cast("Callable[[A], A]", intrinsic(_borrowed))
"""In a kernel, a view of an array whose references are not counted.

Counting is an atomic operation at every call that passes the array on, which can cost more
than the kernel's own work. Only for arrays that the outermost kernel's caller holds.
"""


def _jit(function: Callable[..., object], **options: Any) -> object:
    with _cached_beside(Path(function.__code__.co_filename)):
        return numba.njit(cache=True, nogil=True, error_model="numpy", **options)(function)


@contextmanager
def _cached_beside(source: Path) -> Iterator[None]:
    """Let numba, which chooses a kernel's cache folder as it is declared, choose ours.

    ``NUMBA_CACHE_DIR`` is honoured, and where nothing can be written numba finds a place itself.
    """
    before = _SETTINGS.CACHE_DIR
    folder = _folder(_package_of(source))
    if not before and folder is not None:
        _SETTINGS.CACHE_DIR = str(folder)
    try:
        yield
    finally:
        _SETTINGS.CACHE_DIR = before


def _package_of(source: Path) -> Path:
    """Return the outermost folder of packages that holds the file."""
    folder = source.parent
    while (folder.parent / "__init__.py").exists():
        folder = folder.parent
    return folder


@cache
def _folder(package: Path) -> Path | None:
    """Return the cache folder of this state of the sources, older ones removed."""
    stamp = hashlib.sha256(f"{_stamp(_HERE)}{_stamp(package)}".encode()).hexdigest()[:16]
    folder = package / "__pycache__" / f"kernels-{stamp}"
    if not folder.exists():
        for old in folder.parent.glob("kernels-*"):
            shutil.rmtree(old, ignore_errors=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def _stamp(package: Path) -> str:
    """Return what changes whenever a source file of the package does."""
    files = sorted(package.rglob("*.py"))
    seen = [(str(f.relative_to(package)), f.stat().st_mtime_ns, f.stat().st_size) for f in files]
    return hashlib.sha256(repr(seen).encode()).hexdigest()
