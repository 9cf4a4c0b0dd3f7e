"""One honest comparison: every policy on the same traffic, in the same world, with certainty."""

from gpupilot_agent.comparison.config import CompareConfig
from gpupilot_agent.comparison.running import compare
from gpupilot_agent.comparison.scene import Scene

__all__ = ["CompareConfig", "Scene", "compare"]
