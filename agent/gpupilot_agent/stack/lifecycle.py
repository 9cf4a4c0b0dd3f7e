"""Brings the stack up, tells how it is, and takes it down without a trace."""

from __future__ import annotations

import json
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

import numpy as np

from gpupilot_agent.stack import container, envoy, parts, processes, state
from gpupilot_agent.stack.plan import (
    GATEWAY_PORT,
    LOOPBACK,
    PROMETHEUS_PORT,
    StackPlan,
    chosen_port,
    free_ports,
    load_plan,
    save_plan,
)
from gpupilot_agent.stack.server import Ports
from gpupilot_agent.stack.state import SHARED_MEMORY, StackState
from gpupilot_agent.stack.tools import Say, Toolbox, toolbox
from gpupilot_agent.triton import repository
from gpupilot_agent.triton.client import Client
from gpupilot_envs.errors import StackFailed
from gpupilot_envs.latency_sources import GATEWAY

DRAIN_S = 1.5
"""Between a replica's last request and its end: the gateway reads its list anew."""
READY_WITHIN_S = 90.0
"""Time for Triton and its models; a starved machine takes 20 times the usual 1.6 s."""
COMPUTING_RANK = 1
"""Of real-time priority: a server that computes leaves the processor to those that need it soon."""
WAKING_RANK = 2
"""Of those that work in short moments: gateway, sleeping servers, load generator."""


def up(plan: StackPlan, *, say: Say) -> StackState:
    """Start the stack and return once a request would be answered and Prometheus has scraped.

    Args:
        plan: What to start.
        say: Told in one line each what takes time.

    Raises:
        StackFailed: It cannot be started; nothing is left running. Says why, with the log.
    """
    earlier = state.load(plan.folder)
    if earlier is not None and any(process.is_alive() for process in earlier.processes):
        raise StackFailed(f"a stack runs already in {plan.folder}; take it down first")
    if earlier is not None:
        down(plan.folder)
    if plan.flavour == "gpu":
        container.engine_for(plan.image)
    tools = toolbox(say)
    started = _planned(plan)
    plan.folder.mkdir(parents=True, exist_ok=True)
    try:
        _start(plan, started, tools, say)
    except BaseException:
        _clear(plan.folder, started)
        raise
    return started


def down(folder: Path) -> bool:
    """Stop everything and remove the folder and what it left in shared memory.

    Returns:
        Whether there was a stack.

    Raises:
        StackFailed: A process could not be ended.
    """
    started = state.load(folder)
    if started is None:
        return False
    _clear(folder, started)
    return True


def scale(folder: Path, replicas: int, *, say: Say) -> StackState:
    """Start or stop model servers behind the gateway of a running stack.

    What starts gets requests when its model is ready; what stops gets none for a moment before.

    Args:
        folder: Of the stack.
        replicas: How many there shall be.
        say: Told in one line each what takes time.

    Returns:
        The stack as it is then; new replicas stand in ``cold_starts_s``.

    Raises:
        StackFailed: No stack runs there, or a server does not start; those there were stay.
    """
    started = state.load(folder)
    if started is None:
        raise StackFailed(f"no stack in {folder}; start one with `gpupilot stack up`")
    plan = load_plan(folder)
    for name in list(started.replicas)[replicas:]:
        _remove(plan, started, name)
    missing = [f"triton-{index}" for index in range(len(started.replicas), replicas)]
    if missing:
        _add(plan, started, missing, toolbox(say))
    return started


def _add(plan: StackPlan, started: StackState, names: Sequence[str], tools: Toolbox) -> None:
    ports = free_ports(3 * len(names))
    triples = zip(ports[0::3], ports[1::3], ports[2::3], strict=True)
    for name, (http, grpc, metrics) in zip(names, triples, strict=True):
        started.replicas[name] = Ports(http=http, grpc=grpc, metrics=metrics)
        started.cold_starts_s.pop(name, None)
    try:
        for name in names:
            _run_replica(plan, started, name, tools)
        _await_replicas(started, _readiness_urls(started))
        _ask_each(started, names)
    except BaseException:
        for name in names:
            _end_replica(plan, started, name)
        raise
    if plan.realtime:
        _before_all(plan, started)
    _announce(plan, started)


