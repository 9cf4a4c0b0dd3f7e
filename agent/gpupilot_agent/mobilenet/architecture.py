"""MobileNetV4 conv small built with numpy and onnx alone, its weights drawn from a seed.

The network of Qin et al., "MobileNetV4: Universal Models for the Mobile Ecosystem" (2024), as timm
exports ``mobilenetv4_conv_small`` with batch normalisation folded into the convolutions: the same
operators, shapes and cost as the public weights; its answers mean nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from gpupilot_agent.triton.repository import CLASSES, IMAGE_SHAPE, INPUT, OUTPUT
from gpupilot_envs.errors import StackFailed

OPSET = 17
IR_VERSION = 8
STEM = ((3, 2, 32), (3, 2, 32), (1, 1, 32), (3, 2, 96), (1, 1, 64))
"""Convolutions before the blocks: kernel, stride, channels."""
BLOCKS = (
    (5, 5, 2, 3, 96),
    *((0, 3, 1, 2, 96),) * 4,
    (3, 0, 1, 4, 96),
    (3, 3, 2, 6, 128),
    (5, 5, 1, 4, 128),
    (0, 5, 1, 4, 128),
    (0, 5, 1, 3, 128),
    *((0, 3, 1, 4, 128),) * 2,
)
"""Universal inverted bottlenecks: kernel of the depthwise convolution before and after the
expansion (0 for none), stride (of the latter), expansion, channels."""
HEAD = (960, 1280)
"""Channels of the convolutions before and after the pooling."""
CONVOLUTIONS = 46
PARAMETERS = (3_700_000, 3_900_000)
"""Weights with normalisation folded or not."""


@dataclass(slots=True)
class _Graph:
    """Operators and weights so far; ``top`` names the newest activation."""

    random: np.random.Generator
    top: str = INPUT
    channels: int = IMAGE_SHAPE[0]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> None:
        """Append an operator; its output, named by its place unless told, becomes the top."""
        name = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        self.top = name

    def weight(self, shape: tuple[int, ...], inputs: int, *, rectified: bool) -> str:
        """Draw normal weights that keep the activations' size, rectified next or not (He)."""
        gain = 2.0 if rectified else 1.0
        drawn = self.random.normal(0.0, np.sqrt(gain / inputs), size=shape)
        return self._store(drawn.astype(np.float32))

    def bias(self, size: int) -> str:
        """Add a bias of zeros: what folding an untrained normalisation leaves."""
        return self._store(np.zeros(size, dtype=np.float32))

    def _store(self, values: NDArray[np.float32]) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def conv(
        self,
        kernel: int,
        out: int,
        *,
        stride: int = 1,
        depthwise: bool = False,
        rectified: bool = True,
    ) -> None:
        """Append a convolution that keeps the picture's size up to the stride, and a rectifier."""
        per_group = 1 if depthwise else self.channels
        shape = (out, per_group, kernel, kernel)
        weight = self.weight(shape, per_group * kernel * kernel, rectified=rectified)
        self.add(
            "Conv",
            [self.top, weight, self.bias(out)],
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
            group=out if depthwise else 1,
        )
        self.channels = out
        if rectified:
            self.add("Relu", [self.top])


def build(seed: int) -> onnx.ModelProto:
    """Return the network with weights drawn from ``seed``; the same seed, the same bytes."""
    graph = _Graph(random=np.random.default_rng(seed))
    for kernel, stride, channels in STEM:
        graph.conv(kernel, channels, stride=stride)
    for block in BLOCKS:
        _bottleneck(graph, *block)
    _head(graph)
    return _model(graph, seed)


def _bottleneck(
    graph: _Graph, start: int, middle: int, stride: int, expansion: int, out: int
) -> None:
    entered, wide = graph.top, graph.channels * expansion
    is_residual = stride == 1 and graph.channels == out
    if start:
        graph.conv(start, graph.channels, depthwise=True, rectified=False)
    graph.conv(1, wide)
    if middle:
        graph.conv(middle, wide, stride=stride, depthwise=True)
    graph.conv(1, out, rectified=False)
    if is_residual:
        graph.add("Add", [graph.top, entered])


def _head(graph: _Graph) -> None:
    graph.conv(1, HEAD[0])
    graph.add("GlobalAveragePool", [graph.top])
    graph.conv(1, HEAD[1])
    graph.add("Flatten", [graph.top])
    weight = graph.weight((CLASSES, HEAD[1]), HEAD[1], rectified=False)
    graph.add("Gemm", [graph.top, weight, graph.bias(CLASSES)], OUTPUT, transB=1)


def _model(graph: _Graph, seed: int) -> onnx.ModelProto:
    shape: list[str | int | None] = ["batch", *IMAGE_SHAPE]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "mobilenetv4_conv_small",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", CLASSES])],
            graph.weights,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="gpupilot",
        doc_string=f"seeded weights, seed {seed}: the cost of MobileNetV4, answers without meaning",
    )
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model)
    return model


def inspected(path: Path) -> int:
    """Return the number of weights in an ONNX file that is MobileNetV4 conv small.

    Raises:
        StackFailed: Another network, or not one at all; says what differs.
    """
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


def _shape(value: onnx.ValueInfoProto) -> list[int]:
    """Return the dimensions; 0 where one is symbolic."""
    return [int(dimension.dim_value) for dimension in value.type.tensor_type.shape.dim]


def _size(weight: onnx.TensorProto) -> int:
    return math.prod(weight.dims)
