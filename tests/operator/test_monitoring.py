"""Alerts and dashboard against a real Prometheus that scrapes the exporter."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpupilot_agent.stack import processes
from gpupilot_agent.stack.tools import cache_folder, prometheus_programs
from gpupilot_operator.exporter import Exporter
from gpupilot_operator.health import Health
from gpupilot_operator.pages import pages, served
from gpupilot_operator.plan import Batching, Plan, Resize
from gpupilot_operator.report import ServiceReport, TickReport
from gpupilot_testbed import observing

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "monitoring" / "prometheus-rule.yaml"
BOARD = ROOT / "deploy" / "grafana" / "operator.json"
OURS = re.compile(r"gpupilot_[a-z_]+")
EVERY = "250ms"

Reported = Callable[..., ServiceReport]
Ask = Callable[[str], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def programs() -> Path:
    return prometheus_programs(cache_folder(), print)


def groups() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(RULES.read_text(encoding="utf-8"))["spec"][
        "groups"
    ]
    return found


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in groups() for rule in group["rules"]}


def shown() -> list[str]:
    """Return every expression of the dashboard, its variables taken for all."""
    board = json.loads(BOARD.read_text(encoding="utf-8"))
    every = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return [each.replace("$namespace", ".*").replace("$service", ".*") for each in every]


def written(folder: Path) -> Path:
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": groups()}), encoding="utf-8")
    return path


def test_prometheus_takes_the_rules(programs: Path, tmp_path: Path) -> None:
    command = [str(programs / "promtool"), "check", "rules", str(written(tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(alerts())} rules found" in done.stdout


def firing(name: str, labels: dict[str, str]) -> str:
    """Return the series by which Prometheus says that an alert fires."""
    every = {"alertname": name, "alertstate": "firing", **alerts()[name]["labels"], **labels}
    inside = ",".join(f'{key}="{value}"' for key, value in every.items())
    return f"ALERTS{{{inside}}}"


WELL = {
    'gpupilot_leader{instance="a"}': "1x200",
    'gpupilot_leader{instance="b"}': "0x200",
    'gpupilot_last_tick_timestamp_seconds{instance="a"}': "0+15x200",
    'gpupilot_tick_seconds_bucket{instance="a",le="0.5"}': "0+3x200",
    'gpupilot_tick_seconds_bucket{instance="a",le="+Inf"}': "0+3x200",
    'gpupilot_query_errors_total{instance="a"}': "0x200",
}
SHOP = {"namespace": "prod", "inferenceservice": "shop"}


def of_shop(name: str, **labels: str) -> str:
    inside = ",".join(f'{key}="{value}"' for key, value in {**SHOP, **labels}.items())
    return f"{name}{{{inside}}}"


@pytest.mark.parametrize(
    ("changed", "fires"),
    [
        ({}, {}),
        ({'gpupilot_leader{instance="a"}': "1x40 0x160"}, {"GpupilotNobodyLeads": {}}),
        ({'gpupilot_leader{instance="b"}': "1x200"}, {"GpupilotTwoLeaders": {}}),
        (
            {'gpupilot_last_tick_timestamp_seconds{instance="a"}': "0+15x60 900x140"},
            {"GpupilotTicksLate": {}},
        ),
        (
            {'gpupilot_query_errors_total{instance="a"}': "0+1x200"},
            {"GpupilotPrometheusAway": {"instance": "a"}},
        ),
        (
            {'gpupilot_api_calls_total{verb="patch",resource="pods",code="403"}': "0+1x200"},
            {"GpupilotApiRefused": {"verb": "patch", "resource": "pods", "code": "403"}},
        ),
        ({'gpupilot_api_calls_total{verb="get",resource="pods",code="404"}': "0+1x200"}, {}),
        (
            {
                of_shop("gpupilot_attainment_ratio"): "0.9x200",
                of_shop("gpupilot_attainment_objective_ratio"): "0.99x200",
                of_shop("gpupilot_held_total", reason="TooManyReplicas"): "0+1x200",
            },
            {"GpupilotAtItsLimit": SHOP},
        ),
        (
            {
                of_shop("gpupilot_attainment_ratio"): "0.9x200",
                of_shop("gpupilot_attainment_objective_ratio"): "0.99x200",
                of_shop("gpupilot_held_total", reason="CoolingDown"): "0+1x200",
            },
            {},
        ),
        (
            {of_shop("gpupilot_condition", type="ReplicaConflict", reason="OtherWriter"): "1x200"},
            {
                "GpupilotReplicaConflict": {
                    **SHOP,
                    "type": "ReplicaConflict",
                    "reason": "OtherWriter",
                }
            },
        ),
    ],
)
def test_an_alert_fires_when_it_should_and_no_other(
    programs: Path, tmp_path: Path, changed: dict[str, str], fires: dict[str, dict[str, str]]
) -> None:
    expected = [{"labels": firing(*each), "value": 1} for each in fires.items()]
    expression = {
        "expr": 'ALERTS{alertstate="firing"}',
        "eval_time": "40m",
        "exp_samples": expected,
    }
    given = [{"series": name, "values": values} for name, values in (WELL | changed).items()]
    test = {"interval": "15s", "input_series": given, "promql_expr_test": [expression]}
    cases = {"rule_files": [written(tmp_path).name], "tests": [test]}
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump(cases), encoding="utf-8")
    command = [str(programs / "promtool"), "test", "rules", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def scraped(reported: Reported, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Return a question to a Prometheus that has scraped a leading operator a few times."""
    folder = tmp_path_factory.mktemp("prometheus")
    exporter = Exporter()
    exporter.leading(True)
    with served(pages(exporter.registry, Health()), 0, "127.0.0.1") as port:
        asked = {**observing.of_targets([port], every=EVERY), "rule_files": [str(written(folder))]}
        server, url = observing.start(folder / "seen", asked, print)

        def ask(query: str) -> list[dict[str, Any]]:
            page = f"{url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
            with urllib.request.urlopen(page, timeout=10) as answer:
                found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
            return found

        try:
            _tick_until(exporter, reported, ask)
            yield ask
        finally:
            processes.stop([server])


