"""What each part of the stack is started with: files it reads, and its command line."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from gpupilot_agent.stack import gateway, monitoring
from gpupilot_agent.stack.plan import LOOPBACK, StackPlan
from gpupilot_agent.stack.server import Replica
from gpupilot_agent.stack.state import StackState
from gpupilot_agent.stack.tools import Toolbox
from gpupilot_agent.triton import repository
from gpupilot_envs.atomic import write_text

TENANTS_BYTES = 16
TARGETS = "targets.json"


def replica_of(plan: StackPlan, started: StackState, name: str) -> Replica:
    """Write a replica's model repository and return what is to be started."""
    return Replica(
        name=name,
        ports=started.replicas[name],
        repository=_repository(plan, name, seed=plan.seed + _index(name)),
        shared_memory=prefix_of(started, name),
    )


def prefix_of(started: StackState, name: str) -> str:
    """Return a replica's own prefix in shared memory, and of its container."""
    return f"{started.shared_memory}{_index(name)}-"


def _index(name: str) -> int:
    return int(name.rpartition("-")[2])


def write_endpoints(folder: Path, started: StackState) -> None:
    """Tell the gateway which replicas there are; it watches the files."""
    for protocol in ("http", "grpc"):
        ports = {name: getattr(ports, protocol) for name, ports in started.replicas.items()}
        path = folder.resolve() / f"endpoints-{protocol}.json"
        write_text(path, json.dumps(gateway.assignment(protocol, ports), indent=2))


def write_targets(folder: Path, started: StackState) -> None:
    """Tell Prometheus which replicas to scrape; it watches the file."""
    ports = {name: ports.metrics for name, ports in started.replicas.items()}
    write_text(folder.resolve() / TARGETS, json.dumps(monitoring.targets(ports), indent=2))


def _repository(plan: StackPlan, name: str, *, seed: int) -> Path:
    folder = plan.folder / "models" / name
    if plan.flavour == "emulated":
        tenants = plan.folder / f"{name}.tenants"
        tenants.write_bytes(bytes(TENANTS_BYTES))
        config = repository.emulated_config(plan.profile, tenants=tenants.resolve(), seed=seed)
        repository.write_model(folder, config, code="emulated_model")
        return folder
    assert plan.model is not None  # the plan says so of these flavours
    instances = plan.profile.instances_per_replica
    if plan.flavour == "gpu":
        version = repository.write_model(
            folder, repository.gpu_config(plan.batching, instances=instances)
        )
        repository.add_onnx(version, plan.model)
        return folder
    config = repository.cpu_config(plan.batching, instances=instances, threads=plan.threads)
    version = repository.write_model(folder, config, code="onnx_model")
    repository.add_onnx(version, plan.model)
    return folder


def envoy_command(plan: StackPlan, started: StackState, tools: Toolbox) -> list[str]:
    """Write the gateway's configuration and return its command line."""
    folder = plan.folder.resolve()
    write_endpoints(folder, started)
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


def prometheus_command(plan: StackPlan, started: StackState, tools: Toolbox) -> list[str]:
    """Write Prometheus' configuration and return its command line."""
    folder = plan.folder.resolve()
    write_targets(folder, started)
    rules = yaml.safe_dump(monitoring.recording_rules(plan.target_ms), sort_keys=False)
    write_text(folder / "rules.yml", rules)
    document = monitoring.configuration(
        admin_port=_port(started.admin_url),
        target_ms=plan.target_ms,
        scrape_s=plan.scrape_s,
        triton=str(folder / TARGETS),
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
