"""Baselines by name: what they are built from, and what of each may be tuned in which range."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from math import isfinite
from typing import Any

from gpupilot_agent.baselines.clairvoyant import Clairvoyant, smoothed_rates
from gpupilot_agent.baselines.dynamo import Dynamo
from gpupilot_agent.baselines.fixed import StaticPeak, StaticReplicas, peak_rps
from gpupilot_agent.baselines.hpa import Hpa
from gpupilot_agent.baselines.keda import Keda
from gpupilot_agent.baselines.kpa import Kpa
from gpupilot_agent.baselines.queueing_gears import QueueingGears
from gpupilot_agent.baselines.queueing_model import QueueingModel
from gpupilot_agent.baselines.ray_serve import RayServe
from gpupilot_agent.baselines.wva import Wva
from gpupilot_agent.policies import Policy
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.workload.trace import RateTrace

TUNED = "-tuned"
"""Ending of a name that stands for the same algorithm with tuned parameters."""

_BUILDERS: dict[str, Callable[..., Any]] = {
    "static": StaticReplicas,
    "static-peak": StaticPeak,
    "hpa": Hpa,
    "hpa-behavior": partial(Hpa, behavior=True),
    "hpa-rate": partial(Hpa, metric="rate", window_s=60.0),
    "hpa-rate-behavior": partial(Hpa, metric="rate", behavior=True, window_s=60.0),
    "keda": Keda,
    "keda-fallback": partial(Keda, fallback=True),
    "kpa": Kpa,
    "kpa-rps": partial(Kpa, metric="rps"),
    "ray": RayServe,
    "dynamo": Dynamo,
    "wva": Wva,
    "queueing": QueueingModel,
    "queueing-5s": partial(QueueingModel, period_s=5.0, window_s=5.0),
    "predictive": partial(QueueingModel, beta=0.2, conformal=True),
    "queueing-gears": QueueingGears,
    "predictive-5s": partial(QueueingModel, beta=0.2, conformal=True, period_s=5.0, window_s=5.0),
    "clairvoyant": Clairvoyant,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """The range of one tunable number.

    Attributes:
        low: Smallest value, inclusive.
        high: Largest value, inclusive.
        default: The published default, or ours where none is published.
        log: Whether equal ratios count as equal steps.
        integer: Whether only whole numbers make sense.
    """

    low: float
    high: float
    default: float
    log: bool = False
    integer: bool = False

    def at(self, share: float) -> float:
        """Return the value at ``share`` of the way from low to high, 0 to 1."""
        ratio = self.high / self.low if self.log else 1.0
        value = self.low * ratio**share if self.log else self.low + share * (self.high - self.low)
        return float(round(value)) if self.integer else value


SearchSpace = Mapping[str, Dimension]
"""Tunable parameters of one algorithm by field name."""

_SHARE = Dimension(low=0.5, high=1.15, default=0.8)
_WINDOW = Dimension(low=5.0, high=120.0, default=60.0, log=True)
_STABILIZATION = Dimension(low=15.0, high=600.0, default=300.0, log=True)
_HPA: SearchSpace = {
    "target_ratio": Dimension(low=0.4, high=0.99, default=0.8),
    "stabilization_s": _STABILIZATION,
    "window_s": Dimension(low=5.0, high=120.0, default=30.0, log=True),
}
_ON_RATE: SearchSpace = {
    "target_ratio": _SHARE,
    "stabilization_s": _STABILIZATION,
    "window_s": _WINDOW,
}
_UP_WINDOW: SearchSpace = {"up_window_s": Dimension(low=0.0, high=120.0, default=0.0)}
_KPA: SearchSpace = {
    "target_ratio": Dimension(low=0.1, high=1.2, default=0.7),
    "stable_window_s": Dimension(low=10.0, high=120.0, default=60.0, log=True),
    "panic_window_ratio": Dimension(low=0.05, high=0.5, default=0.1, log=True),
    "panic_threshold": Dimension(low=1.1, high=4.0, default=2.0),
    "down_delay_s": Dimension(low=0.0, high=600.0, default=0.0),
}
_QUEUEING: SearchSpace = {
    "z": Dimension(low=0.0, high=4.0, default=1.5),
    "hold_s": Dimension(low=15.0, high=600.0, default=120.0, log=True),
    "alpha": Dimension(low=0.15, high=1.0, default=0.6),
    "drain_s": Dimension(low=2.0, high=60.0, default=15.0, log=True),
}
_PREDICTIVE: SearchSpace = {
    **_QUEUEING,
    "beta": Dimension(low=0.02, high=0.8, default=0.2, log=True),
    "lead_ratio": Dimension(low=0.25, high=2.0, default=1.0),
}

SEARCH_SPACES: dict[str, SearchSpace] = {
    "static": {"replicas": Dimension(low=1, high=32, default=4, integer=True)},
    "static-peak": {"headroom_ratio": Dimension(low=0.6, high=1.6, default=1.0)},
    "hpa": _HPA,
    "hpa-behavior": {**_HPA, **_UP_WINDOW},
    "hpa-rate": _ON_RATE,
    "hpa-rate-behavior": {**_ON_RATE, **_UP_WINDOW},
    "keda": _ON_RATE,
    "keda-fallback": _ON_RATE,
    "kpa": _KPA,
    "kpa-rps": {**_KPA, "target_ratio": Dimension(low=0.5, high=1.15, default=0.7)},
    "ray": {
        "target_ongoing": Dimension(low=0.2, high=16.0, default=2.0, log=True),
        "up_delay_s": Dimension(low=0.0, high=60.0, default=30.0),
        "down_delay_s": Dimension(low=15.0, high=900.0, default=600.0, log=True),
        "window_s": Dimension(low=5.0, high=60.0, default=30.0, log=True),
    },
    "dynamo": {
        "forecast_s": Dimension(low=30.0, high=300.0, default=180.0, log=True),
        "down_sensitivity": Dimension(low=0.3, high=1.0, default=0.8),
        "target_ratio": Dimension(low=0.2, high=1.5, default=1.0),
        "engine_ratio": Dimension(low=0.4, high=1.2, default=1.0),
    },
    "wva": {
        "latency_margin": Dimension(low=1.0, high=4.0, default=1.0),
        "sizing_s": Dimension(low=15.0, high=120.0, default=60.0, log=True),
        "up_window_s": Dimension(low=0.0, high=240.0, default=240.0),
        "down_window_s": Dimension(low=15.0, high=600.0, default=240.0, log=True),
    },
    "queueing": _QUEUEING,
    "queueing-5s": _QUEUEING,
    "predictive": _PREDICTIVE,
    "queueing-gears": {
        **_PREDICTIVE,
        "lasting_s": Dimension(low=120.0, high=900.0, default=900.0, log=True),
        "payback_s": Dimension(low=60.0, high=900.0, default=300.0, log=True),
    },
    "predictive-5s": _PREDICTIVE,
    "clairvoyant": {"z": Dimension(low=0.0, high=4.0, default=1.0)},
}
"""What ``gpupilot tune`` may move; every algorithm gets the same number of trials."""


def names() -> tuple[str, ...]:
    """Return the names :func:`make` knows, without their tuned variants."""
    return tuple(_BUILDERS)


def make(
    name: str, params: Mapping[str, float] | None = None, *, trace: RateTrace | None = None
) -> Policy:
    """Build a baseline with its published defaults, or with ``params`` over them.

    Args:
        name: One of :func:`names`, or one of them with ``-tuned`` behind it and ``params``.
        params: Numbers by field name of the policy.
        trace: The traffic to come, for ``static-peak`` and ``clairvoyant`` only.

    Raises:
        InputInvalid: The name or a parameter is unknown, a value is not finite, a tuned name
            comes without parameters, or a trace is needed and missing.
    """
    algorithm = name.removesuffix(TUNED)
    if algorithm not in _BUILDERS:
        raise InputInvalid("policy", name, f"one of {', '.join(names())}")
    if name != algorithm and not params:
        raise InputInvalid("policy", name, "tuned parameters; run gpupilot tune first")
    given = _checked(algorithm, params or {})
    known = _known_beforehand(algorithm, trace, given)
    policy: Policy = _BUILDERS[algorithm](**{"name": name, **known, **given})
    return policy


def _checked(algorithm: str, params: Mapping[str, float]) -> dict[str, float]:
    kinds = _numbers(_BUILDERS[algorithm])
    checked: dict[str, float] = {}
    for key, value in params.items():
        if key not in kinds:
            raise InputInvalid(f"{algorithm} parameter", key, f"one of {', '.join(kinds)}")
        if not isfinite(value):
            raise InputInvalid(f"{algorithm}.{key}", value, "a finite number")
        checked[key] = round(value) if kinds[key] == "int" else float(value)
        if kinds[key] == "bool":
            checked[key] = bool(value)
    return checked


def _numbers(builder: Callable[..., Any]) -> dict[str, str]:
    policy: Any = builder.func if isinstance(builder, partial) else builder
    kinds = {field.name: str(field.type) for field in fields(policy)}
    return {name: kind for name, kind in kinds.items() if kind in ("float", "int", "bool")}


def _known_beforehand(
    algorithm: str, trace: RateTrace | None, given: Mapping[str, object]
) -> dict[str, object]:
    if algorithm == "static-peak" and "peak_rps" not in given:
        return {"peak_rps": peak_rps(_required(algorithm, trace))}
    if algorithm == "clairvoyant":
        return {"rates_rps": smoothed_rates(_required(algorithm, trace))}
    return {}


def _required(algorithm: str, trace: RateTrace | None) -> RateTrace:
    if trace is None:
        raise InputInvalid("policy", algorithm, "the trace it is to know beforehand")
    return trace
