"""Puts a profile together from everything recordings can tell, the rest taken from a base."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpupilot_envs.calibration.batches import PARAMETER as BATCHES
from gpupilot_envs.calibration.batches import find_batch_times
from gpupilot_envs.calibration.findings import Finding, refused
from gpupilot_envs.calibration.pods import find_cold_start, find_contention, find_power
from gpupilot_envs.calibration.requests import find_noise, find_overhead
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.profile import ServiceProfile, parse_profile
from gpupilot_envs.workload.recording import Recording


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What recordings say about their service.

    Attributes:
        profile: The calibrated profile, ``None`` when the batch times cannot be told.
        findings: Every parameter: its value and error, or why there is none.
    """

    profile: ServiceProfile | None
    findings: tuple[Finding, ...]

    @property
    def refusals(self) -> tuple[str, ...]:
        """Why there is no profile, one sentence each; empty when there is."""
        if self.profile is not None:
            return ()
        return tuple(f.refusal for f in self.findings if f.parameter == BATCHES and f.refusal)

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence for each parameter."""
        return tuple(finding.sentence() for finding in self.findings)


def calibrate(
    recordings: Sequence[Recording],
    base: ServiceProfile,
    *,
    when: str,
    users_s: Sequence[float | None] = (),
) -> Calibration:
    """Return ``base`` with whatever the recordings show.

    Args:
        recordings: Of one service, each with one setting: other loads, batching on and off, one
            and two instances, other replicas.
        base: Gives everything the recordings do not show.
        when: Date of the recordings for the profile's ``measured`` block.
        users_s: Mean latency that the users of each recording measured, where they did.

    Raises:
        InputInvalid: There is no recording, or they are of several services.
    """
    services = sorted({recording.service for recording in recordings})
    if len(services) != 1:
        raise InputInvalid("recordings", services, "one or more of the same service")
    mixed = [why for recording in recordings for why in _changed(recording)]
    if mixed:
        return Calibration(profile=None, findings=(refused(BATCHES, "; ".join(mixed)),))
    alone = [r for r in recordings if _instances(r) == 1]
    pairs = [r for r in recordings if _instances(r) == 2]
    batches = (
        find_batch_times(alone)
        if alone
        else refused(
            BATCHES,
            "several instances share a pod's GPU, so one execution's time depends on the others; "
            "record with one instance per pod",
        )
    )
    findings = (
        batches,
        find_noise(alone),
        find_overhead(recordings, users_s),
        find_cold_start(recordings),
        find_contention(alone, pairs),
        find_power(recordings),
    )
    if not batches.known:
        return Calibration(profile=None, findings=findings)
    profile = _profile(recordings, base, findings, when)
    return Calibration(profile=profile, findings=findings)


def _instances(recording: Recording) -> int:
    return recording.allocations[-1].instances_per_replica if recording.allocations else 1


def _changed(recording: Recording) -> Iterable[str]:
    """Yield the settings that must not change within a recording and did."""
    for name in ("batch_max", "gpu_share_milli", "cpu_milli", "instances_per_replica"):
        if len({getattr(allocation, name) for allocation in recording.allocations}) > 1:
            yield f"{name} changed during the recording; record with one setting"


def _profile(
    recordings: Sequence[Recording],
    base: ServiceProfile,
    findings: Iterable[Finding],
    when: str,
) -> ServiceProfile:
    batching = max((r.allocations[-1] for r in recordings), key=lambda a: a.batch_max)
    document: dict[str, Any] = base.model_dump(mode="json")
    for finding in findings:
        for name, value in finding.values.items():
            _set(document, f"{finding.parameter}.{name}" if name else finding.parameter, value)
    rows = sum(len(recording.readings) for recording in recordings)
    notes = "; ".join(finding.sentence() for finding in findings)
    document |= {
        "name": recordings[0].service,
        "instances_per_replica": min(_instances(recording) for recording in recordings),
        "measured": {
            "how": f"gpupilot calibrate on {rows} windows; {notes}",
            "where": recordings[0].service,
            "when": when,
        },
        "batching": {
            "enabled": batching.batch_max > 1,
            "max_batch": batching.batch_max,
            "preferred": [s for s in base.batching.preferred if s <= batching.batch_max],
            "queue_delay_ms": batching.queue_delay_us / 1000.0,
        },
    }
    return parse_profile(document, origin=recordings[0].service)


def _set(document: dict[str, Any], path: str, value: object) -> None:
    *parents, last = path.split(".")
    part: dict[str, Any] = document
    for name in parents:
        part = part[name]
    part[last] = value


def as_document(findings: Iterable[Finding]) -> list[Mapping[str, Any]]:
    """Return the findings as JSON holds them, the fit report's machine-readable half."""
    return [
        {
            "parameter": finding.parameter,
            "values": dict(finding.values),
            "error_ratio": finding.error_ratio,
            "source": finding.source or None,
            "refusal": finding.refusal,
            "remarks": list(finding.remarks),
        }
        for finding in findings
    ]