def _tick_until(exporter: Exporter, reported: Reported, ask: Ask) -> None:
    """Report ticks in which everything happens until Prometheus has seen several."""
    whole = Plan(
        replicas=4,
        share_milli=500,
        resize=Resize(cpu_milli=500, memory_bytes=2**30),
        batching=Batching(instances=1, batch_max=8, queue_delay_us=0),
    )
    deadline_s = time.monotonic() + 60.0
    while time.monotonic() < deadline_s:
        service = reported(plan=whole, proof_passed_at_s=time.time() - 60.0)
        exporter.report(
            TickReport(
                at_s=time.time(),
                read_s=0.1,
                decide_s=0.01,
                inference_s=0.001,
                act_s=0.01,
                queries=5,
                query_error="away",
                change_errors=1,
                telling_errors=1,
                services=(service,),
            )
        )
        exporter.api_call(verb="patch", resource="deployments/scale", code=200)
        time.sleep(0.25)
        seen = ask("gpupilot_queries_total[1m]")
        if seen and len(seen[0]["values"]) > 4:
            return
    raise AssertionError("Prometheus saw nothing")


@pytest.mark.parametrize("query", shown())
def test_the_dashboard_shows_something(scraped: Ask, query: str) -> None:
    assert scraped(query) != []


def test_alerts_and_dashboard_name_what_is_exported(scraped: Ask) -> None:
    exported = {each["metric"]["__name__"] for each in scraped('{__name__=~"gpupilot_.*"}')}
    rules = [rule["expr"] for rule in alerts().values()]
    named = {name for text in (*rules, *shown()) for name in OURS.findall(text)}
    assert named <= exported
    assert families(exported) - families(named) == {"gpupilot_build_info"}


def families(names: set[str]) -> set[str]:
    return {re.sub("_(bucket|sum|count)$", "", name) for name in names}


def test_no_service_label_is_renamed_by_the_scrape(scraped: Ask) -> None:
    (found,) = scraped("gpupilot_replicas_ready")
    assert (found["metric"]["namespace"], found["value"][1]) == ("prod", "2")


def test_the_table_of_metrics_is_complete(scraped: Ask) -> None:
    exported = {each["metric"]["__name__"] for each in scraped('{__name__=~"gpupilot_.*"}')}
    text = (ROOT / "docs" / "operator.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `gpupilot_")]
    told = {name for row in rows for name in OURS.findall(row)}
    assert families(told) == families(exported)