def _remove(plan: StackPlan, started: StackState, name: str) -> None:
    """Take a replica out of the gateway's list, let it finish, end it."""
    others = {other: ports for other, ports in started.replicas.items() if other != name}
    _announce(plan, started.model_copy(update={"replicas": others}))
    time.sleep(DRAIN_S)
    _end_replica(plan, started, name)
    state.save(plan.folder, started)


def _end_replica(plan: StackPlan, started: StackState, name: str) -> None:
    processes.stop([process for process in started.processes if process.name == name])
    if started.flavour == "gpu":
        container.remove(parts.prefix_of(started, name))
    started.processes[:] = [process for process in started.processes if process.name != name]
    started.replicas.pop(name)
    state.save(plan.folder, started)


def _announce(plan: StackPlan, started: StackState) -> None:
    parts.write_targets(plan.folder, started)
    parts.write_endpoints(plan.folder, started)
    state.save(plan.folder, started)


def status(folder: Path) -> dict[str, str] | None:
    """Return how each part is, ``None`` where no stack was started.

    Returns:
        ``ready``, ``not ready`` or ``ended`` by the part's name.
    """
    started = state.load(folder)
    if started is None:
        return None
    urls = _readiness_urls(started)
    said = {}
    for process in started.processes:
        alive = process.is_alive()
        answers = alive and answered(urls[process.name])
        said[process.name] = "ready" if answers else "not ready" if alive else "ended"
    return said


def answered(url: str) -> bool:
    """Say whether a page answers with success."""
    try:
        with urllib.request.urlopen(url, timeout=2.0) as page:
            return bool(200 <= page.status < 300)
    except (OSError, urllib.error.URLError, ValueError):
        return False


def _planned(plan: StackPlan) -> StackState:
    envoy.bounds_us(plan.target_ms)  # refuses a target that cannot be counted, before any work
    port = chosen_port(plan.gateway_port, GATEWAY_PORT, "--port")
    prometheus = chosen_port(plan.prometheus_port, PROMETHEUS_PORT, "--prometheus-port")
    admin, *ports = free_ports(1 + 3 * plan.replicas)
    triples = zip(ports[0::3], ports[1::3], ports[2::3], strict=True)
    return StackState(
        flavour=plan.flavour,
        target_ms=plan.target_ms,
        gateway_url=f"http://{LOOPBACK}:{port}",
        admin_url=f"http://{LOOPBACK}:{admin}",
        prometheus_url=f"http://{LOOPBACK}:{prometheus}",
        replicas={
            f"triton-{index}": Ports(http=http, grpc=grpc, metrics=metrics)
            for index, (http, grpc, metrics) in enumerate(triples)
        },
        shared_memory=f"gpupilot-{token_hex(4)}-",
    )


def _start(plan: StackPlan, started: StackState, tools: Toolbox, say: Say) -> None:
    say(f"starting {plan.replicas} Triton, Envoy and Prometheus")
    # before the others, because it takes five seconds until it looks for its targets
    _run(plan, started, "prometheus", parts.prometheus_command(plan, started, tools))
    for name in started.replicas:
        _run_replica(plan, started, name, tools)
    _run(plan, started, "gateway", parts.envoy_command(plan, started, tools))
    _await(started)
    if plan.realtime:
        _before_all(plan, started)
    state.save(plan.folder, started)
    save_plan(plan)


def _run_replica(plan: StackPlan, started: StackState, name: str, tools: Toolbox) -> None:
    replica = parts.replica_of(plan, started, name)
    if plan.flavour == "gpu":
        engine = container.engine_for(plan.image)
        _run(plan, started, name, container.command(engine, plan.image, replica))
    else:
        _run(plan, started, name, replica.command(tools), replica.environment(tools))


def _before_all(plan: StackPlan, started: StackState) -> None:
    """Give the gateway and the servers real-time priority; Prometheus may be late."""
    servers = WAKING_RANK if plan.flavour == "emulated" else COMPUTING_RANK
    for process in started.processes:
        if process.name in started.replicas:
            processes.before_all(process, rank=servers)
        elif process.name == "gateway":
            processes.before_all(process, rank=WAKING_RANK)


