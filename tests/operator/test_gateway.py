"""The gateway in every pod: what it counts, what it refuses, and how it lets go of its clients."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from gpupilot_operator import gateway
from gpupilot_operator.manifests import manifests
from gpupilot_operator.pod import LEAVE_S, PORTS, Platform, pod_spec
from gpupilot_operator.service import Service

Maker = Callable[..., Service]
PLATFORM = Platform()


def sidecar(service: Service) -> dict[str, Any]:
    return dict(pod_spec(service, PLATFORM, 1000)["initContainers"][-1])


def configuration(service: Service) -> dict[str, Any]:
    words = sidecar(service)["args"]
    return dict(json.loads(words[words.index("--config-yaml") + 1]))


def bounds(config: dict[str, Any]) -> list[float]:
    (settings,) = config["stats_config"]["histogram_bucket_settings"]
    return list(settings["buckets"])


def manager(config: dict[str, Any], listener: str) -> dict[str, Any]:
    (found,) = [
        each for each in config["static_resources"]["listeners"] if each["name"] == listener
    ]
    return dict(found["filter_chains"][0]["filters"][0]["typed_config"])


def routes(config: dict[str, Any], listener: str) -> list[dict[str, Any]]:
    return list(manager(config, listener)["route_config"]["virtual_hosts"][0]["routes"])


@pytest.mark.parametrize(
    ("target", "counted_us"), [("60ms", 60_000), ("70ms", 70_000), ("1.5s", 1_500_000)]
)
def test_the_target_is_a_bound_of_the_histogram(
    service_of: Maker, target: str, counted_us: int
) -> None:
    config = configuration(service_of(slo={"latency": {"target": target}}))
    assert counted_us - 1 in bounds(config)


def test_a_target_stored_with_more_digits_counts_no_request_too_many(service_of: Maker) -> None:
    found = bounds(configuration(service_of(slo={"latency": {"target": "125ms"}})))
    assert max(bound for bound in found if bound < 125_000) == 119_999


def test_a_target_on_the_grid_changes_no_pod(service_of: Maker) -> None:
    """The bounds stand in the pod's template: another would start every pod anew."""
    before, after = (service_of(slo={"latency": {"target": each}}) for each in ("60ms", "80ms"))
    assert pod_spec(before, PLATFORM, 1000) == pod_spec(after, PLATFORM, 1000)


def test_it_starts_before_triton_and_ends_after_it(service_of: Maker) -> None:
    stays = sidecar(service_of())
    assert (stays["name"], stays["restartPolicy"]) == (gateway.NAME, "Always")
    copied = pod_spec(service_of({"storageUri": "s3://models/shop"}), PLATFORM, 1000)
    assert [each["name"] for each in copied["initContainers"]] == ["storage", gateway.NAME]


def test_clients_have_left_before_the_pod_ends(service_of: Maker) -> None:
    users = manager(configuration(service_of()), gateway.NAME)
    age = users["common_http_protocol_options"]["max_connection_duration"]
    assert float(age.removesuffix("s")) < LEAVE_S
    assert users["http1_safe_max_connection_duration"]


@pytest.mark.parametrize(
    "path",
    [
        "/v2/repository/models/shop/load",
        "/v2/repository/models/shop/unload",
        "/inference.GRPCInferenceService/RepositoryModelLoad",
        "/inference.GRPCInferenceService/RepositoryModelUnload",
    ],
)
def test_users_cannot_change_the_server(service_of: Maker, path: str) -> None:
    first = next(
        route
        for route in routes(configuration(service_of()), gateway.NAME)
        if re.fullmatch(route["match"].get("safe_regex", {"regex": ".*"})["regex"], path)
    )
    assert first["direct_response"]["status"] == 403


def test_of_the_admin_s_pages_only_those_that_change_nothing_are_shown(service_of: Maker) -> None:
    config = configuration(service_of())
    paths = [route["match"]["path"] for route in routes(config, gateway.METRICS_NAME)]
    assert paths == ["/stats/prometheus", "/ready", gateway.BEGIN]
    assert config["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"


def test_requests_go_by_the_gateway_and_triton_is_scraped_still(service_of: Maker) -> None:
    made = manifests(service_of(), Platform(has_service_monitors=True), serving_milli=1000)
    front, monitor = (each["spec"] for each in made if each["kind"].startswith("Service"))
    targets = {port["name"]: (port["port"], port["targetPort"]) for port in front["ports"]}
    assert targets == {
        "http": (PORTS["http"], gateway.NAME),
        "grpc": (PORTS["grpc"], gateway.NAME),
        "metrics": (PORTS["metrics"], "metrics"),
        gateway.METRICS_NAME: (gateway.PORTS[gateway.METRICS_NAME], gateway.METRICS_NAME),
    }
    assert [each["port"] for each in monitor["endpoints"]] == ["metrics", gateway.METRICS_NAME]


def test_without_it_users_ask_triton(service_of: Maker) -> None:
    model = {"modelFormat": {"name": "onnxruntime"}, "storageUri": "pvc://models/shop"}
    predictor = {"model": model, "maxReplicas": 8, "gateway": {"enabled": False}}
    service = service_of(predictor=predictor)
    assert "initContainers" not in pod_spec(service, PLATFORM, 1000)
    (front,) = [
        each["spec"]
        for each in manifests(service, PLATFORM, serving_milli=1000)
        if each["kind"] == "Service"
    ]
    assert {port["name"]: port["targetPort"] for port in front["ports"]} == {
        name: name for name in PORTS
    }
