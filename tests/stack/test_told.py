"""A real Triton that is told, while it runs, how to serve: what the operator relies on."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpupilot_agent.stack import processes
from gpupilot_agent.stack.plan import LOOPBACK, free_ports
from gpupilot_agent.stack.server import Ports, Replica
from gpupilot_agent.stack.tools import toolbox
from gpupilot_agent.triton import repository
from gpupilot_envs.profile import parse_profile
from gpupilot_envs.triton_server import RunningModel, running_model
from gpupilot_operator.plan import Batching
from gpupilot_operator.triton_control import load, serves

PROFILE = {
    "format": "gpupilot/profile-v1",
    "name": "sleeper",
    "batch_latency_ms": [[1, 2], [8, 9]],
    "noise_cv": 0,
    "batching": {"enabled": True, "max_batch": 8, "queue_delay_ms": 0},
}
MORE = Batching(instances=2, batch_max=8, queue_delay_us=0)
FEWER = Batching(instances=1, batch_max=4, queue_delay_us=700)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=1) as page:
            return bool(page.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int, str]]:
    """Return the URL and port of a server as its pod starts it, and its model's name."""
    folder, tools = tmp_path_factory.mktemp("told"), toolbox(print)
    config = repository.emulated_config(parse_profile(PROFILE), tenants=folder / "t", seed=0)
    models = folder / "models"
    repository.write_model(models, config, code="emulated_model")
    http, grpc, metrics = free_ports(3)
    ports = Ports(http=http, grpc=grpc, metrics=metrics)
    replica = Replica(name="told", ports=ports, repository=models, shared_memory=f"told-{http}")
    command = [
        *replica.command(tools),
        "--model-control-mode=explicit",
        f"--load-model={repository.MODEL}",
    ]
    log = Path(folder) / "triton.log"
    process = processes.start("triton", command, log, replica.environment(tools))
    url = f"http://{LOOPBACK}:{http}"
    try:
        processes.wait_until(lambda: answers(url), [process], within_s=60.0, what="Triton")
        yield url, http, repository.MODEL
    finally:
        processes.stop([process], within_s=10.0)


def test_instances_and_batching_change_while_it_runs(told: tuple[str, int, str]) -> None:
    url, port, model = told
    assert running_model(url, model) == RunningModel(batch_max=8, queue_delay_us=0, instances=1)
    assert load(LOOPBACK, model, MORE, port=port) is None
    assert running_model(url, model) == RunningModel(batch_max=8, queue_delay_us=0, instances=2)
    assert load(LOOPBACK, model, FEWER, port=port) is None
    assert running_model(url, model) == RunningModel(batch_max=4, queue_delay_us=700, instances=1)
    assert load(LOOPBACK, model, FEWER, port=port) is None
    assert load(LOOPBACK, model, FEWER, (2, 4), port=port) is None
    with urllib.request.urlopen(f"{url}/v2/models/{model}/config", timeout=5) as page:
        config = json.load(page)
    assert config["dynamic_batching"]["preferred_batch_size"] == [2, 4]
    assert serves(config, FEWER, (2, 4))


def test_what_it_does_not_take_is_said_and_changes_nothing(told: tuple[str, int, str]) -> None:
    url, port, model = told
    before = running_model(url, model)
    wrong = load(LOOPBACK, "unknown", MORE, port=port)
    assert wrong is not None
    assert "unknown" in wrong
    nonsense = Batching(instances=-1, batch_max=-4, queue_delay_us=0)
    assert load(LOOPBACK, model, nonsense, port=port) is not None
    assert running_model(url, model) == before
    assert answers(url)
