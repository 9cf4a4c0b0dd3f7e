"""What a comparison is asked to do; everything that decides its numbers, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gpupilot_agent.baselines.registry import TUNED
from gpupilot_agent.bundle import Bundle
from gpupilot_agent.comparison.contenders import LEARNED, check_names
from gpupilot_agent.comparison.scene import Scene
from gpupilot_agent.tracking import digest
from gpupilot_agent.tuned import Tuned
from gpupilot_envs.errors import InputInvalid, TraceInvalid
from gpupilot_envs.workload.trace import RateTrace

LEVELS = (0.95, 0.98, 0.99, 0.995, 0.999)
"""Attainment levels at which costs are read, besides the objective's own."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CompareConfig:
    """A comparison: who, on what, how often.

    Attributes:
        scene: Service, objective and surroundings.
        traces: Traffic, none of which any policy was trained or tuned on.
        policies: Names, see :func:`.contenders.known_policies`.
        seeds: Repetitions of each trace, seeds 0 to ``seeds - 1``.
        levels: Attainment levels at which costs are read.
        tuned: Result of ``gpupilot tune``, for names that end in ``-tuned``.
        bundles: The learned policy, for ``ppo``: one bundle per training seed.

    Raises:
        InputInvalid: On construction: a policy is unknown, given twice or lacks its bundle, two
            traces share a name, or a number is out of range.
    """

    scene: Scene
    traces: tuple[RateTrace, ...]
    policies: tuple[str, ...]
    seeds: int = 10
    levels: tuple[float, ...] = LEVELS
    tuned: Tuned | None = None
    bundles: tuple[Bundle, ...] = ()

    def __post_init__(self) -> None:
        """Check what no type can."""
        check_names(self.policies)
        check_traces(self.traces)
        learned = [name for name in self.policies if name.removesuffix(TUNED) == LEARNED]
        if learned and not self.bundles:
            raise InputInvalid("policies", learned[0], "a trained policy bundle; gpupilot train")
        if len({bundle.sha256 for bundle in self.bundles}) < len(self.bundles):
            raise InputInvalid("bundles", len(self.bundles), "each trained policy once")
        if self.seeds < 1:
            raise InputInvalid("seeds", self.seeds, "1 or more")
        for level in (*self.levels, self.scene.targets.attainment_ratio):
            if not 0.0 < level < 1.0:
                raise InputInvalid("attainment", level, "a share above 0 and below 1")

    @property
    def all_levels(self) -> tuple[float, ...]:
        """The levels to read costs at, the objective's own among them, ascending."""
        return tuple(sorted({*self.levels, self.scene.targets.attainment_ratio}))

    def identity(self) -> dict[str, Any]:
        """Return everything that determines the numbers, JSON-like."""
        return {
            "scene": self.scene.identity(),
            "traces": {trace.name: trace.sha256 for trace in self.traces},
            "policies": list(self.policies),
            "seeds": self.seeds,
            "levels": list(self.all_levels),
            "tuned": None if self.tuned is None else digest(self.tuned.model_dump(mode="json")),
            "bundles": [bundle.sha256 for bundle in self.bundles],
        }


def check_traces(traces: Sequence[RateTrace]) -> None:
    """Refuse an empty set of traces and names that are not unique.

    Raises:
        TraceInvalid: Says which.
    """
    if not traces:
        raise TraceInvalid("traces", "none", "at least one trace")
    names = [trace.name for trace in traces]
    for name in names:
        if names.count(name) > 1:
            raise TraceInvalid("traces", name, "each trace once, under its own name")
