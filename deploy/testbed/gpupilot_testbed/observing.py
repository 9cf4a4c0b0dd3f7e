"""A Prometheus beside a cluster of ours: a user's configuration with our addresses."""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from gpupilot_agent.stack import processes
from gpupilot_agent.stack.plan import LOOPBACK, free_ports
from gpupilot_agent.stack.processes import Process
from gpupilot_agent.stack.tools import Say, cache_folder, prometheus_programs
from gpupilot_envs.atomic import write_text
from gpupilot_testbed import discovery

EXAMPLE = Path(__file__).resolve().parents[2] / "prometheus"
READY_WITHIN_S = 30.0

Configuration = dict[str, Any]


def in_cluster(discovery_url: str, *, every: str = "1s") -> Configuration:
    """Return the configuration of ``deploy/prometheus``, asked from outside the cluster.

    Args:
        discovery_url: What tells the pods (:func:`gpupilot_testbed.discovery.pods`).
        every: How often it scrapes, and looks for pods.
    """
    text = (EXAMPLE / "prometheus.yml").read_text(encoding="utf-8")
    document: Configuration = yaml.safe_load(text)
    for job in document["scrape_configs"]:
        job["http_sd_configs"] = [
            {"url": discovery.page(discovery_url, each["selectors"]), "refresh_interval": every}
            for each in job.pop("kubernetes_sd_configs")
        ]
    return {**document, "global": _often(every), "rule_files": [str(EXAMPLE / "rules.yml")]}


def of_targets(ports: Sequence[int], *, every: str = "1s") -> Configuration:
    """Return the configuration that scrapes ports of loopback, their own labels kept."""
    targets = [{"targets": [f"{LOOPBACK}:{port}" for port in ports]}]
    job = {"job_name": "traffic", "honor_labels": True, "static_configs": targets}
    return {"global": _often(every), "scrape_configs": [job]}


def _often(every: str) -> Mapping[str, str]:
    return {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every}


def start(folder: Path, configuration: Configuration, say: Say) -> tuple[Process, str]:
    """Start a Prometheus; return it and its URL once it answers.

    Args:
        folder: Where its files lie.
        configuration: ``prometheus.yml``.
        say: Told in one line what is being downloaded.

    Raises:
        StackFailed: It cannot be had or started; says why.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "prometheus.yml", yaml.safe_dump(configuration, sort_keys=False))
    (port,) = free_ports(1)
    command = [
        str(prometheus_programs(cache_folder(), say) / "prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={LOOPBACK}:{port}",
        "--log.level=warn",
    ]
    url = f"http://{LOOPBACK}:{port}"
    process = processes.start("prometheus", command, folder / "prometheus.log")
    processes.wait_until(
        lambda: _answers(f"{url}/-/ready"), [process], within_s=READY_WITHIN_S, what="Prometheus"
    )
    return process, url


def _answers(page: str) -> bool:
    try:
        with urllib.request.urlopen(page, timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
