"""The operator's readings: all services of all namespaces, told apart, in a handful of queries."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpupilot_envs import live
from gpupilot_envs.metric_names import metric_names
from gpupilot_envs.metric_queries import QUERIES, QUERIES_MOST, Scope, queries
from gpupilot_envs.prometheus import Access
from gpupilot_operator.metrics import LiveMetrics, named
from gpupilot_operator.service import Service, parse_service


def service(namespace: str, name: str, model: str | None = None) -> Service:
    stated = {"modelFormat": {"name": "onnxruntime"}, "storageUri": "pvc://models/m"}
    predictor = {"maxReplicas": 4, "model": stated | ({} if model is None else {"name": model})}
    spec = {"predictor": predictor, "slo": {"latency": {"target": "60ms"}}}
    whose = {"namespace": namespace, "name": name, "uid": f"{namespace}-{name}", "generation": 1}
    return parse_service({"metadata": whose, "spec": spec})


@pytest.fixture(scope="module")
def metrics(prometheus: Any) -> Iterator[LiveMetrics]:
    made = LiveMetrics(Access(url=prometheus.url), window_s=30)
    yield made
    made.close()


def test_services_of_one_name_in_two_namespaces_are_told_apart(
    metrics: LiveMetrics, prometheus: Any
) -> None:
    twins = [service("left", "twin"), service("right", "twin")]
    found = metrics.read(twins, prometheus.end_s)
    assert {key: one.signals.rate_rps for key, one in found.items()} == {
        "left/twin": pytest.approx(10.0, rel=0.01),
        "right/twin": pytest.approx(30.0, rel=0.01),
    }
    assert {key: one.signals.pending_requests for key, one in found.items()} == {
        "left/twin": 10.0,
        "right/twin": 30.0,
    }
    assert found["left/twin"].signals.attainment_ratio == pytest.approx(0.9, rel=0.01)


def test_a_service_of_a_third_namespace_gets_nothing_of_its_namesakes(
    metrics: LiveMetrics, prometheus: Any
) -> None:
    found = metrics.read([service("elsewhere", "twin")], prometheus.end_s)
    assert found["elsewhere/twin"].is_empty


def test_a_service_without_a_gateway_is_read_at_triton_by_its_own_name(
    metrics: LiveMetrics, prometheus: Any
) -> None:
    found = metrics.read([service("left", "lone")], prometheus.end_s)["left/lone"]
    assert found.signals.rate_rps == pytest.approx(20.0, rel=0.01)
    assert found.sources["rate_rps"] == "triton-summary"


def test_series_that_know_no_namespace_count_where_a_name_is_unique(
    metrics: LiveMetrics, prometheus: Any
) -> None:
    found = metrics.read([service("web", "shop")], prometheus.end_s)["web/shop"]
    assert found.signals.rate_rps == pytest.approx(50.0, rel=0.01)
    both = [service("web", "shop"), service("other", "shop")]
    unclear = metrics.read(both, prometheus.end_s)
    assert unclear["web/shop"].signals.rate_rps is None
    assert unclear["web/shop"].signals.cpu_cores_used == pytest.approx(0.8, rel=0.01)
    assert unclear["other/shop"].is_empty


def test_the_number_of_queries_does_not_grow_with_the_services() -> None:
    for count in (1, 1000):
        names = tuple(f"shop-{n}" for n in range(count))
        scope = Scope(services=names, window_s=15, by_namespace=True)
        assert len(queries(metric_names(), scope)) == QUERIES
        parted = replace(scope, bounds=("0.06", "0.12", "0.24", "+Inf"))
        assert len(queries(metric_names(), parted)) == QUERIES_MOST <= 12


def test_buckets_asked_in_parts_are_the_same_buckets(
    prometheus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = [service("left", "twin"), service("right", "twin"), service("web", "shop")]
    monkeypatch.setattr(live, "MANY", 1)
    reading = LiveMetrics(Access(url=prometheus.url), window_s=30)
    whole = reading.read(services, prometheus.end_s)
    assert reading.queries == QUERIES
    parted = reading.read(services, prometheus.end_s)
    assert reading.queries == QUERIES_MOST
    assert parted == whole
    assert parted["left/twin"].bounds_s
    reading.close()


@given(
    st.lists(st.sampled_from(["0.06", "60", "60.0", "0.5", "5", "+Inf", "1e+06"]), unique=True),
    st.sampled_from(["0.06", "006", "60", "60.0", "6000", "5", "+Inf", "Inf", "1e+06", "7"]),
)
def test_every_bucket_is_in_exactly_one_part(bounds: list[str], bound: str) -> None:
    def passes(part: str) -> bool:
        refused, pattern = part.startswith('le!~"'), part.partition('"')[2].removesuffix('"')
        return bool(re.fullmatch(pattern.replace("\\\\", "\\"), bound)) is not refused

    parts = Scope(services=(), window_s=15, bounds=tuple(bounds)).parts
    assert sum(part == "" or passes(part) for part in parts) == 1


class Strict(BaseHTTPRequestHandler):
    """Answers nothing to every query, and refuses long URLs as most proxies do."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self._answer(self.path.partition("?")[2])

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])).decode())

    def _answer(self, words: str) -> None:
        self.asked.append(parse_qs(words)["query"][0])
        body = b'{"status": "success", "data": {"resultType": "vector", "result": []}}'
        self.send_response(200 if len(self.path) < 8000 else 414)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_query_that_is_longer_than_a_url_may_be_goes_as_a_form(
    metrics: LiveMetrics, prometheus: Any
) -> None:
    many = [service("left", f"shop-{'of-a-long-name-' * 4}{n}") for n in range(40)]
    with ThreadingHTTPServer(("127.0.0.1", 0), Strict) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        strict = LiveMetrics(
            Access(url=f"http://127.0.0.1:{listening.server_address[1]}", attempts=1)
        )
        assert all(one.is_empty for one in strict.read(many, prometheus.end_s).values())
        strict.close()
        listening.shutdown()
    assert len(Strict.asked) == QUERIES
    assert all(many[-1].name in query for query in Strict.asked)
    found = metrics.read([*many, service("left", "twin")], prometheus.end_s)
    assert found["left/twin"].signals.rate_rps == pytest.approx(10.0, rel=0.01)


def test_a_model_that_two_services_serve_names_neither() -> None:
    alone = named([service("prod", "shop", "bert")])
    assert alone == {("prod", "shop"): "prod/shop", ("prod", "bert"): "prod/shop"}
    shared = named([service("prod", "shop", "bert"), service("prod", "search", "bert")])
    assert shared == {("prod", "shop"): "prod/shop", ("prod", "search"): "prod/search"}
    own = named([service("prod", "bert", "other"), service("prod", "search", "bert")])
    assert own[("prod", "bert")] == "prod/bert"
