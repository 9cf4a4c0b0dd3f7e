"""Decisions of the control loop as the rows of the decision log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gpupilot_agent.comparison.contenders import Contender
from gpupilot_agent.comparison.scene import Scene
from gpupilot_agent.decision_log import DecisionLog, Entry
from gpupilot_agent.explanation.setting import described
from gpupilot_agent.policies import Evidence
from gpupilot_agent.rollout import Decision
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.gears import ACTUATORS
from gpupilot_envs.profile import ServiceProfile
from gpupilot_operator.ports import Noted


def alike(rows: Sequence[Noted]) -> list[list[Noted]]:
    """Return runs of rows that were decided in the same setting, which is one file's."""
    parts: list[list[Noted]] = []
    for row in rows:
        if parts and _same_setting(parts[-1][-1], row):
            parts[-1].append(row)
        else:
            parts.append([row])
    return parts


def _same_setting(one: Noted, other: Noted) -> bool:
    return (
        one.bundle_sha256 == other.bundle_sha256
        and one.profile is other.profile
        and one.geared == other.geared
        and (one.geared or _shape(one) == _shape(other))
        and one.service.spec == other.service.spec
    )


def _shape(noted: Noted) -> Allocation:
    return replace(noted.running, replicas=1)


def log_of(rows: Sequence[Noted]) -> DecisionLog:
    """Return decisions of one service, policy and setting as the log's format has them."""
    first = rows[0]
    return DecisionLog(
        service=first.service.key,
        policy=first.policy,
        entries=tuple(_entry(row) for row in rows),
        bundle_sha256=first.bundle_sha256,
        setting=_setting(first),
    )


def _setting(noted: Noted) -> dict[str, object]:
    """Return scene and decider, so that the moment can be simulated again; empty where unsized."""
    if noted.profile is None:
        return {}
    spec = noted.service.spec
    learned = noted.bundle_sha256 is not None
    scene = Scene(
        profile=noted.profile if noted.geared else _as_run(noted.profile, noted.running),
        targets=spec.targets,
        limits=spec.limits,
        hours=None,
        warm_up_s=0.0,
        actuators=ACTUATORS if noted.geared else (),
    )
    decider = Contender(
        name=noted.policy,
        setting=noted.policy,
        family=noted.family,
        role="learned" if learned else "default",
        params=(("price_scale", 1.0),) if learned else (),
        asked=spec.targets.attainment_ratio,
        main=True,
        bundle_sha256=noted.bundle_sha256,
    )
    return described(scene, decider)


def _as_run(profile: ServiceProfile, running: Allocation) -> ServiceProfile:
    """Return a profile with the batching that ran, by which the pods were counted."""
    most = running.batch_max
    batching = profile.batching.model_copy(
        update={
            "enabled": profile.batching.enabled and most > 1,
            "max_batch": most,
            "preferred": tuple(size for size in profile.batching.preferred if size <= most),
            "queue_delay_ms": running.queue_delay_us / 1000.0,
        }
    )
    ran = {"batching": batching, "instances_per_replica": running.instances_per_replica}
    return profile.model_copy(update=ran)


def _entry(noted: Noted) -> Entry:
    grant = noted.grant
    return Entry(
        seen=noted.seen,
        running=noted.running,
        decision=Decision(
            at_s=noted.at_s,
            ask=grant.asked,
            granted=grant.granted,
            held=grant.granted != grant.asked,
            reasons=grant.reasons,
            why=noted.why,
            evidence=_evidence(noted),
        ),
    )


def _evidence(noted: Noted) -> Evidence | None:
    if noted.observation is None or noted.logits is None or noted.action is None:
        return None
    return Evidence(
        observation=tuple(noted.observation.tolist()),
        logits=tuple(noted.logits.tolist()),
        action=tuple(noted.action.tolist()),
        price=noted.price,
    )
