"""The process as it is installed: what it loads, and what it says when it cannot begin."""

from __future__ import annotations

import os
import subprocess
import sys

HEAVY = ("torch", "gymnasium", "stable_baselines3", "matplotlib", "pandas", "onnx", "locust")


def ran(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, *words],
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_nothing_that_trains_or_draws_is_loaded() -> None:
    code = (
        "import sys, gpupilot_operator.main\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    assert ran("-c", code).stdout == "[]\n"


def test_a_missing_setting_is_one_sentence() -> None:
    done = ran("-m", "gpupilot_operator")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "gpupilot: GPUPILOT_PROMETHEUS_URL: None is not allowed; "
        "expected the URL of a Prometheus, http(s)://…"
    )


def test_a_cluster_that_nobody_names_is_one_sentence() -> None:
    done = ran(
        "-m",
        "gpupilot_operator",
        GPUPILOT_PROMETHEUS_URL="http://127.0.0.1:9",
        POD_NAME="one",
        POD_NAMESPACE="system",
        KUBECONFIG="/nonexistent/kubeconfig",
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("gpupilot: no API server: ")
