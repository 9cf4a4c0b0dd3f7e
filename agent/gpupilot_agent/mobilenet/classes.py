"""The 1000 classes by their WordNet ids, and a folder of pictures labelled with such ids."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from gpupilot_envs.errors import InputInvalid

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
TINY_LABELS = "val_annotations.txt"
_WNID = re.compile(r"n\d{8}")


@functools.cache
def class_of_wnid() -> Mapping[str, int]:
    """Return the model's class by WordNet id.

    The 1000 ids of ILSVRC 2012 in ascending order are the classes 0 to 999, in this model as in
    torchvision and in timm, whose list this is (``timm/data/_info/imagenet_synsets.txt`` of
    timm 1.0.31, Apache-2.0). Tiny-ImageNet's 200 ids are among them.
    """
    source = resources.files("gpupilot_agent.mobilenet") / "imagenet_wnids.txt"
    return {wnid: index for index, wnid in enumerate(source.read_text("ascii").split())}


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """Pictures with their true classes.

    Attributes:
        pictures: Files, each with its class.
        unknown: Pictures per WordNet id that is none of the 1000 classes.
    """

    pictures: tuple[tuple[Path, int], ...]
    unknown: Mapping[str, int]


def labelled(folder: Path) -> Labelled:
    """Return the labelled pictures of a folder.

    Three layouts are known: ImageNet's (``<id>/*.JPEG``), Tiny-ImageNet's training part
    (``<id>/images/*.JPEG``) and its validation part (``images/`` with ``val_annotations.txt``).

    Raises:
        InputInvalid: No picture of a known class.
    """
    if not folder.is_dir():
        raise InputInvalid("images", str(folder), "a folder of pictures")
    annotations = folder / TINY_LABELS
    found = _annotated(folder, annotations) if annotations.is_file() else _by_folder(folder)
    classes = class_of_wnid()
    unknown: dict[str, int] = {}
    pictures = []
    for path, wnid in found:
        if wnid in classes:
            pictures.append((path, classes[wnid]))
        else:
            unknown[wnid] = unknown.get(wnid, 0) + 1
    if not pictures:
        allowed = f"<WordNet id>/*.JPEG, or images/ and {TINY_LABELS}, with ids of ImageNet's 1000"
        raise InputInvalid("images", str(folder), allowed)
    return Labelled(pictures=tuple(sorted(pictures)), unknown=unknown)


def thinned(found: Labelled, count: int) -> Labelled:
    """Return at most ``count`` of the pictures, evenly spaced, so that all classes stay."""
    every = len(found.pictures) / min(count, len(found.pictures))
    kept = (found.pictures[int(every * index)] for index in range(min(count, len(found.pictures))))
    return replace(found, pictures=tuple(kept))


def _by_folder(folder: Path) -> list[tuple[Path, str]]:
    return [
        (path, part.name)
        for part in folder.iterdir()
        if part.is_dir() and _WNID.fullmatch(part.name)
        for path in part.rglob("*")
        if path.suffix.lower() in PICTURES
    ]


def _annotated(folder: Path, annotations: Path) -> list[tuple[Path, str]]:
    rows = [line.split("\t") for line in annotations.read_text("utf-8").splitlines() if line]
    wrong = next((number for number, row in enumerate(rows, 1) if len(row) < 2), None)
    if wrong is not None:
        raise InputInvalid(f"{annotations}: line {wrong}", rows[wrong - 1], "file and WordNet id")
    return [(folder / "images" / row[0], row[1]) for row in rows]
