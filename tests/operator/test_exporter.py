"""The operator's own metrics: what a scrape answers after ticks, and what goes with a service."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gpupilot_operator.exporter import Exporter
from gpupilot_operator.facts import Cause, MetricsState, PolicyState, Rung
from gpupilot_operator.plan import Plan
from gpupilot_operator.report import ServiceReport, TickReport

Reported = Callable[..., ServiceReport]
SHOP = {"namespace": "prod", "inferenceservice": "shop"}


def tick(*services: ServiceReport, at_s: float = 1000.0, error: str | None = None) -> TickReport:
    return TickReport(
        at_s=at_s,
        read_s=0.2,
        decide_s=0.03,
        inference_s=0.004,
        act_s=0.01,
        queries=5,
        change_errors=1,
        telling_errors=2,
        query_error=error,
        services=services,
    )


def scraped(exporter: Exporter, name: str, **labels: str) -> float | None:
    """Return what a scrape answers for one series, `None` where there is none."""
    return exporter.registry.get_sample_value(f"gpupilot_{name}", labels)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("replicas_asked", 5),
        ("replicas_granted", 4),
        ("replicas_shadow", 6),
        ("replicas_running", 3),
        ("requests_per_second", 80),
        ("replicas_ready", 2),
        ("gpus_held", 1.5),
        ("attainment_ratio", 0.97),
        ("attainment_objective_ratio", 0.99),
        ("latency_objective_seconds", 0.06),
        ("proof_age_seconds", 100),
    ],
)
def test_a_service_shows(reported: Reported, name: str, value: float) -> None:
    exporter = Exporter()
    exporter.report(tick(reported(proof_passed_at_s=900.0)))
    assert scraped(exporter, name, **SHOP) == value


def test_what_is_not_known_is_no_series(reported: Reported) -> None:
    exporter = Exporter()
    exporter.report(tick(reported(facts={"grant": None, "shadow": None, "observed": None})))
    for name in ("replicas_asked", "replicas_shadow", "requests_per_second", "proof_age_seconds"):
        assert scraped(exporter, name, **SHOP) is None
    assert scraped(exporter, "latency_seconds", quantile="0.95", **SHOP) is None
    told = {"type": "ScalingLimited", "reason": "NotDecidedYet"}
    assert scraped(exporter, "condition", **told, **SHOP) is None


def test_resources_for_which_nothing_runs_are_counted_and_not_ready(reported: Reported) -> None:
    exporter = Exporter()
    exporter.report(replace(tick(reported()), unready={"prod/search": "TargetNotFound"}))
    assert scraped(exporter, "services") == 2
    search = {"namespace": "prod", "inferenceservice": "search", "reason": "TargetNotFound"}
    for kind in ("Ready", "AbleToScale"):
        assert scraped(exporter, "condition", type=kind, **search) == 0


def test_one_percentile_that_is_not_known_leaves_the_others(reported: Reported) -> None:
    exporter = Exporter()
    exporter.report(tick(reported()))
    assert scraped(exporter, "latency_seconds", quantile="0.95", **SHOP) == 0.05
    assert scraped(exporter, "latency_seconds", quantile="0.99", **SHOP) is None


def test_conditions_are_those_of_status(reported: Reported) -> None:
    exporter = Exporter()
    changed = {
        "metrics": MetricsState.STALE,
        "policy": PolicyState.UNPROVEN,
        "rung": Rung.CONTROLLER,
        "cause": Cause.PROOF,
    }
    exporter.report(tick(reported(facts=changed)))
    wanted = {
        ("Ready", "PodsReady"): 1,
        ("MetricsAvailable", "MetricsStale"): 0,
        ("PolicyReady", "ProofMissing"): 0,
        ("Fallback", "ProofNeeded"): 1,
        ("ReplicaConflict", "OneWriter"): 0,
    }
    for (kind, reason), value in wanted.items():
        assert scraped(exporter, "condition", type=kind, reason=reason, **SHOP) == value
    info = {
        "mode": "Act",
        "decider": "ControllerDecides",
        "cause": "ProofNeeded",
        "policy": "generalist",
    }
    assert scraped(exporter, "service_info", **info, **SHOP) == 1


def test_limits_and_changes_are_counted(reported: Reported) -> None:
    exporter = Exporter()
    for _ in range(3):
        exporter.report(tick(reported(plan=Plan(replicas=4))))
    exporter.report(tick(reported()))
    assert scraped(exporter, "held_total", reason="StepLimited", **SHOP) == 4
    assert scraped(exporter, "held_total", reason="TooManyReplicas", **SHOP) == 4
    assert scraped(exporter, "held_total", reason="CoolingDown", **SHOP) is None
    assert scraped(exporter, "changes_total", actuator="replicas", **SHOP) == 3
    assert scraped(exporter, "changes_total", actuator="resize", **SHOP) is None


def series_of(exporter: Exporter, service: str) -> list[str]:
    samples = [sample for family in exporter.registry.collect() for sample in family.samples]
    return [s.name for s in samples if s.labels.get("inferenceservice") == service]


def test_series_of_a_service_go_with_it(reported: Reported) -> None:
    exporter = Exporter()
    exporter.report(tick(reported("shop"), reported("search")))
    exporter.report(tick(reported("search")))
    assert series_of(exporter, "shop") == []
    assert len(series_of(exporter, "search")) >= 20
    exporter.report(tick(reported("shop")))
    counted = scraped(exporter, "held_total", reason="StepLimited", **SHOP)
    assert counted == 1, "a later service of the name begins anew"


def test_a_replica_that_stands_by_shows_no_service(reported: Reported) -> None:
    exporter = Exporter()
    assert scraped(exporter, "leader") == 0
    exporter.leading(True)
    exporter.report(tick(reported()))
    assert (scraped(exporter, "leader"), scraped(exporter, "services")) == (1, 1)
    exporter.leading(False)
    assert (scraped(exporter, "leader"), scraped(exporter, "services")) == (0, None)
    assert series_of(exporter, "shop") == []


def test_ticks_and_requests_are_counted() -> None:
    exporter = Exporter()
    exporter.report(tick(error="Prometheus at http://p did not answer within 5 s"))
    exporter.report(tick(at_s=1015.0))
    exporter.api_call(verb="patch", resource="deployments/scale", code=200)
    exporter.api_call(verb="patch", resource="deployments/scale", code=200)
    exporter.api_call(verb="patch", resource="deployments/scale", code=409)
    asked = {"verb": "patch", "resource": "deployments/scale"}
    assert scraped(exporter, "api_calls_total", code="200", **asked) == 2
    assert scraped(exporter, "api_calls_total", code="409", **asked) == 1
    assert scraped(exporter, "queries_total") == 10
    assert scraped(exporter, "query_errors_total") == 1
    assert scraped(exporter, "failures_total", step="changing") == 2
    assert scraped(exporter, "failures_total", step="telling") == 4
    assert scraped(exporter, "inference_seconds_sum") == pytest.approx(0.008)
    assert scraped(exporter, "tick_seconds_count") == 2
    assert scraped(exporter, "tick_seconds_sum") == pytest.approx(0.48)
    assert scraped(exporter, "last_tick_seconds", phase="read") == 0.2
    assert scraped(exporter, "last_tick_timestamp_seconds") == 1015.0


def test_the_pages_text_is_read_back_by_prometheus_own_parser(reported: Reported) -> None:
    from prometheus_client import generate_latest

    exporter = Exporter()
    exporter.report(tick(*(reported(f"shop-{number}") for number in range(3))))
    text = generate_latest(exporter.registry).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert len(families["gpupilot_replicas_asked"].samples) == 3
    assert families["gpupilot_held"].type == "counter"
    assert {"process_resident_memory_bytes", "python_info"} <= families.keys()
