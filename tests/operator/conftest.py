"""Services made from small specs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gpupilot_operator.service import Service, parse_service

Maker = Callable[..., Service]


@pytest.fixture(scope="session")
def service_of() -> Maker:
    """Return a maker of services: what differs in `predictor.model` and in `gpu`."""

    def make(model: dict[str, Any] | None = None, **spec: Any) -> Service:
        stated = {"modelFormat": {"name": "onnxruntime"}, "storageUri": "pvc://models/shop/1"}
        predictor = {"model": stated | (model or {}), "maxReplicas": 8}
        slo = {"latency": {"target": "60ms"}}
        metadata = {"namespace": "prod", "name": "shop", "uid": "u-1", "generation": 3}
        return parse_service(
            {"metadata": metadata, "spec": {"predictor": predictor, "slo": slo} | spec}
        )

    return make
