"""Prometheus for the stack: what it scrapes, and the rules that name the signals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpupilot_agent.stack.envoy import METRICS_PATH, bounds_us
from gpupilot_agent.stack.gateway import relabelling
from gpupilot_agent.stack.plan import LOOPBACK
from gpupilot_agent.triton.repository import MODEL
from gpupilot_envs.latency_sources import GATEWAY

WINDOW = "10s"
"""Range of the recorded rates."""

Targets = list[dict[str, Any]]


def configuration(
    *, admin_port: int, target_ms: float, scrape_s: float, triton: str, rules: str
) -> dict[str, Any]:
    """Return ``prometheus.yml``.

    Args:
        admin_port: Of the gateway's own metrics.
        target_ms: The latency target, a bound of the gateway's histogram.
        scrape_s: Seconds between two scrapes.
        triton: File with the replicas (:func:`targets`), watched: replicas come and go.
        rules: File with the recording rules.
    """
    every = f"{round(1000 * scrape_s)}ms"
    return {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "rule_files": [rules],
        "scrape_configs": [
            {"job_name": "triton", "file_sd_configs": [{"files": [triton]}]},
            {
                "job_name": "gateway",
                "metrics_path": METRICS_PATH,
                "static_configs": [
                    {"targets": [f"{LOOPBACK}:{admin_port}"], "labels": {"service": MODEL}}
                ],
                "metric_relabel_configs": relabelling(bounds_us(target_ms)),
            },
        ],
    }


def targets(replicas: Mapping[str, int]) -> Targets:
    """Return the replicas as Prometheus reads them from the watched file: metrics port by name."""
    return [
        {"targets": [f"{LOOPBACK}:{port}"], "labels": {"service": MODEL, "replica": name}}
        for name, port in replicas.items()
    ]


def recording_rules(target_ms: float) -> dict[str, Any]:
    """Return the rules: users' latency from the gateway, queue and batches from Triton."""
    user = GATEWAY.queries(MODEL, target_s=target_ms / 1000.0, window=WINDOW)
    named = {f"gpupilot:{signal}": expression for signal, expression in user.items()}
    triton = {f"triton:{name}": expression for name, expression in _triton().items()}
    rules = [{"record": name, "expr": text} for name, text in (named | triton).items()]
    return {"groups": [{"name": "gpupilot", "rules": rules}]}


def _triton() -> dict[str, str]:
    """Return the signals only Triton knows, by replica.

    Compute time is charged to every request of a batch, so busy time is divided by the mean batch.
    """
    rate = {
        name: f"sum by (replica) (rate(nv_inference_{name}[{WINDOW}]))"
        for name in (
            "request_success",
            "count",
            "exec_count",
            "queue_duration_us",
            "compute_infer_duration_us",
        )
    }
    batch = f"{rate['count']} / {rate['exec_count']}"
    return {
        "rate_rps": rate["request_success"],
        "batch_mean": batch,
        "queue_time_s": f"{rate['queue_duration_us']} / {rate['request_success']} / 1e6",
        "compute_time_s": f"{rate['compute_infer_duration_us']} / {rate['request_success']} / 1e6",
        "busy_executions": f"{rate['compute_infer_duration_us']} / 1e6 / ({batch})",
        "pending_requests": "sum by (replica) (nv_inference_pending_request_count)",
    }
