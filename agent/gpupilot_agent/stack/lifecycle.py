"""Brings the stack up, tells how it is, and takes it down without a trace."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

import numpy as np
import yaml

from gpupilot_agent.stack import gateway, monitoring, processes, state
from gpupilot_agent.stack.plan import (
    GATEWAY_PORT,
    LOOPBACK,
    PROMETHEUS_PORT,
    StackPlan,
    chosen_port,
    free_ports,
)
from gpupilot_agent.stack.server import Ports, Replica
from gpupilot_agent.stack.state import SHARED_MEMORY, StackState
from gpupilot_agent.stack.tools import Say, Toolbox, toolbox
from gpupilot_agent.triton import repository
from gpupilot_agent.triton.client import Client
from gpupilot_envs.atomic import write_text
from gpupilot_envs.errors import StackFailed
from gpupilot_envs.latency_sources import GATEWAY

READY_WITHIN_S = 90.0
"""Time for Triton and its models; a starved machine takes 20 times the usual 1.6 s."""
TENANTS_BYTES = 16
REALTIME = ("chrt", "--rr", "1")


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
    gateway.bounds_us(plan.target_ms)  # refuses a target that cannot be counted, before any work
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
    first = REALTIME if plan.realtime else ()
    # before the others, because it takes five seconds until it looks for its targets
    _run(plan, started, "prometheus", _prometheus(plan, started, tools))
    for index, (name, ports) in enumerate(started.replicas.items()):
        replica = Replica(
            name=name,
            ports=ports,
            repository=_repository(plan, name, seed=plan.seed + index),
            shared_memory=f"{started.shared_memory}{index}-",
        )
        command = [*first, *replica.command(tools)]
        _run(plan, started, name, command, replica.environment(tools))
    _run(plan, started, "gateway", [*first, *_envoy(plan, started, tools)])
    _await(started)


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


def _prime(started: StackState) -> None:
    """Send the first requests: a replica's first takes long, and each outcome's series begins."""
    picture = np.zeros((1, *repository.IMAGE_SHAPE), dtype=np.float32)
    for ports in started.replicas.values():
        with Client(f"http://{LOOPBACK}:{ports.http}") as ask:
            ask(picture)
    with Client(started.gateway_url) as ask:
        ask(picture)
        with suppress(StackFailed):
            ask(np.zeros((1, 1), dtype=np.float32))


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


def _repository(plan: StackPlan, name: str, *, seed: int) -> Path:
    folder = plan.folder / "models" / name
    if plan.flavour == "emulated":
        tenants = plan.folder / f"{name}.tenants"
        tenants.write_bytes(bytes(TENANTS_BYTES))
        config = repository.emulated_config(plan.profile, tenants=tenants.resolve(), seed=seed)
        repository.write_model(folder, config, code="emulated_model")
        return folder
    assert plan.model is not None  # the plan says so of this flavour
    config = repository.cpu_config(
        plan.batching, instances=plan.profile.instances_per_replica, threads=plan.threads
    )
    version = repository.write_model(folder, config, code="onnx_model")
    repository.add_onnx(version, plan.model)
    return folder


def _envoy(plan: StackPlan, started: StackState, tools: Toolbox) -> list[str]:
    folder = plan.folder.resolve()
    for protocol in ("http", "grpc"):
        ports = {name: getattr(ports, protocol) for name, ports in started.replicas.items()}
        path = folder / f"endpoints-{protocol}.json"
        write_text(path, json.dumps(gateway.assignment(protocol, ports), indent=2))
    document = gateway.bootstrap(
        port=_port(started.gateway_url),
        admin_port=_port(started.admin_url),
        endpoints=f"{folder}/endpoints-{{protocol}}.json",
        balancing=plan.balancing,
        target_ms=plan.target_ms,
    )
    path = folder / "envoy.json"
    write_text(path, json.dumps(document, indent=2))
    # one worker: round robin over all requests, not per worker
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    return [str(tools.envoy), "-c", str(path), *options]


def _prometheus(plan: StackPlan, started: StackState, tools: Toolbox) -> list[str]:
    folder = plan.folder.resolve()
    ports = {name: ports.metrics for name, ports in started.replicas.items()}
    write_text(folder / "targets.json", json.dumps(monitoring.targets(ports), indent=2))
    rules = yaml.safe_dump(monitoring.recording_rules(plan.target_ms), sort_keys=False)
    write_text(folder / "rules.yml", rules)
    document = monitoring.configuration(
        admin_port=_port(started.admin_url),
        target_ms=plan.target_ms,
        scrape_s=plan.scrape_s,
        triton=str(folder / "targets.json"),
        rules=str(folder / "rules.yml"),
    )
    write_text(folder / "prometheus.yml", yaml.safe_dump(document, sort_keys=False))
    return [
        str(tools.prometheus),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address={LOOPBACK}:{_port(started.prometheus_url)}",
        "--log.level=warn",
    ]


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def _clear(folder: Path, started: StackState) -> None:
    """End the processes, then remove what they left; the state goes last."""
    processes.stop(started.processes)
    left = [process.name for process in started.processes if process.is_alive()]
    if left:
        raise StackFailed(f"could not end {', '.join(left)}; state kept in {folder}")
    for region in SHARED_MEMORY.glob(f"{started.shared_memory}*"):
        region.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
