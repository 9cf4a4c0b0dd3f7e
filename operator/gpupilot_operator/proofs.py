"""Proof before Act: which policy a service has, and whether it has shown that it may act.

A learned policy acts only where the gate (``gpupilot gate``) promoted this very bundle on this
very service, not longer ago than the spec allows, or where a person overrides it by annotation.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from gpupilot_agent.bundle import Bundle, parse
from gpupilot_agent.generalist import NAME, load_generalist
from gpupilot_agent.proof import Proof
from gpupilot_envs.errors import BundleRefused
from gpupilot_operator.conditions import written
from gpupilot_operator.facts import PolicyState
from gpupilot_operator.manual import OVERRIDE, overrides_gate
from gpupilot_operator.ports import Seen
from gpupilot_operator.service import SERVICE_LABEL
from gpupilot_operator.spec_autoscaling import DAY_S, PolicyKind
from gpupilot_operator.status_fields import ProofStatus

AHEAD_S = 300.0
"""A proof dated further in the future than this is none: it would never grow old."""
_SUMMARY_MOST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """The learned policy of a service.

    Attributes:
        name: The shipped one's name, or the first digits of the digest.
        bundle: The policy.
        sha256: Its digest, see :attr:`Bundle.sha256`.
        refused: Why the service's own bundle could not be used and the shipped one's controller
            stands in; ``None`` where the bundle is the one asked for.
    """

    name: str
    bundle: Bundle
    sha256: str
    refused: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a policy has shown.

    Attributes:
        state: Whether it may act, and why not.
        proof: As the status tells it; ``None`` of a classical policy.
        said: What there is to say beyond the state's word, a clause.
    """

    state: PolicyState
    proof: ProofStatus | None = None
    said: str = ""


def shipped() -> Candidate:
    """Return the policy that ships with the package.

    Raises:
        BundleRefused: The package is damaged.
    """
    bundle = load_generalist()
    return Candidate(name=NAME, bundle=bundle, sha256=bundle.sha256)


def candidate_of(seen: Seen, otherwise: Candidate) -> Candidate:
    """Return a service's own bundle where it has a valid one, else the shipped one."""
    ref, data = seen.service.spec.autoscaling.policy_ref, seen.artefacts.bundle
    if data is not None:
        found = _loaded(data, None if ref is None else ref.digest)
        return replace(otherwise, refused=found) if isinstance(found, str) else found
    if ref is None:
        return otherwise
    said = f"no ConfigMap {ref.config_map!r} with the label {SERVICE_LABEL} has a key {ref.key!r}"
    return replace(otherwise, refused=said)


@lru_cache(maxsize=64)
def _loaded(data: bytes, digest: str | None) -> Candidate | str:
    """Return the policy in a file's bytes, or why it is refused."""
    found = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if digest is not None and found != digest:
        return f"its digest is {found[:19]}…, the spec says {digest[:19]}…"
    try:
        bundle = parse(data, Path("the bundle"))
    except BundleRefused as error:
        return str(error)
    sha256 = bundle.sha256
    return Candidate(name=sha256[:12], bundle=bundle, sha256=sha256)


def standing_of(seen: Seen, candidate: Candidate, now_s: float) -> Standing:
    """Return whether the policy of a service may act.

    Args:
        seen: The service.
        candidate: Its learned policy.
        now_s: Unix time.
    """
    autoscaling = seen.service.spec.autoscaling
    if autoscaling.policy is not PolicyKind.LEARNED:
        return Standing(state=PolicyState.CLASSICAL)
    if candidate.refused is not None:
        none = ProofStatus(verdict="none", summary="the bundle was refused")
        return Standing(state=PolicyState.REFUSED, proof=none, said=candidate.refused)
    state, proof = _judged(seen, candidate, autoscaling.proof.max_age_days, now_s)
    if state is not PolicyState.PROVEN and overrides_gate(seen.annotations):
        overridden = proof.model_copy(update={"overridden": True})
        return Standing(state=PolicyState.OVERRIDDEN, proof=overridden, said=proof.summary)
    return Standing(state=state, proof=proof, said=proof.summary + _misspelt(seen))


def _misspelt(seen: Seen) -> str:
    """Return what is to be said of an annotation that was meant to override and does not."""
    said = seen.annotations.get(OVERRIDE, "false")
    plain = said.strip().lower() in ("true", "false")
    return "" if plain else f"; the annotation {OVERRIDE}={said} does nothing: only true does"


def _judged(
    seen: Seen, candidate: Candidate, max_age_days: int, now_s: float
) -> tuple[PolicyState, ProofStatus]:
    if seen.artefacts.proof is None:
        summary = f"no ConfigMap with the label {SERVICE_LABEL} has a proof.json: see gpupilot gate"
        return PolicyState.UNPROVEN, ProofStatus(verdict="none", summary=summary)
    found = _read(seen.artefacts.proof)
    if isinstance(found, str):
        return PolicyState.UNPROVEN, ProofStatus(verdict="none", summary=found)
    told = _told(found, max_age_days)
    wrong = _beside_the_point(found, seen, candidate.sha256)
    age_s = found.age_s(datetime.fromtimestamp(now_s, UTC))
    if wrong is None and age_s < -AHEAD_S:
        wrong = "it is dated in the future"
    if wrong is not None:
        return PolicyState.UNPROVEN, told.model_copy(update={"summary": wrong})
    if not found.promotes:
        return PolicyState.HELD, told
    if age_s > max_age_days * DAY_S:
        return PolicyState.EXPIRED, told
    return PolicyState.PROVEN, told


@lru_cache(maxsize=1024)
def _read(data: bytes) -> Proof | str:
    try:
        return Proof.model_validate_json(data)
    except ValidationError:
        return "proof.json is not what gpupilot gate writes"


def _beside_the_point(proof: Proof, seen: Seen, sha256: str) -> str | None:
    """Return why a proof says nothing of this policy on this service; ``None`` where it does."""
    service, targets = seen.service, seen.service.spec.targets
    if not any(
        proof.covers(service=name, bundle_sha256=sha256) for name in (service.name, service.key)
    ):
        judged = proof.hashes.bundle[:12]
        return f"it judged policy {judged} on {proof.service}, not {sha256[:12]} here"
    objective = proof.objective
    if objective.attainment_ratio < targets.attainment_ratio or (
        objective.latency_ms > 1000.0 * targets.latency_s * (1.0 + 1e-9)
    ):
        return (
            f"it was judged at {objective.latency_ms:g} ms for "
            f"{100.0 * objective.attainment_ratio:g} %, which is easier than the objective now"
        )
    return None


def _told(proof: Proof, max_age_days: int) -> ProofStatus:
    passed = proof.created_at.astimezone(UTC)
    expires = datetime.fromtimestamp(passed.timestamp() + max_age_days * DAY_S, UTC)
    return ProofStatus(
        verdict=proof.verdict,
        policy_digest=proof.hashes.bundle,
        passed_at=written(passed) if proof.promotes else None,
        expires_at=written(expires) if proof.promotes else None,
        summary="; ".join(why.text for why in proof.reasons)[:_SUMMARY_MOST],
    )
