"""What a cluster was like when a test on it failed: what a person would look at first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gpupilot_testbed.running import Cluster

LOOKS = (
    ("get", "gpisvc,deployments,pods", "--all-namespaces", "--output=wide"),
    ("get", "nodes", "--output=wide"),
    (
        "get",
        "gpisvc",
        "--all-namespaces",
        "--output=jsonpath={range .items[*]}{.status}{'\\n'}{end}",
    ),
    ("get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"),
)
LINES_MOST = 60


def described(cluster: Cluster, logs: Path) -> str:
    """Return services, pods, nodes, statuses, the newest events, and the ends of logs.

    Args:
        cluster: The cluster.
        logs: Folder in whose folders the operators' logs lie.
    """
    return "\n\n".join([*_looked(cluster), *_logged(logs)])


def _looked(cluster: Cluster) -> Iterator[str]:
    for words in LOOKS:
        try:
            said = cluster.kubectl("--request-timeout=10s", *words)
        except AssertionError as error:
            said = str(error)
        yield "\n".join(["$ kubectl " + " ".join(words), *said.splitlines()[-LINES_MOST:]])


def _logged(folder: Path) -> Iterator[str]:
    for log in sorted(folder.glob("*/operator.log")):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        yield "\n".join([f"$ tail {log}", *lines[-LINES_MOST:]])
