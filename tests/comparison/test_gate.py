"""The gate: who is promoted, who is held and why, on recordings made in the test."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from markupsafe import escape

from gpupilot_agent.bundle import Bundle
from gpupilot_agent.gate import GateConfig, Ground, gate, priced
from gpupilot_agent.gate_data import execution_error, parts, sha256
from gpupilot_agent.proof import Code, Proof, json_schema, read_proof, write_proof
from gpupilot_agent.report.proof_page import write_proof_page
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.controller import Controller
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.limits import Limits, Targets
from gpupilot_envs.profile import ColdStart, ServiceProfile
from gpupilot_envs.signals import Signals
from gpupilot_envs.workload.recording import Recording

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "proof-v1.json"


@pytest.fixture(scope="module")
def service() -> ServiceProfile:
    return ServiceProfile(
        name="shop",
        batch_latency_ms=((1.0, 20.0), (4.0, 40.0)),
        cold_start_s=ColdStart(mean=10.0, cv=0.1),
    )


@pytest.fixture(scope="module")
def config() -> GateConfig:
    return GateConfig(
        targets=Targets(latency_s=0.2, attainment_ratio=0.95),
        baselines=("queueing-5s",),
        limits=Limits(replicas_max=12),
        trials=1,
        seeds=2,
        block_s=300.0,
    )


def recorded(minutes: float, *, start_s: float = 0.0, service: str = "shop") -> Recording:
    """Return readings every 15 s of a service whose load swings between 1 and 4 replicas."""
    count = round(4 * minutes)
    at_s = start_s + 15.0 * np.arange(1, count + 1)
    rates = 200.0 + 120.0 * np.sin(2.0 * np.pi * at_s / 1100.0)
    return Recording(
        service=service,
        readings=tuple(
            Signals(
                at_s=float(t), window_s=15.0, rate_rps=float(r), batch_mean=1.0, compute_time_s=0.02
            )
            for t, r in zip(at_s, rates, strict=True)
        ),
        allocations=(Allocation(replicas=4, batch_max=4),) * count,
    )


def policy(**controller: float) -> Bundle:
    """Return a bundle that never moves the classical controller it is given."""
    return Bundle(
        networks=(),
        controller=Controller(conformal=False, **controller),
        config={},
        seeds={"training": 0},
        trace_hashes={},
        commit="unknown",
        card={},
    ).unmoved()


def codes(proof: Proof) -> set[Code]:
    return {reason.code for reason in proof.reasons}


@pytest.fixture(scope="module")
def promoted(service: ServiceProfile, config: GateConfig) -> Proof:
    """Return the verdict on a sane controller that meets a fixed number of replicas."""
    fixed = replace(config, baselines=("static",), trials=4)
    return gate(
        policy(z=1.5, hold_s=120.0), Ground.of([recorded(100)], fixed, now=NOW, profile=service)
    )


def test_a_cheaper_policy_is_promoted_with_its_effect(promoted: Proof) -> None:
    assert promoted.promotes
    assert codes(promoted) == {Code.CHEAPER}
    against = promoted.baselines["static-tuned"]
    cost = against.cost_at_equal_attainment
    assert cost.ci95[1] is not None
    assert cost.mean is not None
    assert cost.mean < cost.ci95[1] < 0.0
    assert promoted.evidence.blocks >= 8
    assert promoted.policy is not None
    assert (promoted.policy.attainment_ratio.mean or 0.0) >= 0.95


def test_proof_says_of_what_it_is_and_how_old(promoted: Proof) -> None:
    mine = policy(z=1.5, hold_s=120.0).sha256
    assert promoted.covers(service="shop", bundle_sha256=mine)
    assert not promoted.covers(service="shop", bundle_sha256=policy(z=2.0).sha256)
    assert not promoted.covers(service="other", bundle_sha256=mine)
    assert promoted.age_s(NOW + timedelta(hours=2)) == 7200.0
    assert list(promoted.hashes.recordings.values()) == [sha256(recorded(100))]
    assert "recorded" in promoted.method
    assert "simulated" in promoted.method


def test_proof_file_follows_its_schema_and_comes_back(promoted: Proof, tmp_path: Path) -> None:
    write_proof(tmp_path / "proof.json", promoted)
    document = json.loads((tmp_path / "proof.json").read_text())
    jsonschema.validate(document, json.loads(SCHEMA.read_text()))
    assert SCHEMA.read_text() == json_schema()
    assert read_proof(tmp_path) == promoted
    (tmp_path / "proof.json").write_text("{}")
    with pytest.raises(InputInvalid, match=r"proof\.json"):
        read_proof(tmp_path)


def test_page_needs_no_network_and_names_what_it_stands_on(promoted: Proof, tmp_path: Path) -> None:
    write_proof_page(tmp_path / "proof.html", promoted)
    text = (tmp_path / "proof.html").read_text()
    assert not re.findall(r"(?:src|href|url\(|https?:)", text)
    for shown in ("Promote", "static-tuned", promoted.hashes.bundle, promoted.method):
        assert str(escape(shown)) in text


def test_the_same_question_has_the_same_answer(
    promoted: Proof, service: ServiceProfile, config: GateConfig
) -> None:
    fixed = replace(config, baselines=("static",), trials=4)
    again = gate(
        policy(z=1.5, hold_s=120.0), Ground.of([recorded(100)], fixed, now=NOW, profile=service)
    )
    assert again.baselines == promoted.baselines
    assert again.hashes == promoted.hashes


def test_the_same_decisions_are_held_because_nothing_differs(
    service: ServiceProfile, config: GateConfig
) -> None:
    twin = policy(z=1.5, hold_s=120.0, alpha=0.6, drain_s=15.0, beta=0.0)
    proof = gate(twin, Ground.of([recorded(100)], config, now=NOW, profile=service))
    assert proof.verdict == "hold"
    assert codes(proof) == {Code.NO_DIFFERENCE}
    assert proof.baselines["queueing-5s-tuned"].cost_as_they_ran.mean == 0.0


def test_a_dearer_policy_is_held_because_the_baseline_is_cheaper(
    service: ServiceProfile, config: GateConfig
) -> None:
    wasteful = policy(z=8.0, hold_s=900.0)
    proof = gate(wasteful, Ground.of([recorded(100)], config, now=NOW, profile=service))
    assert proof.verdict == "hold"
    assert codes(proof) == {Code.BASELINE_CHEAPER}
    assert "queueing-5s-tuned" in proof.reasons[0].text


def test_a_cheap_policy_that_is_late_is_held(service: ServiceProfile, config: GateConfig) -> None:
    late = policy(z=0.0, hold_s=15.0, alpha=0.2)
    strict = replace(config, targets=Targets(latency_s=0.06, attainment_ratio=0.999))
    proof = gate(late, Ground.of([recorded(100)], strict, now=NOW, profile=service))
    assert Code.ATTAINMENT_WORSE in codes(proof)


def test_a_margin_lets_an_equal_policy_pass(service: ServiceProfile, config: GateConfig) -> None:
    twin = policy(z=1.5, hold_s=120.0, alpha=0.6, drain_s=15.0, beta=0.0)
    lenient = replace(config, margin=0.01)
    assert gate(twin, Ground.of([recorded(100)], lenient, now=NOW, profile=service)).promotes


def test_too_short_a_recording_says_how_much_is_needed(
    service: ServiceProfile, config: GateConfig
) -> None:
    proof = gate(policy(), Ground.of([recorded(30)], config, now=NOW, profile=service))
    assert codes(proof) == {Code.TOO_LITTLE_DATA}
    assert "0.5 h are recorded, at least 1.1 h are needed" in proof.reasons[0].text
    assert proof.policy is None


def test_profile_of_another_service_is_told_by_its_executions(
    service: ServiceProfile, config: GateConfig
) -> None:
    slower = service.model_copy(update={"batch_latency_ms": ((1.0, 40.0), (4.0, 80.0))})
    error = execution_error([recorded(30)], slower)
    assert error == pytest.approx(-0.5)
    assert execution_error([recorded(30)], service) == pytest.approx(0.0)
    proof = gate(policy(), Ground.of([recorded(100)], config, now=NOW, profile=slower))
    assert codes(proof) == {Code.PROFILE_MISMATCH}


def test_recording_that_shows_no_profile_is_held(config: GateConfig) -> None:
    proof = gate(policy(), Ground.of([recorded(100)], config, now=NOW))
    assert codes(proof) == {Code.PROFILE_UNKNOWN}


def test_objective_no_batch_meets_is_held(service: ServiceProfile, config: GateConfig) -> None:
    impossible = replace(config, targets=Targets(latency_s=0.01))
    proof = gate(policy(), Ground.of([recorded(100)], impossible, now=NOW, profile=service))
    assert codes(proof) == {Code.OBJECTIVE_INFEASIBLE}


def test_recording_full_of_holes_is_held(service: ServiceProfile, config: GateConfig) -> None:
    whole = recorded(200)
    holes = tuple(
        replace(reading, rate_rps=None) if at % 40 < 16 else reading
        for at, reading in enumerate(whole.readings)
    )
    proof = gate(
        policy(), Ground.of([replace(whole, readings=holes)], config, now=NOW, profile=service)
    )
    assert Code.RECORDING_GAPS in codes(proof)
    assert proof.evidence.gap_ratio == pytest.approx(0.4)
    assert proof.evidence.longest_gap_s == 240.0


def test_recordings_that_do_not_belong_together_are_refused(
    service: ServiceProfile, config: GateConfig
) -> None:
    for others, said in (
        ([], "at least one"),
        ([recorded(60), recorded(60, start_s=4000.0, service="other")], "one service"),
        ([recorded(60), recorded(60, start_s=600.0)], "overlap"),
    ):
        with pytest.raises(InputInvalid, match=said):
            gate(policy(), Ground.of(others, config, now=NOW, profile=service))


def test_unknown_and_missing_baselines_are_refused(config: GateConfig) -> None:
    for wrong in (("magic",), (), ("hpa", "hpa"), ("ppo",)):
        with pytest.raises(InputInvalid, match="baselines"):
            replace(config, baselines=wrong)


def test_parts_divide_in_time_and_bridge_missed_scrapes() -> None:
    """Two recordings of an hour, 40 % of their time: the first, nearly; no second is in both."""
    first, second = recorded(60), recorded(60, start_s=7200.0)
    missed = tuple(
        replace(reading, rate_rps=None) if at == 50 else reading
        for at, reading in enumerate(first.readings)
    )
    divided = parts([second, replace(first, readings=missed)], earlier_share=0.4)
    assert [trace.name for trace in divided.earlier] == ["shop-0"]
    assert [trace.name for trace in divided.later] == ["shop-0", "shop-1"]
    assert not (~divided.earlier[0].masked & ~divided.later[0].masked).any()
    assert not divided.earlier[0].masked[50]
    assert divided.longest_gap_s == 15.0
    assert divided.earlier_s == pytest.approx(0.4 * 7200.0, abs=30.0)


def test_the_price_is_set_on_the_earlier_part_alone(
    service: ServiceProfile, config: GateConfig
) -> None:
    """A policy that pays too much for being in time pays less; what came later does not count."""
    dear = replace(policy(z=1.5, hold_s=120.0, z_per_log_price=1.0), prices=((0.95, 3000.0),))
    whole, eight = recorded(100), replace(config, trials=8)
    doubled = tuple(
        replace(reading, rate_rps=2.0 * (reading.rate_rps or 0.0)) if at > 170 else reading
        for at, reading in enumerate(whole.readings)
    )
    found = priced(dear, Ground.of([whole], eight, now=NOW, profile=service))
    ((objective, price),) = found.prices
    assert objective == 0.95
    assert price < 3000.0
    assert found.networks is dear.networks
    other = replace(whole, readings=doubled)
    assert priced(dear, Ground.of([other], eight, now=NOW, profile=service)).prices == found.prices


def test_recordings_that_carry_no_verdict_set_no_price(
    service: ServiceProfile, config: GateConfig
) -> None:
    mine = policy(z_per_log_price=1.0)
    impossible = replace(config, targets=Targets(latency_s=0.01))
    assert priced(mine, Ground.of([recorded(30)], config, now=NOW, profile=service)) is mine
    assert priced(mine, Ground.of([recorded(100)], config, now=NOW)) is mine
    assert priced(mine, Ground.of([recorded(100)], impossible, now=NOW, profile=service)) is mine
