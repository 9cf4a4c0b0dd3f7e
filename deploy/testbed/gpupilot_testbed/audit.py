"""The API server's audit log: who asked what of it and what came of it, read back as data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gpupilot_envs.atomic import write_text

POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    # one record for a request: when it ended, or for a watch when it began to answer
    "omitStages": ["RequestReceived", "Panic"],
    "rules": [{"level": "Metadata"}],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request to the API server.

    Attributes:
        user: Who asked.
        verb: As in a role.
        group: API group, empty for the core one and for no resource.
        resource: With its subresource, such as ``pods/resize``; empty for a path without one.
        namespace: Empty for all or none.
        name: Empty for a collection.
        path: The path and query.
        status: HTTP status of the answer.
    """

    user: str
    verb: str
    group: str
    resource: str
    namespace: str
    name: str
    path: str
    status: int


def flags(folder: Path) -> list[str]:
    """Return the API server's flags that make it write an audit log into a folder."""
    policy = folder / "audit-policy.yaml"
    write_text(policy, yaml.safe_dump(POLICY))
    return [
        f"--audit-policy-file={policy}",
        f"--audit-log-path={log(folder)}",
        # read by a test while it is written
        "--audit-log-mode=blocking",
    ]


def log(folder: Path) -> Path:
    """Return where the audit log of a cluster is."""
    return folder / "audit.log"


def asked(folder: Path) -> Iterator[Asked]:
    """Yield every request so far, oldest first; a line that is being written is left out."""
    for line in log(folder).read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            yield _asked(json.loads(line))


def _asked(record: dict[str, Any]) -> Asked:
    what, answer = record.get("objectRef", {}), record.get("responseStatus", {})
    whole = (what.get("resource", ""), what.get("subresource", ""))
    return Asked(
        user=record["user"].get("username", ""),
        verb=record["verb"],
        group=what.get("apiGroup", ""),
        resource="/".join(filter(None, whole)),
        namespace=what.get("namespace", ""),
        name=what.get("name", ""),
        path=record["requestURI"],
        status=answer.get("code", 0),
    )
