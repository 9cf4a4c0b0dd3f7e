"""A full cluster with our images, a real Prometheus that finds its pods, and the operator."""

from __future__ import annotations

import csv
import itertools
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gpupilot_agent.stack import processes
from gpupilot_agent.triton.client import Client
from gpupilot_agent.triton.repository import MODEL
from gpupilot_envs.errors import StackFailed
from gpupilot_operator import naming
from gpupilot_testbed import operators, running, serving
from gpupilot_testbed.api import APPLY, MERGE, done, merged
from gpupilot_testbed.describing import described
from gpupilot_testbed.operating import operated
from gpupilot_testbed.operators import Operator
from gpupilot_testbed.running import PATIENCE_S, Cluster, until
from gpupilot_testbed.witness import Witness

ROOT = Path(__file__).resolve().parents[2]
CRDS = ROOT / "deploy" / "crds"
SAMPLE = ROOT / "deploy" / "samples" / "emulated-gpu.yaml"
SHOP = "shop"
"""The sample's service."""
SERVICES = f"/apis/{naming.API_VERSION}/namespaces/default/{naming.PLURAL}"
OFTEN = {"tick_seconds": "1", "window_seconds": "5"}
"""Settings of the operator: so that tests need not wait."""
LOCUST = (
    *("--headless", "--only-summary", "--warm-up", "0", "--duration", "1800"),
    # what is late for want of CPU, here or in the pods, is not lost
    *("--timeout-s", "60", "--lag-limit-ms", "60000"),
)
_numbers = itertools.count()


