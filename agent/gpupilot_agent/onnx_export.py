"""A policy as an ONNX model, for runtimes that know nothing of gpupilot.

The graph is the forward pass of :mod:`gpupilot_agent.forward` in the operators ``Gemm``, ``Tanh``
and ``ArgMax``. Its inputs are observations as :func:`gpupilot_envs.observation.encode` makes them,
and masks as :func:`gpupilot_envs.actions.allow` does; what the indices of the actions mean, and
the schema they belong to, travels in its metadata.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpupilot_agent.bundle import Bundle
from gpupilot_agent.forward import Network
from gpupilot_envs.actions import SIZES
from gpupilot_envs.atomic import write_bytes
from gpupilot_envs.errors import ExtraMissing
from gpupilot_envs.observation import FIELDS

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 17
"""Operator set of ONNX 1.12 (2022), which every runtime in use understands."""

IR_VERSION = 8
"""File format of the same release."""


def export(bundle: Bundle, path: Path) -> None:
    """Write the policy as an ONNX model, whole or not at all.

    Raises:
        ExtraMissing: The package ``onnx`` is not installed.
        OutputRefused: The disk is full or the path cannot be written.
    """
    write_bytes(path, model_of(bundle).SerializeToString())


def model_of(bundle: Bundle) -> ModelProto:
    """Return the checked model.

    From ``observation`` (n, fields) and ``mask`` (n, choices) to ``logits`` (n, choices), those of
    masked choices included, and ``action`` (n, axes).

    Raises:
        ExtraMissing: The package ``onnx`` is not installed.
    """
    try:
        from onnx import TensorProto, checker, helper
    except ModuleNotFoundError as error:
        raise ExtraMissing("exporting to ONNX", "onnx") from error

    nodes, constants = _logits(bundle.networks)
    nodes += _choices(constants)
    values = [
        ("observation", TensorProto.FLOAT, len(FIELDS)),
        ("mask", TensorProto.BOOL, sum(SIZES)),
        ("logits", TensorProto.FLOAT, sum(SIZES)),
        ("action", TensorProto.INT64, len(SIZES)),
    ]
    seen, mask, *answers = [
        helper.make_tensor_value_info(name, kind, ["services", width])
        for name, kind, width in values
    ]
    graph = helper.make_graph(
        nodes, "policy", [seen, mask], answers, initializer=_tensors(constants)
    )
    model = helper.make_model(
        graph,
        producer_name="gpupilot",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    helper.set_model_props(model, _metadata(bundle))
    checker.check_model(model, full_check=True)
    return model


def _logits(networks: tuple[Network, ...]) -> tuple[list[Any], dict[str, Any]]:
    """Return the nodes up to the mean logits, and the arrays they read by name."""
    from onnx import helper

    nodes, constants, outputs = [], {}, []
    for member, network in enumerate(networks):
        last = "observation"
        for index, (weight, bias) in enumerate(network):
            name = f"{member}_{index}"
            constants[f"weight_{name}"], constants[f"bias_{name}"] = weight, bias
            inputs = [last, f"weight_{name}", f"bias_{name}"]
            nodes.append(helper.make_node("Gemm", inputs, [f"sum_{name}"]))
            last = f"sum_{name}"
            if index < len(network) - 1:
                nodes.append(helper.make_node("Tanh", [last], [f"hidden_{name}"]))
                last = f"hidden_{name}"
        outputs.append(last)
    nodes.append(helper.make_node("Mean", outputs, ["logits"]))
    return nodes, constants


def _choices(constants: dict[str, Any]) -> list[Any]:
    """Return the nodes that choose the largest allowed logit of every axis."""
    from onnx import helper

    parts = [f"axis_{axis}" for axis in range(len(SIZES))]
    chosen = [f"choice_{axis}" for axis in range(len(SIZES))]
    constants["sizes"] = np.array(SIZES, dtype=np.int64)
    constants["never"] = np.array(-np.inf, dtype=np.float32)
    return [
        helper.make_node("Where", ["mask", "logits", "never"], ["allowed"]),
        helper.make_node("Split", ["allowed", "sizes"], parts, axis=1),
        *(
            helper.make_node("ArgMax", [part], [choice], axis=1, keepdims=1)
            for part, choice in zip(parts, chosen, strict=True)
        ),
        helper.make_node("Concat", chosen, ["action"], axis=1),
    ]


def _tensors(constants: dict[str, Any]) -> list[Any]:
    from onnx import numpy_helper

    return [numpy_helper.from_array(array, name) for name, array in constants.items()]


def _metadata(bundle: Bundle) -> dict[str, str]:
    return {
        "sha256": bundle.sha256,
        "schema": bundle.schema,
        "fields": json.dumps([field.name for field in FIELDS]),
        "actions": json.dumps(bundle.actions),
        "commit": bundle.commit,
    }
