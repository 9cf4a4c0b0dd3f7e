"""How often the model is right on labelled pictures, through onnxruntime or a running server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpupilot_agent.mobilenet import images
from gpupilot_agent.mobilenet.classes import Labelled
from gpupilot_agent.mobilenet.images import Floats
from gpupilot_envs.errors import InputInvalid

Classifier = Callable[[Floats], Floats]
"""From ``(batch, 3, 224, 224)`` to logits ``(batch, 1000)``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """What was measured.

    Attributes:
        pictures: Pictures scored.
        classes: Different true classes among them.
        top1: Share whose likeliest of the 1000 classes is the true one.
        top1_interval: 95 % interval of ``top1`` (Wilson).
        top5: Share whose true class is among the five likeliest.
        top1_of_present: As ``top1``, the model choosing among the classes present only: how a
            set of 200 classes is usually scored.
        unknown: Pictures whose label is none of the 1000 classes, not scored.
        unreadable: Files that are no pictures, not scored.
    """

    pictures: int
    classes: int
    top1: float
    top1_interval: tuple[float, float]
    top5: float
    top1_of_present: float
    unknown: int
    unreadable: int


def measure(
    labelled: Labelled,
    classify: Classifier,
    *,
    batch: int,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Accuracy:
    """Classify every picture and count.

    Args:
        labelled: Pictures with their classes.
        classify: The model.
        batch: Pictures per call.
        on_progress: Told the number of pictures behind us.

    Raises:
        InputInvalid: None of the files is a readable picture.
    """
    present = np.unique([truth for _, truth in labelled.pictures])
    right = np.zeros(3, dtype=np.int64)
    scored = 0
    for tensors, truth, behind in _batches(labelled.pictures, batch):
        if len(tensors):
            right += _right(classify(tensors), truth, present)
            scored += len(tensors)
        on_progress(behind)
    if scored == 0:
        raise InputInvalid("images", f"{len(labelled.pictures)} files", "readable pictures")
    top1, top5, of_present = (float(count / scored) for count in right)
    return Accuracy(
        pictures=scored,
        classes=len(present),
        top1=top1,
        top1_interval=wilson(int(right[0]), scored),
        top5=top5,
        top1_of_present=of_present,
        unknown=sum(labelled.unknown.values()),
        unreadable=len(labelled.pictures) - scored,
    )


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson, 1927)."""
    z2 = 1.959963984540054**2
    share = hits / trials
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    spread = share * (1 - share) / trials + z2 / (4 * trials**2)
    half = float(np.sqrt(z2 * spread)) / (1 + z2 / trials)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def _right(logits: Floats, truth: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Count the pictures that are right: likeliest, among five likeliest, of those present."""
    five = images.best(logits, 5)
    chosen = present[np.argmax(logits[:, present], axis=1)]
    hits = (five[:, 0] == truth, (five == truth[:, None]).any(axis=1), chosen == truth)
    return np.array([int(hit.sum()) for hit in hits], dtype=np.int64)


def _batches(
    pictures: Sequence[tuple[Path, int]], batch: int
) -> Iterator[tuple[Floats, np.ndarray, int]]:
    """Yield tensors, their classes and how many files are behind; unreadable files left out."""
    for start in range(0, len(pictures), batch):
        part = pictures[start : start + batch]
        read = [(found, truth) for path, truth in part if (found := _read(path)) is not None]
        tensors = [found for found, _ in read]
        stacked = np.stack(tensors) if tensors else np.empty((0, 3, 0, 0), dtype=np.float32)
        yield stacked, np.array([truth for _, truth in read], dtype=np.int64), start + len(part)


def _read(path: Path) -> Floats | None:
    try:
        return images.read(path)
    except InputInvalid:
        return None


def from_file(model: Path, *, threads: int = 1) -> Classifier:
    """Return a classifier that runs an ONNX file in this process.

    Raises:
        InputInvalid: Not a model that can be run.
    """
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import (
        Fail,
        InvalidArgument,
        InvalidProtobuf,
        NoSuchFile,
    )

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except (Fail, InvalidArgument, InvalidProtobuf, NoSuchFile) as error:
        raise InputInvalid("--model", str(model), "an ONNX file") from error
    name = session.get_inputs()[0].name
    return lambda tensors: np.asarray(session.run(None, {name: tensors})[0], dtype=np.float32)
