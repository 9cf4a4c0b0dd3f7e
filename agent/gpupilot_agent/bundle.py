"""A trained policy as one file of plain arrays: what it is, what it was trained on, how it did.

The file is a NumPy ``.npz`` without pickled objects: the weights of the policy network layer by
layer and one JSON document. It loads without torch and refuses to load where the observation
schema or the action table of this code is not the one the weights were trained with.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.actions import SIZES, Controller, action_table
from gpupilot_envs.atomic import write_bytes
from gpupilot_envs.compiled import compiled
from gpupilot_envs.errors import BundleRefused
from gpupilot_envs.observation import FIELDS, schema_hash

FORMAT = "gpupilot/bundle-v1"

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Weight, shape ``(inputs, outputs)``, and bias, shape ``(outputs,)``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A policy artefact.

    Attributes:
        layers: Hidden layers (tanh between them) and the linear head, whose outputs are the
            logits of every axis of the action table one after the other.
        controller: The classical controller the actions move around.
        config: The training configuration as plain data.
        seeds: Seeds of training, validation and choice of checkpoint.
        trace_hashes: SHA-256 of the traffic it was trained on, by name.
        commit: Commit of the code that trained it, or ``unknown``.
        card: Evaluation card: what was measured, on what, against whom.
        schema: Hash of the observation table the weights expect.
        actions: The action table the weights expect.
    """

    layers: tuple[Layer, ...]
    controller: Controller
    config: Mapping[str, Any]
    seeds: Mapping[str, int]
    trace_hashes: Mapping[str, str]
    commit: str
    card: Mapping[str, Any]
    schema: str = field(default_factory=schema_hash)
    actions: list[dict[str, object]] = field(default_factory=action_table)

    @property
    def sha256(self) -> str:
        """Digest of the weights and of everything else in the bundle."""
        digest = hashlib.sha256(json.dumps(_document(self), sort_keys=True).encode())
        for weight, bias in self.layers:
            digest.update(weight.tobytes())
            digest.update(bias.tobytes())
        return digest.hexdigest()

    def logits(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits, float32, shape ``(n, sum(SIZES))``, of ``(n, len(FIELDS))``."""
        hidden = observations
        for weight, bias in self.layers[:-1]:
            hidden = np.tanh(_linear(hidden, weight, bias))
        weight, bias = self.layers[-1]
        return _linear(hidden, weight, bias)

    def act(self, observations: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the most likely index of every axis, int64, shape ``(n, len(SIZES))``."""
        logits = self.logits(observations)
        ends = np.cumsum(SIZES)
        axes = np.split(logits, ends[:-1], axis=1)
        return np.stack([axis.argmax(axis=1) for axis in axes], axis=1)


@compiled
def _linear(
    inputs: NDArray[np.float32], weight: NDArray[np.float32], bias: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return ``inputs @ weight + bias``, summed in the same order for one row as for a thousand.

    BLAS picks its kernel by the number of rows, so that the last bit of a logit would depend on
    how many services are decided together.
    """
    out = np.empty((inputs.shape[0], weight.shape[1]), dtype=np.float32)
    for i in range(inputs.shape[0]):
        for j in range(weight.shape[1]):
            out[i, j] = bias[j]
        for k in range(weight.shape[0]):
            value = inputs[i, k]
            for j in range(weight.shape[1]):
                out[i, j] += value * weight[k, j]
    return out


def save(bundle: Bundle, path: Path) -> None:
    """Write the bundle, whole or not at all.

    Raises:
        OutputRefused: The disk is full or the path cannot be written.
    """
    arrays: dict[str, NDArray[Any]] = {"bundle": np.array(json.dumps(_document(bundle)))}
    for index, (weight, bias) in enumerate(bundle.layers):
        arrays[f"weight_{index}"] = weight
        arrays[f"bias_{index}"] = bias
    buffer = BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())


def load(path: Path) -> Bundle:
    """Read a bundle and check that it fits this code.

    Raises:
        BundleRefused: Not a bundle, damaged, or made for another observation or action table.
    """
    try:
        with np.load(BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        document = json.loads(str(arrays["bundle"]))
    except OSError as error:
        raise BundleRefused(f"{path}: {error.strerror or error}") from error
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BundleRefused(f"{path} is not a policy bundle, or a damaged one") from error
    if not isinstance(document, dict):
        raise BundleRefused(f"{path} is not a policy bundle: its document is not a mapping")
    _check_tables(document, path)
    return _assemble(document, arrays, path)


def _document(bundle: Bundle) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "schema": bundle.schema,
        "actions": bundle.actions,
        "controller": asdict(bundle.controller),
        "config": dict(bundle.config),
        "seeds": dict(bundle.seeds),
        "trace_hashes": dict(bundle.trace_hashes),
        "commit": bundle.commit,
        "card": dict(bundle.card),
        "layers": len(bundle.layers),
    }


def _check_tables(document: Mapping[str, Any], path: Path) -> None:
    if document.get("format") != FORMAT:
        raise BundleRefused(f"{path}: format {document.get('format')!r}, expected {FORMAT!r}")
    found = document.get("schema")
    if found != schema_hash():
        raise BundleRefused(
            f"{path}: observation schema {str(found)[:12]} is not this version's "
            f"{schema_hash()[:12]}; train the policy again"
        )
    if document.get("actions") != action_table():
        raise BundleRefused(
            f"{path}: its action table is not this version's; train the policy again"
        )


def _assemble(
    document: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], path: Path
) -> Bundle:
    try:
        layers = tuple(
            (
                np.ascontiguousarray(arrays[f"weight_{index}"], dtype=np.float32),
                np.ascontiguousarray(arrays[f"bias_{index}"], dtype=np.float32),
            )
            for index in range(int(document["layers"]))
        )
        bundle = Bundle(
            layers=layers,
            controller=Controller(**document["controller"]),
            config=document["config"],
            seeds=document["seeds"],
            trace_hashes=document["trace_hashes"],
            commit=document["commit"],
            card=document["card"],
            schema=document["schema"],
            actions=document["actions"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BundleRefused(f"{path} is not a complete policy bundle: {error}") from error
    _check_shapes(bundle, path)
    return bundle


def _check_shapes(bundle: Bundle, path: Path) -> None:
    width = len(FIELDS)
    for weight, bias in bundle.layers:
        if weight.ndim != 2 or weight.shape[0] != width or bias.shape != weight.shape[1:]:
            raise BundleRefused(f"{path}: a layer of shape {weight.shape} does not follow {width}")
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise BundleRefused(f"{path}: a weight is not a finite number")
        width = weight.shape[1]
    if not bundle.layers or width != sum(SIZES):
        raise BundleRefused(f"{path}: {width} outputs, expected {sum(SIZES)}")
