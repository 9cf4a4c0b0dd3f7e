"""Pictures to tensors and answers to classes, as the published model was evaluated (timm)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from gpupilot_envs.errors import InputInvalid

SIDE = 224
SHORTEST_EDGE = 256
"""224 / 0.875: the crop's share in the model's configuration (``crop_pct``)."""
MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)

Floats = NDArray[np.float32]


def tensor(picture: Image.Image) -> Floats:
    """Return a picture as the model wants it, float32 of shape ``(3, 224, 224)``.

    Shortest edge to 256 pixels (bicubic), the middle 224 by 224, 0 to 1, less mean over deviation.
    """
    width, height = picture.size
    shortest = min(width, height)
    # whole pixels as torchvision's Resize takes them
    size = (SHORTEST_EDGE * width // shortest, SHORTEST_EDGE * height // shortest)
    resized = picture.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    left, top = (round((edge - SIDE) / 2.0) for edge in size)
    cropped = resized.crop((left, top, left + SIDE, top + SIDE))
    values = np.asarray(cropped, dtype=np.float32) / np.float32(255.0)
    return np.ascontiguousarray(((values - MEAN) / STD).transpose(2, 0, 1), dtype=np.float32)


def read(path: Path) -> Floats:
    """Return the tensor of a picture file.

    Raises:
        InputInvalid: Not a picture that can be read.
    """
    try:
        with Image.open(path) as picture:
            return tensor(picture)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InputInvalid(str(path), type(error).__name__, "a readable picture") from error


def best(logits: Floats, count: int) -> NDArray[np.intp]:
    """Return the ``count`` likeliest classes of each row, the likeliest first."""
    return np.argsort(-logits, axis=-1, kind="stable")[..., :count]
