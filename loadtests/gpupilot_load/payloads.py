"""What is sent: tensors that fit the model's own metadata, pictures where it takes pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.errors import InputInvalid
from gpupilot_load import pictures

NUMPY_TYPES = {
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "UINT8": np.uint8,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
}
CHANNELS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What a request to the model looks like.

    Attributes:
        name: Name of the model on the server.
        input_name: Name of its input tensor.
        datatype: KServe v2 data type of the input.
        shape: Shape of one request's input, batch dimension included.
        output_name: Name of its first output tensor.
    """

    name: str
    input_name: str
    datatype: str
    shape: tuple[int, ...]
    output_name: str


def model_of(metadata: Mapping[str, Any]) -> Model:
    """Return the model of a KServe v2 metadata document; a free dimension becomes 1.

    Raises:
        InputInvalid: The model has more than one input, or one of a type that is not numeric.
    """
    name, inputs = str(metadata["name"]), list(metadata["inputs"])
    if len(inputs) != 1:
        raise InputInvalid(f"{name}: inputs", len(inputs), "a model with one input tensor")
    datatype = str(inputs[0]["datatype"])
    if datatype not in NUMPY_TYPES:
        raise InputInvalid(f"{name}: datatype", datatype, f"one of {', '.join(NUMPY_TYPES)}")
    return Model(
        name=name,
        input_name=str(inputs[0]["name"]),
        datatype=datatype,
        shape=tuple(max(int(size), 1) for size in inputs[0]["shape"]),
        output_name=str(metadata["outputs"][0]["name"]),
    )


def tensors(
    model: Model, *, count: int, seed: int, folder: Path | None = None
) -> list[NDArray[Any]]:
    """Return ``count`` inputs for the model, each of its shape and type.

    Args:
        model: Takes pictures when its input is ``(…, 3, height, width)``; else it gets numbers.
        count: How many different inputs; a response cache must not answer for the model.
        seed: Of drawn pictures and numbers.
        folder: The user's own pictures instead of drawn ones.

    Raises:
        InputInvalid: A folder of pictures is given for a model that takes none.
    """
    dtype = NUMPY_TYPES[model.datatype]
    if len(model.shape) >= CHANNELS and model.shape[-3] == CHANNELS:
        chosen = (
            pictures.drawn(count, seed) if folder is None else pictures.in_folder(folder, count)
        )
        return _pictures(chosen, model.shape, dtype)
    if folder is not None:
        raise InputInvalid("--images", str(folder), f"nothing: {model.name} takes no pictures")
    random = np.random.default_rng(seed)
    return [random.integers(0, 100, model.shape).astype(dtype) for _ in range(count)]


def _pictures(chosen: Sequence[Any], shape: tuple[int, ...], dtype: Any) -> list[NDArray[Any]]:
    found = []
    for picture in chosen:
        planes = pictures.normalised(picture, *shape[-2:])
        if np.issubdtype(dtype, np.integer):
            raw = planes * pictures.DEVIATION[:, None, None] + pictures.MEAN[:, None, None]
            planes = np.clip(np.rint(raw * 255.0), 0, 255)
        found.append(np.ascontiguousarray(np.broadcast_to(planes, shape), dtype=dtype))
    return found
