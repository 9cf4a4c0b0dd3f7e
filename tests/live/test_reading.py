"""What a real Prometheus says becomes the right signals; what it does not say stays unknown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_api_client import PrometheusApiClientException

from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.live import LiveSignals
from gpupilot_envs.live_reading import LiveReading
from gpupilot_envs.metric_names import metric_names
from gpupilot_envs.metric_queries import Scope, queries
from gpupilot_envs.prometheus import Access, Prometheus

WINDOW_S = 30
SERVICES = ("gap", "idle", "long", "nan", "reset", "shop")


@pytest.fixture(scope="module")
def asked(prometheus: Any) -> Iterator[Prometheus]:
    connection = Prometheus(Access(url=prometheus.url))
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def live(asked: Prometheus) -> LiveSignals:
    return LiveSignals(asked, metric_names(), lambda _: 0.060)


@pytest.fixture(scope="module")
def readings(live: LiveSignals, prometheus: Any) -> dict[str, LiveReading]:
    """Return every service's reading at the end of the scripted past."""
    return live.look(SERVICES, WINDOW_S, prometheus.end_s)


def test_latency_comes_from_the_gateway_with_rejections_as_misses(
    readings: dict[str, LiveReading],
) -> None:
    found = readings["shop"]
    signals = found.signals
    assert signals.rate_rps == pytest.approx(50.0, rel=0.01)
    assert signals.error_ratio == pytest.approx(0.2, rel=0.02)
    assert signals.attainment_ratio == pytest.approx(0.72, rel=0.02)
    assert signals.latency_p50_s == pytest.approx(0.020, rel=0.02)
    assert signals.latency_p95_s == pytest.approx(0.080, rel=0.02)
    assert found.details["latency_mean_s"] == pytest.approx(0.025, rel=0.02)
    assert found.sources["latency_p95_s"] == "gpupilot-gateway"
    assert found.bounds_s == pytest.approx((0.02, 0.06, 0.1))


def test_the_rest_is_summed_over_servers_pods_and_gpus(readings: dict[str, LiveReading]) -> None:
    found = readings["shop"]
    signals = found.signals
    assert signals.queue_time_s == pytest.approx(0.003, rel=0.01)
    assert signals.compute_time_s == pytest.approx(0.012, rel=0.01)
    assert signals.batch_mean == pytest.approx(4.0, rel=0.01)
    assert found.details["executions_per_s"] == pytest.approx(10.0, rel=0.01)
    assert signals.pending_requests == 6.0
    assert signals.gpu_busy_ratio == pytest.approx(0.45)
    assert signals.gpu_memory_used_bytes == 2000.0 * 1024**2
    assert signals.gpu_power_w == 100.0
    assert signals.cpu_cores_used == pytest.approx(0.8, rel=0.01)
    assert (signals.replicas_ready, signals.replicas_pending) == (1, 1)
    assert found.running == {"replicas": 2, "cpu_milli": 1500}
    assert signals.age_s == pytest.approx(0.0, abs=2.0)
    assert found.sources["gpu_busy_ratio"] == "dcgm-utilisation"


def test_no_traffic_is_a_rate_of_zero_and_nothing_else(readings: dict[str, LiveReading]) -> None:
    signals = readings["idle"].signals
    assert signals.rate_rps == 0.0
    assert signals.error_ratio is None
    assert signals.attainment_ratio is None
    assert signals.latency_p95_s is None


def test_nan_is_unknown(readings: dict[str, LiveReading]) -> None:
    assert readings["nan"].signals.rate_rps is None
    assert readings["nan"].signals.pending_requests is None
    assert readings["nan"].signals.replicas_ready == 1


def test_a_service_nobody_knows_is_empty(live: LiveSignals, prometheus: Any) -> None:
    found = live.look(("nobody",), WINDOW_S, prometheus.end_s)["nobody"]
    assert found.is_empty
    assert found.signals.rate_rps is None


def test_a_restart_does_not_show_in_the_rate(live: LiveSignals, prometheus: Any) -> None:
    end_s = prometheus.end_s
    found = live.span("reset", WINDOW_S, end_s - 690, end_s - 510)
    rates = [reading.signals.rate_rps for reading in found]
    assert len(rates) == 7
    assert all(rate == pytest.approx(40.0, rel=0.08) for rate in rates)
    assert found[0].sources["rate_rps"] == "triton-summary"


def test_silence_is_unknown_and_ends(live: LiveSignals, prometheus: Any) -> None:
    end_s = prometheus.end_s
    found = live.span("gap", WINDOW_S, end_s - 900, end_s)
    rates = {int(r.signals.at_s) - end_s: r.signals.rate_rps for r in found}
    assert rates[-900] == pytest.approx(10.0, rel=0.01)
    assert all(rates[at] is None for at in range(-660, -300, WINDOW_S))
    assert rates[0] == pytest.approx(10.0, rel=0.01)