def _run(
    plan: StackPlan,
    started: StackState,
    name: str,
    command: list[str],
    environment: Mapping[str, str] | None = None,
) -> None:
    log = plan.folder / f"{name}.log"
    started.processes.append(processes.start(name, command, log, environment))
    state.save(plan.folder, started)


def _await(started: StackState) -> None:
    urls = _readiness_urls(started)
    _await_replicas(started, urls)
    for process in started.processes:
        url = urls[process.name]
        processes.wait_until(
            lambda url=url: answered(url),  # type: ignore[misc]
            [process],
            within_s=READY_WITHIN_S,
            what=process.name,
        )
    watched = [p for p in started.processes if p.name in ("gateway", "prometheus")]
    processes.wait_until(
        lambda: answered(f"{started.gateway_url}/v2/models/{repository.MODEL}/ready"),
        watched,
        within_s=READY_WITHIN_S,
        what="the model behind the gateway",
    )
    _prime(started)
    processes.wait_until(
        lambda: _scraped(started), watched, within_s=READY_WITHIN_S, what="the first scrape"
    )


def _await_replicas(started: StackState, urls: Mapping[str, str]) -> None:
    """Wait for the models, and keep how long each took since its process was started."""
    replicas = [process for process in started.processes if process.name in started.replicas]

    def ready() -> bool:
        for process in replicas:
            if process.name not in started.cold_starts_s and answered(urls[process.name]):
                started.cold_starts_s[process.name] = round(process.age_s(), 3)
        return len(started.cold_starts_s) == len(replicas)

    processes.wait_until(ready, replicas, within_s=READY_WITHIN_S, what="a model")


def _prime(started: StackState) -> None:
    """Send the first requests: a replica's first takes long, and each outcome's series begins."""
    picture = np.zeros((1, *repository.IMAGE_SHAPE), dtype=np.float32)
    _ask_each(started, list(started.replicas))
    with Client(started.gateway_url) as ask:
        ask(picture)
        with suppress(StackFailed):
            ask(np.zeros((1, 1), dtype=np.float32))


def _ask_each(started: StackState, names: Sequence[str]) -> None:
    """Send one request to each replica: its first takes long."""
    picture = np.zeros((1, *repository.IMAGE_SHAPE), dtype=np.float32)
    for name in names:
        with Client(f"http://{LOOPBACK}:{started.replicas[name].http}") as ask:
            ask(picture)


def _readiness_urls(started: StackState) -> dict[str, str]:
    replicas = {
        name: f"http://{LOOPBACK}:{ports.http}/v2/models/{repository.MODEL}/ready"
        for name, ports in started.replicas.items()
    }
    return replicas | {
        "gateway": f"{started.admin_url}/ready",
        "prometheus": f"{started.prometheus_url}/-/ready",
    }


def _scraped(started: StackState) -> bool:
    """Say whether Prometheus has seen every target and both outcomes at the gateway."""
    outcomes = f"count by (job) ({GATEWAY.histogram}_count)"
    words = urllib.parse.urlencode({"query": f"sum(up) or {outcomes}"})
    url = f"{started.prometheus_url}/api/v1/query?{words}"
    try:
        with urllib.request.urlopen(url, timeout=2.0) as page:
            found = json.load(page)["data"]["result"]
    except (OSError, ValueError, KeyError):
        return False
    return {float(series["value"][1]) for series in found} == {len(started.replicas) + 1.0, 2.0}


def _clear(folder: Path, started: StackState) -> None:
    """End the processes, then remove what they left; the state goes last."""
    processes.stop(started.processes)
    left = [process.name for process in started.processes if process.is_alive()]
    if left:
        raise StackFailed(f"could not end {', '.join(left)}; state kept in {folder}")
    if started.flavour == "gpu":
        for name in started.replicas:
            container.remove(parts.prefix_of(started, name))
    for region in SHARED_MEMORY.glob(f"{started.shared_memory}*"):
        region.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
