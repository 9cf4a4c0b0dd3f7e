"""The operator as a process of its own, as its Deployment would run it; also several."""

from __future__ import annotations

import os
import signal
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from gpupilot_agent.stack import processes
from gpupilot_agent.stack.plan import LOOPBACK, free_ports
from gpupilot_agent.stack.processes import Process
from gpupilot_envs.atomic import write_text
from gpupilot_testbed.api import Api, done

NAMESPACE = "gpupilot-system"
ACCOUNT = "gpupilot-operator"
USER = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
"""Who the API server takes the operator for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One that runs.

    Attributes:
        process: Its process.
        url: Where its health and its metrics are.
    """

    process: Process
    url: str

    def kill(self) -> None:
        """End it at once, in the middle of whatever it does."""
        os.kill(self.process.pid, signal.SIGKILL)
        processes.stop([self.process])

    def stop(self) -> None:
        """End it as a kubelet would."""
        processes.stop([self.process], within_s=20.0)

    def page(self, path: str) -> str | None:
        """Return one of its pages, ``None`` where there is no answer or a failure."""
        try:
            with urllib.request.urlopen(f"{self.url}{path}", timeout=10.0) as answer:
                text: bytes = answer.read()
        except OSError:
            return None
        return text.decode("utf-8")

    def scraped(self) -> Scraped:
        """Return its metrics as they are now."""
        return scraped(self.page("/metrics") or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scraped:
    """What a scrape answered.

    Attributes:
        samples: Every series with its value.
    """

    samples: tuple[Sample, ...]

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's series that have some labels, 0 where there is none."""
        return sum(
            sample.value
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


def scraped(text: str) -> Scraped:
    """Return what a page of metrics says."""
    families = text_string_to_metric_families(text)
    samples = tuple(sample for family in families for sample in family.samples)
    return Scraped(samples=samples)


def by_url(folder: Path, url: str) -> Path:
    """Write the kubeconfig of whoever needs no identity, such as a client of a proxy."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "proxy", "cluster": {"server": url}}],
        "users": [{"name": "nobody", "user": {}}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "nobody"}}],
        "current-context": "proxy",
    }
    path = folder / "kubeconfig"
    write_text(path, yaml.safe_dump(document))
    return path


def by_account(
    folder: Path,
    api: Api,
    administrator: Path,
    *,
    namespace: str = NAMESPACE,
    account: str = ACCOUNT,
) -> Path:
    """Write the kubeconfig of an account, with a token as its pods get one.

    Args:
        folder: Where it is written.
        api: The cluster, with the account.
        administrator: Kubeconfig that says where the cluster is.
        namespace: Of the account.
        account: Its name: the operator's.
    """
    asked = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": 3600},
    }
    where = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}"
    token = done(api.ask("POST", f"{where}/token", asked))["status"]["token"]
    document = yaml.safe_load(administrator.read_text(encoding="utf-8"))
    document["users"][0]["user"] = {"token": token}
    path = folder / "account"
    write_text(path, yaml.safe_dump(document))
    path.chmod(0o600)
    return path


def start(folder: Path, kubeconfig: Path, prometheus: str, **settings: str) -> Operator:
    """Start an operator, its log in a folder of its own; it is not waited for.

    Args:
        folder: Its log and its decision log; the name is the operator's.
        kubeconfig: The cluster, and who asks.
        prometheus: URL of its Prometheus.
        settings: Further settings, ``tick_seconds`` for ``GPUPILOT_TICK_SECONDS``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    given = {f"GPUPILOT_{name.upper()}": value for name, value in settings.items()}
    environment: Mapping[str, str] = {
        **os.environ,
        "KUBECONFIG": str(kubeconfig),
        "POD_NAME": folder.name,
        "POD_NAMESPACE": NAMESPACE,
        "GPUPILOT_PROMETHEUS_URL": prometheus,
        "GPUPILOT_LISTEN_PORT": str(port),
        "GPUPILOT_STATE_DIR": str(folder),
        **given,
    }
    command = [sys.executable, "-m", "gpupilot_operator"]
    process = processes.start("operator", command, folder / "operator.log", environment)
    return Operator(process=process, url=f"http://{LOOPBACK}:{port}")
