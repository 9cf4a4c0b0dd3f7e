"""Typed access to the compiler: ``@compiled`` is ``numba.njit`` that mypy understands."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])


def compiled(function: F) -> F:
    """Compile a kernel of scalars and arrays; the machine code is cached beside the module.

    No ``fastmath``: kernels must see NaN as NaN, and results must not depend on reordering.
    """
    return cast("F", numba.njit(cache=True, nogil=True, error_model="numpy")(function))


def inlined(function: F) -> F:
    """Compile a small kernel that is always inlined into the kernel that calls it."""
    return cast(
        "F",
        numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")(function),
    )
