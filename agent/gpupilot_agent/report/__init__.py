"""The report of a comparison: one HTML file a manager can read, offline, light and dark."""

from gpupilot_agent.report.writing import write_compact, write_report

__all__ = ["write_compact", "write_report"]
