"""What the C library does with memory that was given back: it goes back to the system soon.

Left to itself, glibc keeps up to eight heaps a core and hands hardly anything back: at a thousand
services some 200 MiB that nobody uses (mallopt(3), malloc_trim(3)). Others have no such calls.
"""

from __future__ import annotations

import ctypes
import os

ARENAS = 1
"""Heaps; Python allocates under one lock anyway."""
MAPPED_BYTES = 128 * 2**10
"""From this size on memory is the system's own again at once; without it the limit would grow."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8


def settle() -> None:
    """Set it for this process, before it has threads."""
    # Arrow keeps a heap of its own otherwise
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_ARENA_MAX, ARENAS)
        library.mallopt(_MMAP_THRESHOLD, MAPPED_BYTES)
        library.mallopt(_TRIM_THRESHOLD, MAPPED_BYTES)


def give_back() -> None:
    """Return to the system what is free in whole pages."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
