"""Pictures to classify: drawn from a seed, or the user's own, as a vision model wants them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from gpupilot_envs.errors import InputInvalid

Floats = NDArray[np.float32]

MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
"""Channel means of ImageNet, for pixel values of 0 to 1."""

DEVIATION = np.array([0.229, 0.224, 0.225], dtype=np.float32)
"""Channel standard deviations of ImageNet."""

SHAPES = 12
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def drawn(count: int, seed: int, side: int = 256) -> list[Image.Image]:
    """Return pictures of blurred shapes on a gradient with sensor noise; same seed, same pictures.

    Args:
        count: How many.
        seed: Of everything in them.
        side: Width and height in pixels.
    """
    random = np.random.default_rng(seed)
    return [_picture(random, side) for _ in range(count)]


def in_folder(folder: Path, count: int) -> list[Image.Image]:
    """Return up to ``count`` pictures of a folder and its sub-folders, in the order of their names.

    Raises:
        InputInvalid: The folder holds no picture.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)
    if not paths:
        raise InputInvalid("--images", str(folder), f"a folder of {', '.join(ENDINGS)} files")
    return [Image.open(path).convert("RGB") for path in paths[:count]]


def normalised(picture: Image.Image, height: int, width: int) -> Floats:
    """Return a picture as a vision model takes it: float32, shape ``(3, height, width)``.

    The shorter side is resized (bicubic), the middle is cut out, the channels are normalised as
    for ImageNet.
    """
    scale = max(height / picture.height, width / picture.width)
    size = (max(width, round(picture.width * scale)), max(height, round(picture.height * scale)))
    fitted = picture.resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    cut = fitted.crop((left, top, left + width, top + height))
    pixels = np.asarray(cut, dtype=np.float32) / 255.0
    return np.ascontiguousarray(((pixels - MEAN) / DEVIATION).transpose(2, 0, 1))


def _picture(random: np.random.Generator, side: int) -> Image.Image:
    ends = random.integers(0, 256, (2, 3)).astype(np.float64)
    ramp = np.linspace(0.0, 1.0, side)[:, None, None]
    sky = np.broadcast_to(ends[0] + (ends[1] - ends[0]) * ramp, (side, side, 3))
    picture = Image.fromarray(sky.astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(SHAPES):
        x, y = random.integers(0, side, 2).tolist()
        wide, high = random.integers(side // 16, side // 2, 2).tolist()
        paint = draw.ellipse if random.random() < 0.5 else draw.rectangle
        red, green, blue = random.integers(0, 256, 3).tolist()
        paint((x, y, x + wide, y + high), fill=(red, green, blue))
    blurred = np.asarray(picture.filter(ImageFilter.GaussianBlur(1.5)), dtype=np.float64)
    noisy = blurred + random.normal(0.0, 6.0, blurred.shape)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
