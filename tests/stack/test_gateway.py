"""The gateway counts every request once, by how it ended and how long it took."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import grpc
import numpy as np
import pytest

from gpupilot_agent.stack.plan import exact_bound_us
from gpupilot_agent.stack.state import StackState
from gpupilot_agent.triton.client import Client, Floats
from gpupilot_agent.triton.repository import MODEL
from gpupilot_envs.errors import InputInvalid, StackFailed
from gpupilot_envs.latency_sources import GATEWAY, SOURCES

TARGET_S = 0.05
COUNT = "envoy_gpupilot_request_duration_us_count"
OK = f'{COUNT}{{outcome="ok"}}'
FAILED = f'{COUNT}{{outcome="failed"}}'
IN_TIME = 'envoy_gpupilot_request_duration_us_bucket{outcome="ok",le="50000"}'
REQUESTS = "sum(envoy_gpupilot_requests)"
SUCCESSES = "sum(nv_inference_request_success)"
EXECUTIONS = "sum(nv_inference_exec_count)"
WINDOW_S = 6

Reader = Callable[[StackState, str], float | None]
Waiter = Callable[[StackState, str, float], float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What was sent, how the counters grew meanwhile, and what the source read right after."""

    quick_s: list[float]
    slow_s: list[float]
    refused: int
    grown: dict[str, float]
    read: dict[str, float]

    @property
    def answered_s(self) -> list[float]:
        return self.quick_s + self.slow_s

    @property
    def total(self) -> int:
        return len(self.answered_s) + self.refused


def asked_of(replica: str) -> str:
    return f'sum(envoy_gpupilot_requests{{replica="{replica}"}})'


def images(batch: int) -> Floats:
    return np.zeros((batch, 3, 8, 8), dtype=np.float32)


def timed(ask: Callable[[Floats], Floats], batch: int) -> float:
    """Return the seconds until the answer, which must have the right shape."""
    began = time.perf_counter()
    assert ask(images(batch)).shape == (batch, 1000)
    return time.perf_counter() - began


@pytest.fixture(scope="module")
def sent(emulated: StackState, value: Reader, settled: Waiter) -> Sent:
    """Send 16 quick, 12 slow and 3 wrong requests and one that is no inference; wait for them."""
    # Prometheus extrapolates a window that reaches back before the first scrape, and less so
    # one that began near zero
    with Client(emulated.gateway_url) as ask:
        for _ in range(20):
            ask(images(1))
    settled(emulated, f"count_over_time({FAILED}[1m]) >= bool {WINDOW_S + 1}", 1.0)
    watched = (OK, FAILED, IN_TIME, REQUESTS, SUCCESSES, *map(asked_of, emulated.replicas))
    before = {query: value(emulated, query) or 0.0 for query in watched}
    with Client(emulated.gateway_url) as ask:
        quick_s = [timed(ask, 1) for _ in range(16)]
        slow_s = [timed(ask, 8) for _ in range(12)]
        for _ in range(3):
            with pytest.raises(StackFailed, match="400"):
                ask(images(9))
    connection = http.client.HTTPConnection(emulated.gateway_url.removeprefix("http://"))
    connection.request("GET", "/v2/health/ready")
    assert connection.getresponse().status == 200
    connection.close()
    for query, more in ((OK, 28), (FAILED, 3), (SUCCESSES, 28)):
        settled(emulated, query, before[query] + more)
    queries = GATEWAY.queries(MODEL, target_s=TARGET_S, window=f"{WINDOW_S}s")
    return Sent(
        quick_s=quick_s,
        slow_s=slow_s,
        refused=3,
        read={signal: value(emulated, text) or 0.0 for signal, text in queries.items()},
        grown={query: (value(emulated, query) or 0.0) - old for query, old in before.items()},
    )


def test_every_request_is_counted_once(emulated: StackState, sent: Sent, value: Reader) -> None:
    assert sent.grown[OK] == len(sent.answered_s)
    assert sent.grown[FAILED] == sent.refused
    assert sent.grown[REQUESTS] == sent.total
    refused = value(emulated, 'sum(envoy_gpupilot_requests{code="400"})')
    assert refused == sent.refused + 1  # and the one that began the series


