"""The server under test: a stack that is started and taken down, or one that runs already."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gpupilot_agent.stack.state import StackState
from gpupilot_agent.triton.repository import MODEL
from gpupilot_baseline.plan import Plan
from gpupilot_envs.errors import StackFailed
from gpupilot_envs.triton_server import running_model

GPUPILOT = Path(sys.executable).with_name("gpupilot")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Where to send requests and where to look meanwhile.

    Attributes:
        url: Where requests go.
        triton: HTTP address of every replica.
        instances: Of the model, over all replicas.
        prometheus: Its Prometheus, empty where there is none.
        pids: Servers whose CPU and memory are ours to read.
        model_config: What Triton runs the model with, as text; empty where it is not ours.
    """

    url: str
    triton: tuple[str, ...]
    instances: int
    prometheus: str
    pids: tuple[int, ...] = ()
    model_config: str = ""


@contextmanager
def service_of(plan: Plan) -> Iterator[Service]:
    """Yield the server; a stack that was started for it is taken down in any case.

    Raises:
        StackFailed: The stack does not start or does not end.
        InputInvalid: A server that is said to run does not have the model.
        MetricsUnavailable: It does not answer.
    """
    if plan.url:
        yield Service(
            url=plan.url,
            triton=plan.triton,
            instances=_instances(plan.triton),
            prometheus=plan.prometheus,
        )
        return
    with tempfile.TemporaryDirectory(prefix="gpupilot-baseline-") as place:
        folder = Path(place) / "stack"
        try:
            yield _started(plan, folder)
        finally:
            _gpupilot("stack", "down", "--folder", str(folder))


def _started(plan: Plan, folder: Path) -> Service:
    given = ("--flavour", plan.flavour, "--target-ms", f"{plan.target_ms:g}")
    said = _gpupilot("stack", "up", "--folder", str(folder), "--json", *given, *plan.stack_options)
    state = StackState.model_validate(json.loads(said))
    triton = tuple(state.replica_urls().values())
    configs = sorted(folder.glob("models/triton-0/*/config.pbtxt"))
    return Service(
        url=state.gateway_url,
        triton=triton,
        instances=_instances(triton),
        prometheus=state.prometheus_url,
        pids=tuple(p.pid for p in state.processes if p.name.startswith("triton-")),
        model_config="".join(path.read_text(encoding="utf-8") for path in configs),
    )


def _instances(triton: Sequence[str]) -> int:
    return sum(running_model(url, MODEL).instances for url in triton)


def _gpupilot(*words: str) -> str:
    """Run our command line as a user would, its messages shown, and return what it prints."""
    done = subprocess.run([str(GPUPILOT), *words], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise StackFailed(f"`gpupilot {' '.join(words[:2])}` ended with {done.returncode}")
    return done.stdout
