"""One tick: read, decide, carry out, tell. The only orchestrator of the operator's control loop.

Everything between the reading and the writing is pure and handed the time; what goes wrong with
single services is told of them and decided anew at the next tick.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from gpupilot_envs.errors import MetricsUnavailable
from gpupilot_envs.live_reading import LiveReading
from gpupilot_operator.cases import Case
from gpupilot_operator.conditions import read_time
from gpupilot_operator.events import events_of
from gpupilot_operator.facts import Facts, Grant, Observed, says_more
from gpupilot_operator.holding import begun, limit_event
from gpupilot_operator.judging import judge, shadow_grant
from gpupilot_operator.logged import noted_of
from gpupilot_operator.manual import PAUSE, Hand
from gpupilot_operator.memory import Record, State
from gpupilot_operator.plan import Plan, planned
from gpupilot_operator.ports import Change, Event, Failure, Ports, Seen, Telling
from gpupilot_operator.report import ServiceReport, TickReport
from gpupilot_operator.settling import LASTS_S, steadied
from gpupilot_operator.status import holds_back, status_of, status_patch, told_of_readings
from gpupilot_operator.status_fields import InferenceServiceStatus, Where

NO_ANSWER = Failure(said="no answer")


def tick(ports: Ports, state: State, now_s: float) -> TickReport:
    """Decide once for every service, carry it out and tell it.

    Args:
        ports: Everything outside.
        state: What is kept from tick to tick; moves on.
        now_s: Unix time.
    """
    begun_s = ports.clock()
    services = ports.cluster.services()
    readings, query_error = _read(ports, services, now_s)
    read_s = ports.clock()
    state.open(services, now_s)
    cases = judge(state, services, {key: one.signals for key, one in readings.items()}, now_s)
    told = [_facts(case, readings.get(case.key)) for case in cases]
    plans = {case.key: planned(facts) for case, facts in zip(cases, told, strict=True)}
    decided_s = ports.clock()
    failures = _carry_out(ports, state, cases, plans, now_s)
    silent = _tell(ports, cases, told, plans, failures, now_s)
    wrong = {key: _wrong(failure) for key, failure in failures.items()}
    ports.log.note([one for case in cases for one in noted_of(case, now_s)])
    done_s = ports.clock()
    return TickReport(
        at_s=now_s,
        read_s=read_s - begun_s,
        inference_s=state.seating.inference_s,
        decide_s=decided_s - read_s,
        act_s=done_s - decided_s,
        queries=ports.metrics.queries if services else 0,
        query_error=query_error,
        change_errors=sum(failure is not None for failure in wrong.values()),
        telling_errors=sum(failure is not None for failure in silent.values()),
        unready=_unready(ports, services),
        services=tuple(
            _reported(case, facts, plans[case.key], wrong.get(case.key) or silent.get(case.key))
            for case, facts in zip(cases, told, strict=True)
        ),
    )


def _unready(ports: Ports, services: Sequence[Seen]) -> Mapping[str, str]:
    """Return by key the resources for which nothing runs, and why."""
    running = {seen.service.key for seen in services}
    return {key: why for key, why in ports.cluster.unready().items() if key not in running}


def _read(
    ports: Ports, services: Sequence[Seen], now_s: float
) -> tuple[Mapping[str, LiveReading], str | None]:
    """Return the readings by key, and what Prometheus did not answer."""
    if not services:
        return {}, None
    try:
        return ports.metrics.read([seen.service for seen in services], now_s), None
    except MetricsUnavailable as error:
        return {}, str(error)


def _facts(case: Case, reading: LiveReading | None) -> Facts:
    standing, seen, record = case.standing, case.seen, case.record
    record.steady = steadied(record.steady or told_of_readings(seen.status), case.metrics)
    return Facts(
        running=seen.running,
        ready=seen.ready,
        mode=case.mode,
        metrics=record.steady.told,
        policy=standing.state,
        rung=case.step.rung,
        cause=case.step.cause,
        policy_said=standing.said,
        grant=case.grant,
        shadow=shadow_grant(case),
        observed=_observed(case, reading),
        other_writer=seen.other_writer,
        hand=case.hand,
        pause=seen.annotations.get(PAUSE),
        trouble=seen.trouble,
        refused=seen.refused,
        proof=standing.proof,
    )


def _observed(case: Case, reading: LiveReading | None) -> Observed | None:
    source = None if reading is None else reading.sources.get("rate_rps")
    if source is None:
        return None
    felt = case.reading
    return Observed(
        p50_s=felt.latency_p50_s,
        p95_s=felt.latency_p95_s,
        p99_s=felt.latency_p99_s,
        attainment_ratio=felt.attainment_ratio,
        rate_rps=felt.rate_rps,
        source=source,
    )


def _carry_out(
    ports: Ports,
    state: State,
    cases: Sequence[Case],
    plans: Mapping[str, Plan | None],
    now_s: float,
) -> dict[str, Failure | None]:
    """Make the changes; return by key what went wrong. Only what was made is remembered."""
    wanted = {case.key: (case, plan) for case in cases if (plan := plans[case.key]) is not None}
    if not wanted:
        return {}
    answers = ports.cluster.carry_out(
        [Change(seen=case.seen, plan=plan) for case, plan in wanted.values()]
    )
    failures = {key: answers.get(key, NO_ANSWER) for key in wanted}
    for key, (case, _) in wanted.items():
        if case.grant is None:
            continue
        # even a change that failed may have been made: an answer can be lost
        case.record.attempts.append((now_s, case.grant.granted))
        if failures[key] is None:
            state.changed(case.seen, case.grant.granted, case.carried, now_s)
    return failures


def _tell(
    ports: Ports,
    cases: Sequence[Case],
    told: Sequence[Facts],
    plans: Mapping[str, Plan | None],
    failures: Mapping[str, Failure | None],
    now_s: float,
) -> dict[str, str | None]:
    """Write what is new; return by key what went wrong, to be told again at the next tick."""
    now = datetime.fromtimestamp(now_s, UTC)
    tellings = {}
    for case, facts in zip(cases, told, strict=True):
        telling = _telling(case, facts, plans[case.key], failures.get(case.key), now)
        if telling is not None:
            tellings[case.key] = telling
    if not tellings:
        return {}
    answers = ports.cluster.tell(list(tellings.values()))
    wrong = {key: answers.get(key, NO_ANSWER.said) for key in tellings}
    for case in cases:
        if wrong.get(case.key) is not None:
            case.record.status = None
    return wrong


def _telling(
    case: Case, facts: Facts, plan: Plan | None, failure: Failure | None, now: datetime
) -> Telling | None:
    """Return what is to be written of a service; ``None`` where nothing is new."""
    record, seen, wrong = case.record, case.seen, _wrong(failure)
    events = events_of(
        seen.service,
        record.facts,
        facts,
        plan if failure is None else None,
        wrong if wrong != record.failure else None,
    )
    lasting = replace(facts, observed=None)
    patch = None
    changed = record.status is not seen.status or record.facts != lasting
    if changed or record.held_since_s is not None:
        after = _status(record, seen, facts, now)
        patch = status_patch(seen.status, after)
        events = (*events, *_limits(record, seen.status, after, facts.grant, now.timestamp()))
    record.told = says_more(record.facts, facts)
    record.facts, record.status, record.failure = lasting, seen.status, wrong
    release = _is_over(case.hand, now)
    if patch is None and not events and not release:
        return None
    return Telling(service=seen.service, patch=patch, events=events, release_hand=release)


def _status(record: Record, seen: Seen, facts: Facts, now: datetime) -> InferenceServiceStatus:
    """Return what a status is to tell; what may pass is held back for a while."""
    held, since_s, now_s = None, record.held_since_s, now.timestamp()
    if holds_back(seen.service, facts, seen.status, now):
        held = now_s if since_s is None else since_s
    lasted = held is not None and now_s - held >= LASTS_S
    record.held_since_s = None if lasted else held
    return status_of(seen.service, facts, seen.status, now, lasted=lasted)


def _limits(
    record: Record,
    before: InferenceServiceStatus,
    after: InferenceServiceStatus,
    grant: Grant | None,
    now_s: float,
) -> tuple[Event, ...]:
    """Return the events of limits that a status begins to tell of, and remember them."""
    if grant is None:
        return ()
    found = begun(before, after, grant, record.limits_said_s, now_s)
    record.limits_said_s |= dict.fromkeys(found, now_s)
    return tuple(limit_event(grant, each) for each in found)


def _is_over(hand: Hand | None, now: datetime) -> bool:
    """Whether a count on the resource has had its time and is to be taken out."""
    return hand is not None and hand.at is Where.RESOURCE and not hand.holds(now.timestamp())


def _wrong(failure: Failure | None) -> str | None:
    """Return what is to be told of a change that was not made, ``None`` of what passes."""
    return None if failure is None or failure.passing else failure.said


def _reported(case: Case, facts: Facts, plan: Plan | None, failure: str | None) -> ServiceReport:
    passed = None if facts.proof is None else facts.proof.passed_at
    return ServiceReport(
        seen=case.seen,
        facts=facts,
        told=case.record.told,
        plan=plan,
        failure=failure,
        proof_passed_at_s=None if passed is None else read_time(passed),
    )
