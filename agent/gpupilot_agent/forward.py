"""The forward pass of a policy network on one core: compiled layers, the same for every row.

BLAS picks its kernel by the number of rows, so that the last bit of a logit would depend on how
many services are decided together. Here every output is one chain of fused multiply-adds in the
order of the inputs, for one row as for a thousand; two rows share each weight that is loaded.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled, fused, inlined

Floats = NDArray[np.float32]
Layer = tuple[Floats, Floats]
"""Weight, shape ``(inputs, outputs)``, and bias, shape ``(outputs,)``."""

Network = tuple[Layer, ...]
"""Hidden layers with tanh between them and the linear head."""


def forward(network: Network, observations: Floats) -> Floats:
    """Return the outputs of a network, float32, shape ``(n, outputs)``, of ``(n, inputs)``."""
    hidden = observations
    for weight, bias in network[:-1]:
        hidden = linear(hidden, weight, bias)
        np.tanh(hidden, out=hidden)
    weight, bias = network[-1]
    return linear(hidden, weight, bias)


@compiled
def linear(inputs: Floats, weight: Floats, bias: Floats) -> Floats:
    """Return ``inputs @ weight + bias``, each output summed from the first input to the last."""
    n, outputs = inputs.shape[0], weight.shape[1]
    out = np.empty((n, outputs), dtype=np.float32)
    for i in range(n):
        for j in range(outputs):
            out[i, j] = bias[j]
    paired = n - n % 2
    for i in range(0, paired, 2):
        _add_two(inputs[i], inputs[i + 1], weight, out[i], out[i + 1])
    if paired < n:
        _add_one(inputs[paired], weight, out[paired])
    return out


@inlined
def _add_two(first: Floats, second: Floats, weight: Floats, out: Floats, out2: Floats) -> None:
    """Add the products of two rows; four inputs at a time stay in registers between outputs."""
    inputs, outputs = weight.shape
    by_four = inputs - inputs % 4
    for k in range(0, by_four, 4):
        a0, a1, a2, a3 = first[k], first[k + 1], first[k + 2], first[k + 3]
        b0, b1, b2, b3 = second[k], second[k + 1], second[k + 2], second[k + 3]
        for j in range(outputs):
            w0, w1, w2, w3 = weight[k, j], weight[k + 1, j], weight[k + 2, j], weight[k + 3, j]
            out[j] = fused(a3, w3, fused(a2, w2, fused(a1, w1, fused(a0, w0, out[j]))))
            out2[j] = fused(b3, w3, fused(b2, w2, fused(b1, w1, fused(b0, w0, out2[j]))))
    for k in range(by_four, inputs):
        for j in range(outputs):
            out[j] = fused(first[k], weight[k, j], out[j])
            out2[j] = fused(second[k], weight[k, j], out2[j])


@inlined
def _add_one(row: Floats, weight: Floats, out: Floats) -> None:
    for k in range(weight.shape[0]):
        for j in range(weight.shape[1]):
            out[j] = fused(row[k], weight[k, j], out[j])


@compiled
def most_likely(
    logits: Floats, masks: NDArray[np.bool_], sizes: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the index of the largest logit of every axis, the first of equals, ``(n, axes)``.

    Args:
        logits: Those of all axes one after the other, shape ``(n, sizes.sum())``.
        masks: Which of them can be chosen, same shape, one at least per axis.
        sizes: How many values each axis has.
    """
    out = np.empty((logits.shape[0], sizes.shape[0]), dtype=np.int64)
    for i in range(logits.shape[0]):
        start = 0
        for axis in range(sizes.shape[0]):
            best, highest = start, np.float32(-np.inf)
            for j in range(start, start + sizes[axis]):
                if masks[i, j] and logits[i, j] > highest:
                    best, highest = j, logits[i, j]
            out[i, axis] = best - start
            start += sizes[axis]
    return out
