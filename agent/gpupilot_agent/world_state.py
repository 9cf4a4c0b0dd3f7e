"""A running fleet as bytes, and back, exactly: arrays that shared memory share it again.

A pickle, because nothing an object holds can be forgotten in it, with three rules of its own:
what is named by the caller (traffic, fitted tables) is written as its name alone; a view of an
array is written as a view; and only arrays, generators and classes of this package are read back,
so that a file from elsewhere cannot run code of its choice.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NUMPY: frozenset[tuple[str, str]] = frozenset(
    {
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy._core.numeric", "_frombuffer"),
        ("numpy.random._pcg64", "PCG64"),
        ("numpy.random._pickle", "__bit_generator_ctor"),
        ("numpy.random._pickle", "__generator_ctor"),
        ("numpy.random.bit_generator", "SeedSequence"),
        ("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence"),
    }
)
"""Everything of NumPy that its arrays and generators are put together with."""


def dumps(state: object, shared: Mapping[str, object]) -> bytes:
    """Return ``state`` as bytes.

    Args:
        state: Any tree of plain values, arrays, generators and objects of this package.
        shared: Objects that are written as their names; :func:`loads` must be given them again.
    """
    buffer = io.BytesIO()
    _Writer(buffer, shared).dump(state)
    return buffer.getvalue()


def loads(data: bytes, shared: Mapping[str, object]) -> Any:
    """Return the state that :func:`dumps` wrote.

    Raises:
        pickle.UnpicklingError: The bytes are damaged, name something that is not in ``shared``,
            or would build something that is no part of a fleet.
    """
    return _Reader(io.BytesIO(data), shared).load()


class _Writer(pickle.Pickler):
    def __init__(self, file: io.BytesIO, shared: Mapping[str, object]) -> None:
        super().__init__(file, protocol=5)
        self._names = {id(thing): name for name, thing in shared.items()}

    def persistent_id(self, thing: object) -> str | None:
        return self._names.get(id(thing))

    def reducer_override(self, thing: object) -> Any:
        if type(thing) is np.ndarray and _is_view(thing):
            offset = _address(thing) - _address(thing.base)
            return _view, (thing.base, thing.dtype, thing.shape, offset, thing.strides)
        return NotImplemented


class _Reader(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, shared: Mapping[str, object]) -> None:
        super().__init__(file)
        self._shared = shared

    def persistent_load(self, name: str) -> object:
        if name not in self._shared:
            raise pickle.UnpicklingError(f"it refers to {name!r}")
        return self._shared[name]

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name) if _of_a_fleet(module, name) else None
        if found is _view or (module, name) in _NUMPY or isinstance(found, type):
            return found
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a fleet")


def _of_a_fleet(module: str, name: str) -> bool:
    package = module.partition(".")[0]
    return package in ("gpupilot_agent", "gpupilot_envs") or (module, name) in _NUMPY


def _is_view(array: NDArray[Any]) -> bool:
    base = array.base
    return type(base) is np.ndarray and bool(base.flags.c_contiguous)


def _address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


def _view(
    base: NDArray[Any],
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    offset: int,
    strides: tuple[int, ...],
) -> NDArray[Any]:
    return np.ndarray(shape, dtype, buffer=base, offset=offset, strides=strides)
