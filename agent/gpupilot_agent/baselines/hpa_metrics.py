"""HPA v2, first half: from a metric to a raw replica count.

Source: kubernetes/kubernetes ``pkg/controller/podautoscaler/replica_calculator.go`` (v1.33 and
later: ``calcPlainMetricReplicas``, ``GetExternalPerPodMetricReplicas``). Metric values are
integers in thousandths there, and so they are here; ratios are floats and ``ceil`` is taken of
the float, without any epsilon, as upstream does.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

TOLERANCE = 0.1
"""``--horizontal-pod-autoscaler-tolerance``."""


def milli(value: float) -> int:
    """Return a value as the integer thousandths the metrics API carries."""
    return round(value * 1000.0)


def within(ratio: float, tolerance: float = TOLERANCE) -> bool:
    """Whether a usage ratio is close enough to 1 to leave the replicas alone."""
    return 1.0 - tolerance <= ratio <= 1.0 + tolerance


def pods_metric_replicas(
    usage_milli: Sequence[int],
    *,
    unready: int,
    missing: int,
    current: int,
    target_milli: int,
    tolerance: float = TOLERANCE,
) -> int | None:
    """Return the raw recommendation of a Pods metric with an AverageValue target.

    Args:
        usage_milli: The metric of every ready pod that reports one.
        unready: Pods in phase Pending: left out, counted as 0 when scaling up.
        missing: Pods without a metric: counted as on target when scaling down, as 0 otherwise.
        current: Present ``spec.replicas``.
        target_milli: Target average.
        tolerance: Half-width of the band round 1 in which nothing changes.

    Returns:
        The recommendation, or ``None`` when no ready pod reports: upstream errs and holds.
    """
    if not usage_milli:
        return None
    ratio = (sum(usage_milli) // len(usage_milli)) / target_milli
    rebalance = unready > 0 and ratio > 1.0
    if not rebalance and missing == 0:
        return current if within(ratio, tolerance) else ceil(ratio * len(usage_milli))
    assumed = [target_milli if ratio < 1.0 else 0] * missing + [0] * (unready * rebalance)
    enlarged = [*usage_milli, *assumed]
    ratio_then = (sum(enlarged) // len(enlarged)) / target_milli
    if within(ratio_then, tolerance) or (ratio - 1.0) * (ratio_then - 1.0) < 0.0:
        return current
    replicas = ceil(ratio_then * len(enlarged))
    reverses = replicas > current if ratio_then < 1.0 else replicas < current
    return current if reverses else replicas


def external_average_replicas(
    usage_milli: int, *, running: int, target_milli: int, tolerance: float = TOLERANCE
) -> int:
    """Return the raw recommendation of an External metric with an AverageValue target.

    Args:
        usage_milli: The metric, summed over its series.
        running: ``status.replicas`` of the scale target, ready or not: external metrics know no
            unready pods.
        target_milli: Target per replica.
        tolerance: Half-width of the band round 1 in which nothing changes.
    """
    if running > 0 and within(usage_milli / (target_milli * running), tolerance):
        return running
    return ceil(usage_milli / target_milli)
