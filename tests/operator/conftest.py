"""Services made from small specs, and what a tick would report of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.reasons import Reason
from gpupilot_operator.facts import Facts, Grant, MetricsState, Observed, PolicyState, Rung
from gpupilot_operator.ports import Seen
from gpupilot_operator.report import ServiceReport
from gpupilot_operator.service import Service, parse_service
from gpupilot_operator.spec_autoscaling import Mode
from gpupilot_operator.status_fields import InferenceServiceStatus

Maker = Callable[..., Service]


@pytest.fixture(scope="session")
def service_of() -> Maker:
    """Return a maker of services: what differs in `predictor.model` and in `gpu`."""

    def make(model: dict[str, Any] | None = None, *, name: str = "shop", **spec: Any) -> Service:
        stated = {"modelFormat": {"name": "onnxruntime"}, "storageUri": "pvc://models/shop/1"}
        predictor = {"model": stated | (model or {}), "maxReplicas": 8}
        slo = {"latency": {"target": "60ms"}}
        metadata = {"namespace": "prod", "name": name, "uid": "u-1", "generation": 3}
        return parse_service(
            {"metadata": metadata, "spec": {"predictor": predictor, "slo": slo} | spec}
        )

    return make


@pytest.fixture(scope="session")
def reported(service_of: Maker) -> Callable[..., ServiceReport]:
    """Return a maker of reports: 5 replicas asked, 4 granted, 3 running, 2 ready."""

    def make(
        name: str = "shop", *, facts: dict[str, Any] | None = None, **given: Any
    ) -> ServiceReport:
        running = Allocation(replicas=3, gpu_share_milli=500)
        grant = Grant(
            asked=Allocation(replicas=5),
            granted=Allocation(replicas=4),
            reasons=(Reason.STEP_LIMITED, Reason.TOO_MANY_REPLICAS),
            policy="generalist",
        )
        base: dict[str, Any] = {
            "running": running,
            "ready": 2,
            "mode": Mode.ACT,
            "metrics": MetricsState.FOUND,
            "policy": PolicyState.PROVEN,
            "rung": Rung.POLICY,
            "grant": grant,
            "shadow": replace(grant, granted=Allocation(replicas=6)),
            "observed": Observed(
                p50_s=0.01,
                p95_s=0.05,
                p99_s=None,
                attainment_ratio=0.97,
                source="gateway",
                rate_rps=80.0,
            ),
        }
        seen = Seen(
            service=service_of(name=name),
            status=InferenceServiceStatus(),
            running=running,
            ready=2,
        )
        return ServiceReport(seen=seen, facts=Facts(**(base | (facts or {}))), **given)

    return make
