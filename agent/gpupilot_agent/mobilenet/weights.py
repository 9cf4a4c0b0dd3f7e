"""Where the ONNX file comes from: the public weights, or the same network with seeded ones.

The public file is ``onnx-community/mobilenetv4_conv_small.e2400_r224_in1k`` on the Hugging Face
hub. Its checksum could not be known when this was written, so it is not pinned: the hub's own
checksum of the file is compared with what arrived, the network is checked operator by operator, and
the first download's checksum is kept and held against every later one.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from gpupilot_agent.mobilenet import download
from gpupilot_agent.triton.repository import CLASSES, IMAGE_SHAPE, INPUT, OUTPUT
from gpupilot_envs.atomic import write_bytes, write_text
from gpupilot_envs.errors import StackFailed

if TYPE_CHECKING:
    import onnx

HUB = "https://huggingface.co"
HUB_VARIABLE = "HF_ENDPOINT"
"""Names another hub, as the hub's own tools have it."""
HUB_REPOSITORY = "onnx-community/mobilenetv4_conv_small.e2400_r224_in1k"
HUB_FILE = "onnx/model.onnx"
PUBLIC = "mobilenetv4-public.onnx"
CONVOLUTIONS = 46
PARAMETERS = (3_700_000, 3_900_000)
"""Weights with normalisation folded or not."""

OFFLINE = "offline, `gpupilot model --weights seeded` builds the same network, untrained"

Kind = Literal["public", "seeded"]


class Card(BaseModel):
    """What is known of an ONNX file, kept beside it.

    Attributes:
        kind: ``public`` weights answer; ``seeded`` ones only cost the same.
        source: Where the file is from.
        sha256: Of the file.
        parameters: Weights in it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    source: str
    sha256: str
    parameters: int


def ensure(kind: Kind, store: Path, *, seed: int = 0, revision: str = "main") -> tuple[Path, Card]:
    """Return the ONNX file of a kind, downloaded or built into ``store`` if it is not there.

    Raises:
        StackFailed: The hub cannot be reached, or what it gave is not the model.
    """
    target = store / (PUBLIC if kind == "public" else f"mobilenetv4-seed{seed}.onnx")
    known = read_card(target)
    if known is not None and target.is_file() and download.sha256_of(target) == known.sha256:
        return target, known
    card = _download(target, revision, known) if kind == "public" else _build(target, seed)
    write_text(_card_path(target), card.model_dump_json(indent=2))
    return target, card


def public_file(store: Path) -> Path | None:
    """Return the public weights if they were downloaded before."""
    return store / PUBLIC if (store / PUBLIC).is_file() else None


def read_card(model: Path) -> Card | None:
    """Return what is known of an ONNX file, ``None`` where it has no card."""
    try:
        return Card.model_validate_json(_card_path(model).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def inspected(path: Path) -> int:
    """Return the number of weights in an ONNX file that is MobileNetV4 conv small.

    Raises:
        StackFailed: Another network, or not one at all; says what differs.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path)
    except (OSError, DecodeError) as error:
        raise StackFailed(f"{path} is no ONNX file: {error}") from error
    graph = model.graph
    names = {weight.name for weight in graph.initializer}
    inputs = {value.name: _shape(value) for value in graph.input if value.name not in names}
    outputs = {value.name: _shape(value) for value in graph.output}
    if {name: shape[1:] for name, shape in inputs.items()} != {INPUT: list(IMAGE_SHAPE)}:
        raise StackFailed(f"{path}: inputs {inputs}, expected {INPUT} (batch, 3, 224, 224)")
    if {name: shape[1:] for name, shape in outputs.items()} != {OUTPUT: [CLASSES]}:
        raise StackFailed(f"{path}: outputs {outputs}, expected {OUTPUT} (batch, {CLASSES})")
    convolutions = Counter(node.op_type for node in graph.node)["Conv"]
    parameters = sum(_size(weight) for weight in graph.initializer)
    if convolutions != CONVOLUTIONS or not PARAMETERS[0] <= parameters <= PARAMETERS[1]:
        said = f"{convolutions} convolutions and {parameters:,} weights"
        raise StackFailed(f"{path} has {said}; MobileNetV4 conv small has {CONVOLUTIONS} and 3.8 M")
    return parameters


def _build(target: Path, seed: int) -> Card:
    from gpupilot_agent.mobilenet.architecture import build

    write_bytes(target, build(seed).SerializeToString(deterministic=True))
    return Card(
        kind="seeded",
        source=f"built with seed {seed}: the network's cost, answers without meaning",
        sha256=download.sha256_of(target),
        parameters=inspected(target),
    )


def _download(target: Path, revision: str, known: Card | None) -> Card:
    """Fetch the public file: continued where it broke off, checked, kept whole or not at all."""
    hub = os.environ.get(HUB_VARIABLE, HUB).rstrip("/")
    url = f"{hub}/{HUB_REPOSITORY}/resolve/{revision}/{HUB_FILE}"
    try:
        stated = download.ask(url)
    except StackFailed as error:
        raise StackFailed(f"{error}; {OFFLINE}") from error
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{(stated.sha256 or stated.commit)[:12]}.part")
    sha256 = download.fetch(url, partial, stated)
    try:
        if known is not None and known.sha256 != sha256:
            raise StackFailed(
                f"{url} now gives another file ({sha256}) than at first ({known.sha256}); "
                f"remove {_card_path(target)} if that is meant"
            )
        card = Card(
            kind="public",
            source=f"{url}, commit {stated.commit or 'not stated'}",
            sha256=sha256,
            parameters=inspected(partial),
        )
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return card


def _card_path(model: Path) -> Path:
    return model.with_suffix(".json")


def _shape(value: onnx.ValueInfoProto) -> list[int]:
    """Return the dimensions; 0 where one is symbolic."""
    return [int(dimension.dim_value) for dimension in value.type.tensor_type.shape.dim]


def _size(weight: onnx.TensorProto) -> int:
    return math.prod(weight.dims)
