"""The PromQL of every source, evaluated by Prometheus' own test tool on scripted series."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from gpupilot_agent.stack.monitoring import recording_rules
from gpupilot_agent.stack.tools import cache_folder, prometheus_programs
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.latency_sources import SOURCES, HistogramSource, find_source

ROOT = Path(__file__).resolve().parents[2]
WINDOW = "1m"


@pytest.fixture(scope="module")
def promtool() -> str:
    """Return Prometheus' test tool, from the same place as the server."""
    return str(prometheus_programs(cache_folder(), print) / "promtool")


def checked(promtool: str, folder: Path, document: dict[str, object]) -> None:
    """Let the tool evaluate a test file; its report is the failure's message."""
    path = folder / "test.yml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    done = subprocess.run([promtool, "test", "rules", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def histogram(
    source: HistogramSource, labels: str, per_minute: dict[str, float]
) -> list[dict[str, str]]:
    """Return the series of a histogram that grows evenly: requests a minute by bound."""
    whose = f'{source.service_label}="shop",{labels}'
    series = {
        f'{source.histogram}_bucket{{{whose},le="{bound}"}}': count
        for bound, count in per_minute.items()
    }
    series[f"{source.histogram}_count{{{whose}}}"] = per_minute["+Inf"]
    return [{"series": name, "values": f"100+{count / 4:g}x40"} for name, count in series.items()]


def expectations(
    source_name: str, wanted: dict[str, float | None], *, target_s: float
) -> list[dict[str, object]]:
    """Return what each expression must answer at ten minutes, ``None`` for no answer."""
    queries = SOURCES[source_name].queries("shop", target_s=target_s, window=WINDOW)
    return [
        {
            "expr": queries[signal],
            "eval_time": "10m",
            "exp_samples": [] if value is None else [{"labels": "{}", "value": value}],
        }
        for signal, value in wanted.items()
    ]


@pytest.mark.parametrize(
    ("name", "bounds", "ok", "failed"),
    [
        ("gpupilot-gateway", ("50000", "60000"), 'outcome="ok"', 'outcome="failed"'),
        ("ingress-nginx", ("0.05", "0.06"), 'status="200"', 'status="503"'),
        (
            "istio",
            ("50", "60"),
            'response_code="200",grpc_response_status="",reporter="destination"',
            'response_code="503",grpc_response_status="",reporter="destination"',
        ),
    ],
)
def test_a_histogram_source(
    promtool: str, tmp_path: Path, name: str, bounds: tuple[str, str], ok: str, failed: str
) -> None:
    """Of 480 a minute 60 fail; of the 420 answered 240 take under 50 ms and 360 under 60."""
    source = SOURCES[name]
    assert isinstance(source, HistogramSource)
    answered = {bounds[0]: 240.0, bounds[1]: 360.0, "+Inf": 420.0}
    refused = {bounds[0]: 60.0, bounds[1]: 60.0, "+Inf": 60.0}
    wanted: dict[str, float | None] = {
        "rate_rps": 8.0,
        "error_ratio": 0.125,
        "attainment_ratio": 0.75,
    }
    test = {
        "interval": "15s",
        "input_series": histogram(source, ok, answered) + histogram(source, failed, refused),
        "promql_expr_test": expectations(name, wanted, target_s=0.06),
    }
    checked(promtool, tmp_path, {"tests": [test]})


def test_all_failed_and_nothing_there(promtool: str, tmp_path: Path) -> None:
    """Without a series of answered requests attainment is 0; without any series it is unknown."""
    source = SOURCES["ingress-nginx"]
    assert isinstance(source, HistogramSource)
    failing = histogram(source, 'status="503"', {"0.06": 60.0, "+Inf": 60.0})
    lost: dict[str, float | None] = {"rate_rps": 1.0, "error_ratio": 1.0, "attainment_ratio": 0.0}
    nothing = dict.fromkeys(lost)
    tests = [
        {
            "interval": "15s",
            "input_series": series,
            "promql_expr_test": expectations("ingress-nginx", wanted, target_s=0.06),
        }
        for series, wanted in ((failing, lost), ([], nothing))
    ]
    checked(promtool, tmp_path, {"tests": tests})


def test_the_fallback_takes_the_worst_pod(promtool: str, tmp_path: Path) -> None:
    """One pod keeps 60 ms up to its p99, the other to its p90: at least 90 % are in time."""
    quantiles = {"0.5": (20e3, 30e3), "0.9": (30e3, 50e3), "0.95": (40e3, 70e3)}
    quantiles |= {"0.99": (55e3, 90e3), "0.999": (80e3, 99e3)}
    summaries = [
        {
            "series": f'nv_inference_request_summary_us{{model="shop",pod="{pod}",quantile="{q}"}}',
            "values": f"{values[index]:g}x60",
        }
        for q, values in quantiles.items()
        for index, pod in enumerate(("a", "b"))
    ]
    counters = [
        {"series": 'nv_inference_request_success{model="shop",pod="a"}', "values": "0+15x40"},
        {"series": 'nv_inference_request_failure{model="shop",pod="a"}', "values": "0+5x40"},
    ]
    wanted: dict[str, float | None] = {
        "rate_rps": 4 / 3,
        "error_ratio": 0.25,
        "latency_p50_s": 0.03,
        "latency_p95_s": 0.07,
        "latency_p99_s": 0.09,
        "attainment_ratio": 0.9,
    }
    test = {
        "interval": "15s",
        "input_series": summaries + counters,
        "promql_expr_test": expectations("triton-summary", wanted, target_s=0.06),
    }
    checked(promtool, tmp_path, {"tests": [test]})


def test_the_dashboard_shows_what_is_recorded() -> None:
    (group,) = recording_rules(60.0)["groups"]
    recorded = {rule["record"] for rule in group["rules"]}
    board = json.loads((ROOT / "deploy" / "grafana" / "serving.json").read_text(encoding="utf-8"))
    shown = {target["expr"] for panel in board["panels"] for target in panel["targets"]}
    assert shown == recorded


def test_an_unknown_source_is_refused() -> None:
    with pytest.raises(InputInvalid, match="gpupilot-gateway, ingress-nginx"):
        find_source("haproxy")
