"""The resource's types: what is read, in which units, and the one definition made from them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpupilot_envs.errors import SpecInvalid
from gpupilot_envs.limits import Targets
from gpupilot_operator import crd, naming
from gpupilot_operator.spec import parse_spec
from gpupilot_operator.spec_fields import amount, seconds
from gpupilot_operator.status_fields import InferenceServiceStatus
from gpupilot_operator.structural import structural_schema

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = sorted((ROOT / "deploy" / "samples").glob("*.yaml"))


def body(**spec: Any) -> dict[str, Any]:
    predictor = {"targetRef": {"name": "triton"}, "maxReplicas": 8, **spec.pop("predictor", {})}
    slo = {"latency": {"target": "60ms"}, **spec.pop("slo", {})}
    metadata = {"namespace": "prod", "name": "shop"}
    return {"metadata": metadata, "spec": {"predictor": predictor, "slo": slo, **spec}}


def test_the_committed_definition_is_the_one_of_the_types() -> None:
    committed = (ROOT / "deploy" / "crds" / f"{naming.PLURAL}.yaml").read_text(encoding="utf-8")
    assert committed == crd.text(), "run: make crds"


def test_the_script_writes_every_definition_there_is() -> None:
    spec = importlib.util.spec_from_file_location("crds_script", ROOT / "scripts" / "crds.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert set(script.documents()) == {path.name for path in (ROOT / "deploy" / "crds").iterdir()}


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_every_sample_is_read(path: Path) -> None:
    read = parse_spec(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert read.limits.replicas_min <= read.limits.replicas_max


def test_the_objective_is_read_in_seconds_and_shares() -> None:
    read = parse_spec(body(slo={"latency": {"target": "60ms"}, "attainmentPercent": "99.5"}))
    assert read.targets == Targets(latency_s=0.06, attainment_ratio=0.995)


def test_whole_percents_may_be_numbers() -> None:
    assert parse_spec(body(slo={"attainmentPercent": 98})).targets.attainment_ratio == 0.98


def test_the_envelope_is_the_resource_s() -> None:
    behavior = {
        "scaleUp": {"maxStep": 4, "cooldownSeconds": 5},
        "scaleDown": {"disabled": True, "cooldownSeconds": 300},
        "staleAfterSeconds": 30,
    }
    gpu = {"sharing": "MIG", "minShareMilli": 250, "budgetMilli": 6000}
    read = parse_spec(body(gpu=gpu, autoscaling={"behavior": behavior})).limits
    assert (read.replicas_min, read.replicas_max) == (1, 8)
    assert (read.step_up_max, read.step_down_max) == (4, 0)
    assert (read.cooldown_up_s, read.cooldown_down_s, read.stale_after_s) == (5.0, 300.0, 30.0)
    assert (read.gpu_share_min_milli, read.gpu_share_max_milli) == (250, 1000)
    assert read.gpu_budget_milli == 6000


def test_a_share_is_asked_for_by_its_resources() -> None:
    slices = {"milli": 142, "resources": {"nvidia.com/mig-1g.10gb": 1}}
    gpu = parse_spec(body(gpu={"sharing": "MIG", "minShareMilli": 142, "shares": [slices]})).gpu
    assert gpu.asked(142) == {"nvidia.com/mig-1g.10gb": "1"}
    assert gpu.asked(1000) == {"nvidia.com/gpu": "1"}
    with pytest.raises(ValueError, match="no share of 500 thousandths; there are 142"):
        gpu.asked(500)


def test_without_a_budget_all_pods_at_their_largest_fit() -> None:
    assert parse_spec(body()).limits.gpu_budget_milli == 8000


def test_fields_of_a_newer_version_are_let_through() -> None:
    assert parse_spec(body(novelty={"a": 1})) == parse_spec(body())


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"predictor": {"maxReplicas": "many"}}, "predictor.maxReplicas"),
        ({"slo": {"latency": {"target": "60"}}}, "slo.latency.target"),
        ({"autoscaling": {"mode": "Auto"}}, "autoscaling.mode"),
    ],
    ids=["number", "duration", "enum"],
)
def test_what_got_past_the_schema_is_refused_with_whose_and_which(
    given: dict[str, Any], named: str
) -> None:
    with pytest.raises(SpecInvalid, match=r"prod/shop: spec\.") as refused:
        parse_spec(body(**given))
    assert named in str(refused.value)


def test_a_resource_without_spec_is_refused() -> None:
    with pytest.raises(SpecInvalid, match="shop: spec"):
        parse_spec({"metadata": {"name": "shop"}})


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(min_value=0, max_value=9_999_999))
def test_a_duration_means_its_unit(count: int) -> None:
    assert seconds(f"{count}ms") == pytest.approx(count / 1000)
    assert seconds(f"{count}s") == count
    assert seconds(f"{count}m") == 60 * count
    assert seconds(f"{count}h") == 3600 * count


@pytest.mark.parametrize("text", ["60", "ms", "1d", "-1s", "1e3s", "1.2345s", "60ms "])
def test_other_texts_are_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="such as 60ms"):
        seconds(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("500m", 0.5),
        ("2", 2.0),
        ("1.5", 1.5),
        ("2Gi", 2.0 * 2**30),
        ("512Mi", 2.0**29),
        ("1G", 1e9),
    ],
)
def test_a_quantity_means_what_kubernetes_means(text: str, meant: float) -> None:
    assert amount(text) == meant


@pytest.mark.parametrize("text", ["", "Gi", "-1", "2gb", "1e3", "1 Gi"])
def test_other_texts_are_no_quantities(text: str) -> None:
    with pytest.raises(ValueError, match="such as 500m"):
        amount(text)


def test_status_holds_at_most_five_decisions() -> None:
    schema = structural_schema(InferenceServiceStatus)
    assert schema["properties"]["autoscaling"]["properties"]["history"]["maxItems"] == 5


def test_no_field_is_a_float() -> None:
    assert "type: number" not in crd.text()
