"""Which readings drove a learned move, and which other moves the network considered.

The move's log-probability is shared out among the numbers the network saw by their Shapley values
against the usual observation of the service: starting from the usual one, the numbers are set to
what was seen one after the other, in many orders, and each is credited with what its turn changed
(Štrumbelj and Kononenko, *Knowledge and Information Systems* 41, 2014). Leaving out one number at a
time would credit nothing to two that tell the same story; in any order the first of them gets it.
The credits add up exactly to the difference between the two observations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpupilot_agent.policies import Evidence

ORDERS = 64
"""Orders drawn, each also played backwards: thousands of answers, some milliseconds."""

Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""From observations, float32, shape ``(n, fields)``, to logits, shape ``(n, sum of the axes)``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """What one number of the observation did for the move.

    Attributes:
        name: Field of the observation.
        value: As it was seen.
        usual: As it usually is on this service.
        credit: Natural logarithm of how many times likelier it made the move; negative where it
            spoke against it.
    """

    name: str
    value: float
    usual: float
    credit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One value of one axis of the action table.

    Attributes:
        axis: What is moved.
        value: To what.
        probability: The network's, 0 to 1.
        taken: Whether it was the one taken.
    """

    axis: str
    value: float
    probability: float
    taken: bool


def usual(observations: Sequence[Sequence[float]]) -> NDArray[np.float32]:
    """Return the usual observation of a service: the median of each number, shape ``(fields,)``."""
    return np.median(np.array(observations, dtype=np.float32), axis=0)


def drivers(
    evidence: Evidence,
    network: Network,
    ordinary: NDArray[np.float32],
    *,
    field_names: Sequence[str],
    axes: Sequence[Mapping[str, Any]],
) -> tuple[Driver, ...]:
    """Return every number's share in the move, the strongest first; the same call, the same answer.

    Args:
        evidence: What was seen and what was taken.
        network: The policy's, :meth:`gpupilot_agent.bundle.Bundle.logits`.
        ordinary: The usual observation, see :func:`usual`.
        field_names: Names of the numbers, in order.
        axes: The action table.
    """
    seen = np.array(evidence.observation, dtype=np.float32)
    sizes = [len(axis["values"]) for axis in axes]

    # what could not be chosen then stays out, whatever is read
    open_then = np.isfinite(np.array(evidence.logits))

    def worth(observations: NDArray[np.float32]) -> NDArray[np.float64]:
        answers = np.where(open_then, network(observations), np.float32(-np.inf))
        return _log_probability(answers, evidence.action, sizes)

    shares = _shapley(worth, seen, ordinary)
    found = [
        Driver(name=name, value=float(value), usual=float(common), credit=float(credit))
        for name, value, common, credit in zip(field_names, seen, ordinary, shares, strict=True)
    ]
    return tuple(sorted(found, key=lambda driver: -abs(driver.credit)))


def choices(evidence: Evidence, axes: Sequence[Mapping[str, Any]]) -> tuple[Choice, ...]:
    """Return the network's probability of each value of each axis, the likeliest first."""
    logits = np.array([evidence.logits])
    found: list[Choice] = []
    parts = np.split(logits, np.cumsum([len(axis["values"]) for axis in axes])[:-1], axis=1)
    for axis, part, taken in zip(axes, parts, evidence.action, strict=True):
        shares = np.exp(_log_softmax(part))[0]
        found += [
            Choice(
                axis=str(axis["name"]),
                value=float(axis["values"][index]),
                probability=float(shares[index]),
                taken=index == taken,
            )
            for index in np.argsort(-shares, kind="stable").tolist()
        ]
    return tuple(found)


def _shapley(
    worth: Callable[[NDArray[np.float32]], NDArray[np.float64]],
    seen: NDArray[np.float32],
    ordinary: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Return the sampled Shapley value of every number; orders and their reverses, fixed seed."""
    count = len(seen)
    random = np.random.default_rng(0)
    drawn = [random.permutation(count) for _ in range(ORDERS)]
    shares = np.zeros(count)
    for order in [*drawn, *(order[::-1] for order in drawn)]:
        # row k has the first k numbers of the order as seen, the others as usual
        rank = np.empty(count, dtype=np.int64)
        rank[order] = np.arange(count)
        steps = np.where(rank[None, :] < np.arange(count + 1)[:, None], seen, ordinary)
        shares[order] += np.diff(worth(np.ascontiguousarray(steps, dtype=np.float32)))
    return shares / (2 * ORDERS)


def _log_probability(
    logits: NDArray[np.float32], action: Sequence[int], sizes: Sequence[int]
) -> NDArray[np.float64]:
    """Return the joint log-probability of ``action`` under each row of logits."""
    parts = np.split(logits.astype(np.float64), np.cumsum(sizes)[:-1], axis=1)
    taken = [_log_softmax(part)[:, index] for part, index in zip(parts, action, strict=True)]
    return np.asarray(np.sum(taken, axis=0), dtype=np.float64)


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))
