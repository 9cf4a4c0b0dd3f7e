"""``python -m gpupilot_operator`` runs the operator."""

from __future__ import annotations

from gpupilot_operator.main import run

if __name__ == "__main__":
    run()