@dataclass(slots=True, kw_only=True)
class System:
    """Everything that a user has.

    Attributes:
        folder: For files of the tests.
        cluster: The cluster.
        prometheus: URL of the Prometheus.
        witness: Sees every change of replicas.
        operator: The operator.
    """

    folder: Path
    cluster: Cluster
    prometheus: str
    witness: Witness
    operator: Operator

    def start(self) -> None:
        """Start the operator, and the namespace of its Lease where it is not there."""
        body = {"metadata": {"name": operators.NAMESPACE}}
        self.cluster.api.ask("POST", "/api/v1/namespaces", body)
        self.operator = operators.start(
            self.folder / "operator-0", self.cluster.kubeconfig, self.prometheus, **OFTEN
        )

    def stop(self) -> None:
        """Stop the operator."""
        self.operator.stop()

    def apply_sample(self) -> None:
        """Apply the sample as the documentation says; return when it is ready and decided for.

        The first decision waits until what a pod carries is worked out, which is compiled once.
        """
        self.cluster.kubectl("apply", "-f", str(CRDS), "-f", str(SAMPLE))
        until(lambda: self.condition(SHOP, "Ready")[0] == "True")
        until(lambda: self.condition(SHOP, "PolicyReady")[0] == "True")

    def resource(self, name: str) -> dict[str, Any]:
        """Return a service as it is."""
        found: dict[str, Any] = self.cluster.api.get(f"{SERVICES}/{name}")
        return found

    def status(self, name: str) -> dict[str, Any]:
        """Return the status of a service, empty before the first look at it."""
        found: dict[str, Any] = self.resource(name).get("status", {})
        return found

    def autoscaling(self, name: str) -> dict[str, Any]:
        """Return what a service's status says of decisions."""
        found: dict[str, Any] = self.status(name).get("autoscaling", {})
        return found

    def beside(self, given: str, called: str, **changes: Any) -> None:
        """Create a service like a given one, some of its spec changed."""
        body = self.resource(given)
        made = {key: body[key] for key in ("apiVersion", "kind")}
        made |= {"metadata": {"name": called}, "spec": merged(body["spec"], changes)}
        done(self.cluster.api.ask("POST", SERVICES, made))

    def store(self, name: str, of: str, key: str, text: str) -> None:
        """Keep a text in a ConfigMap of a service, under a key, instead of what it held."""
        metadata = {"name": name, "labels": {"gpupilot.dev/service": of}}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {key: text}}
        path = f"/api/v1/namespaces/default/configmaps/{name}?fieldManager=user&force=true"
        done(self.cluster.api.ask("PATCH", path, body, kind=APPLY))

    def condition(self, name: str, kind: str) -> tuple[str, str]:
        """Return the status and the reason of a condition, empty where it is not there."""
        for each in self.status(name).get("conditions", []):
            if each["type"] == kind:
                return each["status"], each["reason"]
        return "", ""

    def change(self, name: str, spec: dict[str, Any]) -> None:
        """Change a service as a user's patch would."""
        done(self.cluster.api.ask("PATCH", f"{SERVICES}/{name}", {"spec": spec}, kind=MERGE))

    def objects(self, version: str, plural: str, name: str) -> list[dict[str, Any]]:
        """Return what there is of a service."""
        root = "/api/v1" if version == "v1" else f"/apis/{version}"
        label = f"gpupilot.dev/service={name}"
        found: list[dict[str, Any]] = self.cluster.api.get(
            f"{root}/namespaces/default/{plural}?labelSelector={label}"
        )["items"]
        return found

    def replicas(self, name: str) -> int:
        """Return how many pods a service asks for."""
        return sum(
            each["spec"]["replicas"] for each in self.objects("apps/v1", "deployments", name)
        )

    def front(self, name: str) -> dict[str, Any]:
        """Return what a Service says of where its requests go."""
        path = f"/api/v1/namespaces/default/services/{name}"
        found: dict[str, Any] = self.cluster.api.get(path)["spec"]
        return found

    def url(self, name: str, protocol: str = "http") -> str:
        """Return where users' requests to a service go."""
        ports = {each["name"]: each["port"] for each in self.front(name)["ports"]}
        return f"{protocol}://{self.front(name)['clusterIP']}:{ports[protocol]}"

    def answered(self, name: str, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a service's answer; a node's proxy hears of a pod a moment after its status."""
        answers: list[NDArray[np.float32]] = []

        def answers_now() -> bool:
            with Client(self.url(name), model=MODEL) as ask, suppress(StackFailed):
                answers.append(ask(tensor))
            return bool(answers)

        until(answers_now)
        return answers[0]

    @contextmanager
    def load(self, name: str, rate_rps: float, protocol: str = "http") -> Iterator[Path]:
        """Send so many requests a second, open loop, for as long as the block lasts.

        Yields the file that holds every request afterwards; those still on their way when the
        block ends are not in it.
        """
        requests = self.folder / f"{name}-{next(_numbers)}.csv"
        words = ["-m", "locust", "-f", str(ROOT / "loadtests" / "open_loop.py"), *LOCUST]
        given = ["--host", self.url(name, protocol), "--rate", f"{rate_rps}"]
        log = requests.with_suffix(".log")
        process = processes.start(
            "load", [sys.executable, *words, *given, "--requests", str(requests)], log
        )
        try:
            yield requests
        finally:
            processes.stop([process], within_s=PATIENCE_S)
        assert requests.exists(), log.read_text("utf-8")[-3000:]


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Return the system, its operator started and no service yet."""
    folder = tmp_path_factory.mktemp("e2e")
    with ExitStack() as stack:
        cluster = stack.enter_context(running.full(folder / "cluster"))
        serving.provide(cluster.folder, print)
        witness = Witness()
        stack.enter_context(witness.watching(cluster.kubeconfig))
        operator, url = stack.enter_context(
            operated(cluster.kubeconfig, folder, print, scraped_every="1s", **OFTEN)
        )
        made = System(
            folder=folder, cluster=cluster, operator=operator, prometheus=url, witness=witness
        )
        stack.callback(made.stop)
        yield made


@pytest.fixture(scope="session")
def shop(system: System) -> str:
    """Return the name of the sample's service, ready."""
    system.apply_sample()
    return SHOP


@pytest.fixture(scope="session")
def requests() -> Callable[[Path], list[dict[str, str]]]:
    """Return what reads the requests of a load."""

    def read(path: Path) -> list[dict[str, str]]:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    return read


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to every failure what the cluster was like."""
    report = yield
    system = getattr(item, "funcargs", {}).get("system")
    if report.failed and system is not None:
        report.sections.append(("the cluster", described(system.cluster, system.folder)))
    return report
