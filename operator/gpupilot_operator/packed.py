"""Objects of the cluster kept small: as the text they came in, compressed, read again when needed.

As mappings, the objects of a thousand services are some twenty megabytes that are looked at when
one of them changes and otherwise every five minutes.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_FAST = 1
"""Compression level: an object becomes a third of its text in 50 us."""


@dataclass(frozen=True, slots=True)
class Packed:
    """One object; two of the same content are equal.

    Attributes:
        packed: Its JSON with sorted keys, compressed.
    """

    packed: bytes

    def opened(self) -> dict[str, Any]:
        """Return the object, read anew at every call."""
        read: dict[str, Any] = json.loads(zlib.decompress(self.packed))
        return read


def pack(body: Mapping[str, Any]) -> Packed:
    """Return an object of the API server, or part of it, packed."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return Packed(zlib.compress(text.encode(), _FAST))


NOTHING = pack({})
"""What is kept of an object that is not ours."""
