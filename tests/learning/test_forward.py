"""The forward pass of the export: known numbers, torch's numbers, a number for a thousand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from gpupilot_agent.forward import Network, forward, linear, most_likely

SIZES = (5, 7, 6, 4)
GOLDEN = [
    [0.88960673, 0.47817757, -0.37288581, -0.88111973],
    [1.74527361, 1.33043513, -0.30759933, -1.66282842],
    [1.47351266, 0.98747114, -0.40644681, -1.42667948],
]
"""Outputs of :func:`_network` for three inputs, from torch in double precision."""


def _network() -> Network:
    """Return weights that anybody can write down: sines of the index."""
    return tuple(
        (
            np.sin(1.0 + np.arange(a * b)).reshape(a, b).astype(np.float32),
            np.cos(np.arange(b)).astype(np.float32),
        )
        for a, b in pairwise(SIZES)
    )


def _inputs(n: int) -> np.ndarray:
    waves: np.ndarray = np.sin(0.7 * np.arange(n * SIZES[0], dtype=np.float32))
    return waves.reshape(n, SIZES[0])


def _by_torch(network: Network, inputs: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    hidden = torch.as_tensor(inputs, dtype=dtype)
    for index, (weight, bias) in enumerate(network):
        hidden = hidden @ torch.as_tensor(weight, dtype=dtype) + torch.as_tensor(bias, dtype=dtype)
        if index < len(network) - 1:
            hidden = torch.tanh(hidden)
    answer: np.ndarray = hidden.numpy()
    return answer


def test_known_weights_give_known_numbers() -> None:
    assert forward(_network(), _inputs(3)) == pytest.approx(np.array(GOLDEN), abs=1e-5)


@pytest.mark.parametrize("widths", [(43, 64, 64, 16), (50, 33, 7), (3, 2)])
def test_torch_agrees(widths: tuple[int, ...]) -> None:
    rng = np.random.default_rng(sum(widths))
    network = tuple(
        (
            rng.normal(0.0, 0.3, (a, b)).astype(np.float32),
            rng.normal(0.0, 0.3, b).astype(np.float32),
        )
        for a, b in pairwise(widths)
    )
    inputs = rng.uniform(-4.0, 4.0, (257, widths[0])).astype(np.float32)
    expected = _by_torch(network, inputs, torch.float32)
    assert forward(network, inputs) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_every_number_of_rows_is_summed_alike(n: int) -> None:
    inputs, (weight, bias) = _inputs(n), _network()[0]
    together = linear(inputs, weight, bias)
    assert together.shape == (n, SIZES[1])
    for i in range(n):
        assert linear(inputs[i : i + 1], weight, bias).tobytes() == together[i].tobytes()


def test_the_first_of_equal_logits_is_taken() -> None:
    logits = np.array([[0.0, 2.0, 2.0, 5.0, 5.0], [1.0, 0.0, 0.0, -1.0, 3.0]], dtype=np.float32)
    sizes, all_of_them = np.array([3, 2]), np.ones((2, 5), dtype=np.bool_)
    assert most_likely(logits, all_of_them, sizes).tolist() == [[1, 0], [0, 1]]
