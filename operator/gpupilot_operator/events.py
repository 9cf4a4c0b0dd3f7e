"""Which events a tick is worth: few, typed, and on change only."""

from __future__ import annotations

from collections.abc import Iterator

from gpupilot_operator.facts import Cause, Facts, MetricsState, PolicyState, Rung
from gpupilot_operator.plan import Plan
from gpupilot_operator.ports import Event
from gpupilot_operator.saying import (
    cause_sentence,
    metrics_sentence,
    policy_sentence,
    rung_sentence,
)
from gpupilot_operator.service import Service

_WORTH = frozenset(Cause) - {Cause.IN_CHARGE, Cause.PROOF, Cause.UNSIZED}
"""Causes to look at: an unproven policy is the ordinary state of a new service."""


def events_of(
    service: Service, before: Facts | None, after: Facts, plan: Plan | None, failure: str | None
) -> tuple[Event, ...]:
    """Return what is worth an event, in the order it came about.

    Args:
        service: The resource.
        before: What the last tick found out; ``None`` at the first look after a start, at which
            only what is done is told.
        after: What this one found out.
        plan: What was changed, or tried to.
        failure: Why that went wrong; ``None`` where it did not, or where it has been told.
    """
    told = [] if before is None else list(_changes(service, before, after))
    if failure is not None:
        said = f"the change was not carried out: {failure}"
        told.append(Event(reason="ScalingFailed", message=said, warning=True))
    elif plan is not None and after.grant is not None:
        told.extend(_done(plan, after))
    return tuple(told)


def _changes(service: Service, before: Facts, after: Facts) -> Iterator[Event]:
    if before.metrics is not after.metrics:
        yield _metrics(after.metrics)
    if not _is_measuring(before, after):
        if before.policy is not after.policy:
            yield _policy(service, after)
        if (before.rung, before.cause) != (after.rung, after.cause):
            yield _rung(before, after)
    if before.other_writer != after.other_writer and after.other_writer is not None:
        said = f"{after.other_writer} sets the replicas too: nothing is changed until one goes"
        yield Event(reason="ReplicaConflict", message=said, warning=True)
    if before.hand != after.hand:
        yield _hand(after)


def _is_measuring(before: Facts, after: Facts) -> bool:
    """Whether it is still being worked out what a pod carries, or just was and all is well."""
    done = before.policy is PolicyState.MEASURING and after.policy.is_sized
    return after.policy is PolicyState.MEASURING or (done and after.cause not in _WORTH)


def _metrics(state: MetricsState) -> Event:
    found = state is MetricsState.FOUND
    reason = "MetricsAvailable" if found else state.value
    return Event(reason=reason, message=metrics_sentence(state), warning=not found)


def _policy(service: Service, after: Facts) -> Event:
    ready = after.policy.may_act
    reason = "PolicyReady" if ready else "PolicyNotReady"
    return Event(reason=reason, message=policy_sentence(service, after), warning=not ready)


def _rung(before: Facts, after: Facts) -> Event:
    if after.rung is Rung.POLICY:
        said = f"{rung_sentence(after)}; no longer so: {cause_sentence(before.cause)}"
        return Event(reason="FallbackDeactivated", message=said)
    worth = after.cause in _WORTH
    return Event(reason="FallbackActivated", message=rung_sentence(after), warning=worth)


def _hand(after: Facts) -> Event:
    if after.hand is None:
        return Event(reason="HandReleased", message="the count set by hand has had its time")
    kept_s = after.hand.until_s - after.hand.since_s
    said = f"{after.hand.replicas} pods were asked for by hand, kept for {kept_s:.0f} s"
    return Event(reason="SetByHand", message=said)


def _done(plan: Plan, after: Facts) -> Iterator[Event]:
    grant = after.grant
    if grant is None:
        return
    why = "; ".join(reason.meaning for reason in grant.reasons)
    if plan.replicas is not None:
        before = after.running.replicas
        more = plan.replicas > before
        said = f"{before} -> {plan.replicas} pods: {grant.policy} asked for {grant.asked.replicas}"
        yield Event(reason="ScaledUp" if more else "ScaledDown", message=f"{said}; {why}")
    if plan.share_milli is not None:
        said = f"{after.running.gpu_share_milli} -> {plan.share_milli} thousandths of a GPU"
        yield Event(reason="ShareChanged", message=f"{said}, asked for by {grant.policy}")
    if plan.resize is not None:
        said = f"{plan.resize.cpu_milli}m CPU, {plan.resize.memory_bytes // 2**20} MiB a pod"
        yield Event(reason="LimitsChanged", message=f"{said}, asked for by {grant.policy}")
    if plan.batching is not None:
        batching = plan.batching
        said = (
            f"instances: {batching.instances}, batches of at most {batching.batch_max} that wait "
            f"at most {batching.queue_delay_us} us"
        )
        yield Event(reason="BatchingChanged", message=f"{said}, asked for by {grant.policy}")
