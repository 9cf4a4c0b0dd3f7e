"""A learned policy acts only with a passed gate: of this policy, on this service, not too old."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gpupilot_agent.generalist import generalist_file
from gpupilot_agent.proof import Evidence, Hashes, Objective, Proof
from gpupilot_operator.facts import PolicyState
from gpupilot_operator.ports import Artefacts, Seen
from gpupilot_operator.proofs import Candidate, candidate_of, shipped, standing_of

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def own() -> Candidate:
    return shipped()


@pytest.fixture
def proof(own: Candidate) -> Proof:
    nothing = dict.fromkeys(
        ("recorded_hours", "gap_ratio", "longest_gap_s", "tuned_hours", "judged_hours"), 0.0
    )
    evidence = Evidence(**nothing, first_at_s=0.0, last_at_s=0.0, blocks=0, block_s=0.0, seeds=1)
    return Proof(
        verdict="promote",
        reasons=(),
        service="shop",
        created_at=NOW - timedelta(days=1),
        objective=Objective(latency_ms=60.0, attainment_ratio=0.99),
        margin=0.0,
        decisive=None,
        policy=None,
        baselines={},
        evidence=evidence,
        hashes=Hashes(bundle=own.sha256, profile=None, recordings={}, config=""),
        environment={},
    )


def seen_with(shop_of: Callable[..., Any], shown: Proof | bytes | None, **spec: Any) -> Seen:
    data = shown.model_dump_json().encode() if isinstance(shown, Proof) else shown
    seen: Seen = shop_of(**({"policy": "Learned"} | spec)).seen()
    return replace(seen, artefacts=Artefacts(proof=data))


def state(seen: Seen, own: Candidate) -> PolicyState:
    return standing_of(seen, candidate_of(seen, own), NOW.timestamp()).state


def test_a_passed_gate_lets_the_policy_act_and_is_shown(
    shop_of: Callable[..., Any], own: Candidate, proof: Proof
) -> None:
    seen = seen_with(shop_of, proof)
    standing = standing_of(seen, candidate_of(seen, own), NOW.timestamp())
    assert standing.state is PolicyState.PROVEN
    assert standing.proof is not None
    assert standing.proof.passed_at == "2026-11-21T12:00:00Z"
    assert standing.proof.expires_at == "2026-12-05T12:00:00Z"
    assert standing.proof.policy_digest == own.sha256


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"verdict": "hold"}, PolicyState.HELD),
        ({"created_at": NOW - timedelta(days=15)}, PolicyState.EXPIRED),
        ({"created_at": NOW + timedelta(days=1)}, PolicyState.UNPROVEN),
        ({"service": "search"}, PolicyState.UNPROVEN),
        ({"service": "prod/shop"}, PolicyState.PROVEN),
        ({"service": "other/shop"}, PolicyState.UNPROVEN),
        ({"objective": Objective(latency_ms=120.0, attainment_ratio=0.99)}, PolicyState.UNPROVEN),
        ({"objective": Objective(latency_ms=60.0, attainment_ratio=0.95)}, PolicyState.UNPROVEN),
        ({"objective": Objective(latency_ms=40.0, attainment_ratio=0.995)}, PolicyState.PROVEN),
    ],
    ids=["held", "old", "future", "other", "namespaced", "namesake", "slower", "laxer", "harder"],
)
def test_a_proof_counts_only_for_what_it_proves(
    shop_of: Callable[..., Any],
    own: Candidate,
    proof: Proof,
    changes: dict[str, Any],
    expected: PolicyState,
) -> None:
    assert state(seen_with(shop_of, proof.model_copy(update=changes)), own) is expected


def test_the_age_is_the_specs(shop_of: Callable[..., Any], own: Candidate, proof: Proof) -> None:
    old = proof.model_copy(update={"created_at": NOW - timedelta(days=15)})
    assert state(seen_with(shop_of, old, proof={"maxAgeDays": 30}), own) is PolicyState.PROVEN


@pytest.mark.parametrize("data", [None, b"", b"{}", b"\xff\xfe", b'{"verdict": "promote"}'])
def test_no_proof_or_a_damaged_one_proves_nothing_and_an_override_is_shown(
    shop_of: Callable[..., Any], own: Candidate, data: bytes | None
) -> None:
    seen = seen_with(shop_of, data)
    assert state(seen, own) is PolicyState.UNPROVEN
    overridden = replace(seen, annotations={"gpupilot.dev/override-gate": "true"})
    standing = standing_of(overridden, own, NOW.timestamp())
    assert standing.state is PolicyState.OVERRIDDEN
    assert standing.proof is not None
    assert standing.proof.overridden


def test_another_bundle_than_the_judged_one_has_shown_nothing(
    shop_of: Callable[..., Any], own: Candidate, proof: Proof
) -> None:
    hashes = proof.hashes.model_copy(update={"bundle": "0" * 64})
    other = proof.model_copy(update={"hashes": hashes})
    seen = seen_with(shop_of, other)
    assert state(seen, own) is PolicyState.UNPROVEN


def test_a_bundle_of_ones_own_is_pinned_by_its_digest(
    shop_of: Callable[..., Any], own: Candidate
) -> None:
    data = generalist_file().read_bytes()
    for digest, refused in ((hashlib.sha256(data).hexdigest(), False), ("0" * 64, True)):
        ref = {"configMap": "policy", "digest": f"sha256:{digest}"}
        seen = replace(seen_with(shop_of, None, policyRef=ref), artefacts=Artefacts(bundle=data))
        found = candidate_of(seen, own)
        assert (found.refused is not None) is refused
        assert found.name == ("generalist" if refused else own.sha256[:12])
        expected = PolicyState.REFUSED if refused else PolicyState.UNPROVEN
        assert standing_of(seen, found, NOW.timestamp()).state is expected


@pytest.mark.parametrize("data", [None, b"", b"not a bundle"])
def test_a_bundle_that_is_missing_or_damaged_is_refused_in_words(
    shop_of: Callable[..., Any], own: Candidate, data: bytes | None
) -> None:
    digest = hashlib.sha256(data or b"").hexdigest()
    ref = {"configMap": "policy", "digest": f"sha256:{digest}"}
    seen = replace(seen_with(shop_of, None, policyRef=ref), artefacts=Artefacts(bundle=data))
    found = candidate_of(seen, own)
    assert found.refused is not None
    assert ("has a key 'policy.bundle'" in found.refused) == (data is None)


def test_a_classical_policy_needs_no_proof(shop_of: Callable[..., Any], own: Candidate) -> None:
    assert state(seen_with(shop_of, None, policy="Queueing"), own) is PolicyState.CLASSICAL