def test_each_replica_gets_its_turn(emulated: StackState, sent: Sent) -> None:
    asked = [sent.grown[asked_of(replica)] for replica in emulated.replicas]
    assert sum(asked) == sent.total
    assert max(asked) - min(asked) <= 1.0


def test_the_bucket_at_the_target_counts_what_took_less(sent: Sent) -> None:
    """The client's own clock tells which requests were in time, but for those within 2 ms."""
    surely = sum(latency < TARGET_S for latency in sent.answered_s)
    perhaps = sum(latency < TARGET_S + 0.002 for latency in sent.answered_s)
    assert surely <= sent.grown[IN_TIME] <= perhaps
    assert 0 < surely < len(sent.answered_s)


def test_the_source_reads_what_was_counted(sent: Sent) -> None:
    """All of the growth fell into one window, so ratios of rates are ratios of counts."""
    assert sent.read["rate_rps"] == pytest.approx(sent.total / WINDOW_S, rel=0.25)
    assert sent.read["error_ratio"] == pytest.approx(sent.refused / sent.total, abs=1e-6)
    in_time = sent.grown[IN_TIME] / sent.total
    assert sent.read["attainment_ratio"] == pytest.approx(in_time, abs=1e-6)
    p50, p95, p99 = (sent.read[f"latency_{name}_s"] for name in ("p50", "p95", "p99"))
    assert 0.02 <= p50 <= 0.03
    assert 0.08 <= p95 <= p99 <= 0.15


def test_the_fallback_reads_the_worst_replica(
    emulated: StackState, sent: Sent, value: Reader
) -> None:
    queries = SOURCES["triton-summary"].queries(MODEL, target_s=TARGET_S, window="10m")
    read = {signal: value(emulated, text) or 0.0 for signal, text in queries.items()}
    assert len(sent.quick_s) > len(sent.slow_s)
    assert read["latency_p50_s"] == pytest.approx(0.02, rel=0.5)
    assert read["latency_p99_s"] == pytest.approx(0.09, rel=0.5)
    # more than half took 20 ms, three quarters with those before: far enough from nine tenths for
    # a server that estimates its quantiles
    assert read["attainment_ratio"] == 0.5


def test_a_service_nobody_knows_answers_nothing(emulated: StackState, value: Reader) -> None:
    for source in SOURCES.values():
        for text in source.queries("elsewhere", target_s=TARGET_S, window="1m").values():
            assert value(emulated, text) is None


def test_grpc_goes_through_the_same_door(emulated: StackState) -> None:
    """``ServerReady`` answers a message whose first field is true: bytes 08 01."""
    address = emulated.gateway_url.removeprefix("http://")
    with grpc.insecure_channel(address) as channel:
        method = "/inference.GRPCInferenceService/ServerReady"
        ask = channel.unary_unary(method, lambda request: request, lambda answer: answer)
        assert ask(b"", timeout=10) == b"\x08\x01"


def test_requests_at_once_share_a_batch(
    emulated: StackState, sent: Sent, value: Reader, settled: Waiter
) -> None:
    """Sixteen at once on two replicas run as few executions of many."""
    assert sent.total
    before = value(emulated, SUCCESSES) or 0.0
    executed = value(emulated, EXECUTIONS) or 0.0
    with ExitStack() as held, ThreadPoolExecutor(16) as pool:
        clients = [held.enter_context(Client(emulated.gateway_url)) for _ in range(16)]
        list(pool.map(lambda client: timed(client, 1), clients))
    assert settled(emulated, SUCCESSES, before + 16) == before + 16
    assert (value(emulated, EXECUTIONS) or 0.0) - executed <= 8.0


@pytest.mark.parametrize(("target_ms", "bound"), [(60, 60000), (0.5, 500), (120, 120000)])
def test_targets_of_two_digits_are_exact(target_ms: float, bound: int) -> None:
    assert exact_bound_us(target_ms) == bound


@pytest.mark.parametrize("target_ms", [125, 60.5, 0.0001])
def test_other_targets_are_refused(target_ms: float) -> None:
    with pytest.raises(InputInvalid, match="target-ms"):
        exact_bound_us(target_ms)
