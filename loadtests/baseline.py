"""Measure the baseline table: closed-loop users at 10, 50 and 100 on the real stack.

python loadtests/baseline.py --flavour cpu

Starts a stack, lets the users of every level ask it, takes it down, and writes one folder: the
table, ``summary.json``, configuration, environment, and every request.
"""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from gpupilot_agent import tracking
from gpupilot_baseline import levels
from gpupilot_baseline.plan import Plan, parse
from gpupilot_baseline.results import Summary
from gpupilot_baseline.service import Service, service_of
from gpupilot_baseline.table import table
from gpupilot_envs.atomic import atomic_folder, write_text
from gpupilot_envs.errors import GpupilotError, OutputRefused

BAD_INPUT, INVALID = 2, 3


def main(words: list[str]) -> int:
    """Measure; returns 0, 2 when something is refused, 3 when a level's latencies are not valid."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        plan = parse(words)
        summary = measured(plan)
    except GpupilotError as error:
        sys.stderr.write(f"baseline: {error}\n")
        return BAD_INPUT
    sys.stdout.write(f"{table(summary)}\n{plan.out}: table.md, summary.json, requests and more\n")
    return 0 if all(level.valid for level in summary.levels) else INVALID


def measured(plan: Plan) -> Summary:
    """Run every level and write the folder, whole or not at all.

    Raises:
        GpupilotError: The stack, the users or the folder failed.
    """
    if plan.out.exists() and (not plan.out.is_dir() or any(plan.out.iterdir())):
        raise OutputRefused(f"{plan.out} exists already; choose another --out folder")
    with atomic_folder(plan.out) as folder, service_of(plan) as service:
        found = []
        for users in plan.users:
            sys.stderr.write(f"baseline: {users} users for {plan.seconds:g} s\n")
            found.append(levels.run(plan, service, users, folder))
        summary = Summary(
            flavour=plan.url or plan.flavour,
            target_ms=plan.target_ms,
            levels=tuple(found),
            config=_config(plan, service),
            environment=tracking.environment(),
        )
        _write(folder, summary, service)
    return summary


def _config(plan: Plan, service: Service) -> dict[str, Any]:
    config: dict[str, Any] = asdict(plan) | {"out": str(plan.out)}
    return config | {"replicas": len(service.triton)}


def _write(folder: Path, summary: Summary, service: Service) -> None:
    write_text(folder / "summary.json", summary.model_dump_json(indent=2) + "\n")
    write_text(folder / "table.md", table(summary))
    config = json.loads(json.dumps(summary.config))
    write_text(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    write_text(folder / "environment.json", json.dumps(summary.environment, indent=2) + "\n")
    if service.model_config:
        write_text(folder / "model-config.pbtxt", service.model_config)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