def test_more_points_than_a_server_answers_at_once(asked: Prometheus, prometheus: Any) -> None:
    end_s = prometheus.end_s
    query = 'nv_inference_request_success{model="long"}'
    with pytest.raises(PrometheusApiClientException, match="exceeded maximum resolution of 11,000"):
        asked._connection.custom_query_range(
            query,
            start_time=datetime.fromtimestamp(end_s - 25_000, UTC),
            end_time=datetime.fromtimestamp(end_s, UTC),
            step="2",
        )
    found = asked.span(query, end_s - 25_000, end_s, 2)
    (series,) = found
    assert len(series.values) == 12_501
    assert set((series.values[1:] - series.values[:-1]).round(6)) == {14.0}


def test_instant_and_span_agree(
    live: LiveSignals, readings: dict[str, LiveReading], prometheus: Any
) -> None:
    (last,) = live.span("shop", WINDOW_S, prometheus.end_s, prometheus.end_s)
    assert last == readings["shop"]


def test_the_number_of_queries_does_not_grow_with_the_services(
    prometheus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = Prometheus(Access(url=prometheus.url))
    sent: list[str] = []
    plain = connection.numbers

    def counted(queries: Iterable[str], at_s: float) -> Iterator[tuple[Mapping[str, str], float]]:
        asked = list(queries)
        sent.extend(asked)
        return plain(asked, at_s)

    monkeypatch.setattr(connection, "numbers", counted)
    live = LiveSignals(connection, metric_names(), lambda _: 0.060)
    live.read(("shop",), WINDOW_S, prometheus.end_s)
    one = len(sent)
    many = live.read((*SERVICES, *(f"s{n}" for n in range(80))), WINDOW_S, prometheus.end_s)
    assert len(sent) == 2 * one == 10
    assert len(many) == 86
    assert many["shop"].rate_rps == pytest.approx(50.0, rel=0.01)


def test_a_namespace_keeps_others_out(asked: Prometheus, prometheus: Any) -> None:
    inside, outside = (
        LiveSignals(asked, metric_names(), lambda _: 0.06, namespace=name).read(
            ("shop",), WINDOW_S, prometheus.end_s
        )["shop"]
        for name in ("web", "other")
    )
    assert inside.replicas_ready == 1
    assert outside.replicas_ready is None


def test_services_are_found(live: LiveSignals, prometheus: Any) -> None:
    assert {"idle", "long", "shop"} <= set(live.services(WINDOW_S, prometheus.end_s))


def test_a_target_that_is_no_bound_gives_no_attainment(asked: Prometheus, prometheus: Any) -> None:
    live = LiveSignals(asked, metric_names(), lambda _: 0.050)
    found = live.read(("shop",), WINDOW_S, prometheus.end_s)["shop"]
    assert found.attainment_ratio is None
    assert found.latency_p95_s is not None


OWN = """
format: gpupilot/metric-names-v1
sources:
  - name: mine
    group: gpu
    service: {label: exported_pod, pattern: '(.+)-[0-9a-f]+-[0-9a-z]+'}
    signals:
      gpu_power_w: {max: 'DCGM_FI_DEV_POWER_USAGE{$match}', scale: 2.0}
"""


def test_own_names_come_first(asked: Prometheus, prometheus: Any, tmp_path: Path) -> None:
    path = tmp_path / "names.yaml"
    path.write_text(OWN, encoding="utf-8")
    live = LiveSignals(asked, metric_names(path), lambda _: 0.06)
    found = live.look(("shop",), WINDOW_S, prometheus.end_s)["shop"]
    assert found.signals.gpu_power_w == 100.0
    assert found.sources["gpu_power_w"] == "mine"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("gpu_power_w:", "gpu_pover_w:", "not gpu_pover_w"),
        ("max:", "median:", "median"),
        ("(.+)", "(.*)", "pattern to hold"),
        ("gpupilot/metric-names-v1", "gpupilot/metric-names-v9", "format"),
    ],
)
def test_a_wrong_table_names_what_is_wrong(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = tmp_path / "names.yaml"
    path.write_text(OWN.replace(old, new), encoding="utf-8")
    with pytest.raises(InputInvalid, match=words):
        metric_names(path)


def test_names_that_are_patterns_match_only_themselves(asked: Prometheus, prometheus: Any) -> None:
    live = LiveSignals(asked, metric_names(), lambda _: 0.06)
    found = live.read(("sh.p", 'a"b', "sh(op"), WINDOW_S, prometheus.end_s)
    assert [reading.rate_rps for reading in found.values()] == [None] * 3


def test_every_query_is_short_enough_for_a_proxy() -> None:
    names = tuple(f"service-number-{n}" for n in range(8))
    for text in queries(metric_names(), Scope(services=names, window_s=30)).values():
        assert len(text) < 8000
