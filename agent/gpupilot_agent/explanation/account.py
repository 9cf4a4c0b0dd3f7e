"""Everything that is known of one moment of a run, read from what the run left behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gpupilot_agent.decision_log import DecisionLog, Entry, read_decisions
from gpupilot_agent.explanation.intervals import Intervals, of_recording
from gpupilot_agent.explanation.moment import Grant, Moment
from gpupilot_agent.explanation.setting import Decider, decider_of, scene_from
from gpupilot_agent.explanation.when import seconds, time_of_day
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.workload.recording import Recording, read_recording

DECISIONS = "decisions.parquet"
RECORDING = "recording.parquet"
POLICY = "policy.npz"
"""Files of a recording's folder; the policy's only where a learned one decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A decision and its surroundings.

    Attributes:
        title: Whose decision, on what.
        policy: Who decided.
        at_s: Time of the decision on the run's clock.
        asked: What the policy proposed.
        granted: What the guardrail let through.
        running: What ran before.
        intervals: The stretch of the run around it.
        moment: From where to look ahead; ``None`` where the setting or the traffic is not known.
        decider: The policy's settings; ``None`` where they are not known.
        entry: The decision as logged; ``None`` in a comparison, which keeps no reasons.
        log: The whole log, for what is usual.
    """

    title: str
    policy: str
    at_s: float
    asked: Allocation
    granted: Allocation
    running: Allocation
    intervals: Intervals
    moment: Moment | None
    decider: Decider | None
    entry: Entry | None = None
    log: DecisionLog | None = None


def of_log(run: Path, at: str) -> Account:
    """Return the account of the decision in force at ``at`` in a folder or file of decisions.

    The traffic comes from the recording beside the log where there is one, otherwise from what
    each decision saw.

    Args:
        run: A folder that ``gpupilot record`` wrote, a service's folder in the operator's log, of
            which the file of that moment is taken, or a decision log.
        at: See :func:`.when.seconds`.

    Raises:
        InputInvalid: A file is missing or damaged, or there is no such moment.
    """
    path = _log_in(run, at) if run.is_dir() else run
    log = read_decisions(path)
    if not log.entries:
        raise InputInvalid(str(path), "no decisions", "a log with at least one")
    beside = path.with_name(RECORDING)
    intervals = of_recording(read_recording(beside) if beside.exists() else _as_recording(log))
    entry = log.at(seconds(at, intervals))
    decision = entry.decision
    around = intervals.around(decision.at_s)
    known = bool(log.setting)
    return Account(
        title=f"{log.policy} on {log.service}",
        policy=log.policy,
        at_s=decision.at_s,
        asked=decision.ask,
        granted=decision.granted,
        running=entry.running,
        intervals=around,
        moment=_moment(log, entry, around, str(path)) if known and around.has_rates else None,
        decider=decider_of(log.setting["decider"], str(path)) if known else None,
        entry=entry,
        log=log,
    )


def _log_in(folder: Path, at: str) -> Path:
    """Return the decision log of a folder; the operator names its files by when they begin."""
    dated = sorted(folder.glob("[0-9]*T[0-9]*Z-*.parquet"))
    stated = time_of_day(at)
    if stated is not None:
        begins = stated.strftime("%Y%m%dT%H%M%S.%fZ")
        dated = [path for path in dated if path.name.partition("-")[0] <= begins] or dated[:1]
    return dated[-1] if dated else folder / DECISIONS


def _moment(log: DecisionLog, entry: Entry, around: Intervals, where: str) -> Moment:
    return Moment(
        at_s=entry.decision.at_s,
        scene=scene_from(log.setting["scene"], where),
        traffic=around.traffic(log.service),
        start_s=around.start_s,
        grants=_grants(log.entries, around),
        running=entry.running,
        granted=entry.decision.granted,
    )


def _grants(entries: Sequence[Entry], around: Intervals) -> tuple[Grant, ...]:
    """Return what ran from when, changes only, in the stretch around the moment."""
    inside = [e for e in entries if around.start_s <= e.decision.at_s <= around.end_s]
    grants = [(around.start_s, inside[0].running)]
    for entry in inside:
        if entry.decision.granted != grants[-1][1]:
            grants.append((entry.decision.at_s, entry.decision.granted))
    return tuple(grants)


def _as_recording(log: DecisionLog) -> Recording:
    return Recording(
        service=log.service,
        readings=tuple(entry.seen for entry in log.entries),
        allocations=tuple(entry.running for entry in log.entries),
    )


def with_replicas(shape: Allocation, replicas: float) -> Allocation:
    """Return ``shape`` with so many replicas."""
    return replace(shape, replicas=round(replicas))
