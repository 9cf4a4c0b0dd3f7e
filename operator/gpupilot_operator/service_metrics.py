"""From a tick's report to the series of all services: pure, one table for the gauges."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from gpupilot_envs.reasons import Reason
from gpupilot_operator.facts import Facts
from gpupilot_operator.report import ServiceReport, TickReport
from gpupilot_operator.saying import conditions_of
from gpupilot_operator.service import Service
from gpupilot_operator.spec_fields import seconds
from gpupilot_operator.spec_gpu import WHOLE_GPU_MILLI
from gpupilot_operator.status_fields import ConditionType

LABELS = ("namespace", "inferenceservice")
"""Whose series it is; scraped with ``honorLabels``, as ``namespace`` is also a target's label."""

Tally = tuple[str, tuple[str, str], str]
"""A counter's name, whose it is, and of what."""
Tallies = Mapping[Tally, int]

HELD, CHANGES = "held", "changes"
_COUNTERS = {
    HELD: ("reason", "Ticks in which a limit stood between what was asked and what was granted."),
    CHANGES: ("actuator", "Changes that were sent to the cluster."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """One gauge of a service: its name, its meaning, and where it is in a report."""

    name: str
    meaning: str
    value: Callable[[ServiceReport], float | None]


def _granted(report: ServiceReport) -> float | None:
    return report.facts.grant.granted.replicas if report.facts.grant else None


def _asked(report: ServiceReport) -> float | None:
    return report.facts.grant.asked.replicas if report.facts.grant else None


def _shadow(report: ServiceReport) -> float | None:
    return report.facts.shadow.granted.replicas if report.facts.shadow else None


def _rate(report: ServiceReport) -> float | None:
    return report.facts.observed.rate_rps if report.facts.observed else None


def _gpus(report: ServiceReport) -> float:
    running = report.facts.running
    return running.replicas * running.gpu_share_milli / WHOLE_GPU_MILLI


def _attained(report: ServiceReport) -> float | None:
    return report.facts.observed.attainment_ratio if report.facts.observed else None


def _objective(report: ServiceReport) -> float:
    return float(_service(report).spec.slo.attainment_percent) / 100.0


def _target(report: ServiceReport) -> float:
    return seconds(_service(report).spec.slo.latency.target)


_GAUGES = (
    _Shown(name="replicas_asked", meaning="Pods the policy asked for.", value=_asked),
    _Shown(name="replicas_granted", meaning="Pods the guardrail granted.", value=_granted),
    _Shown(
        name="replicas_shadow",
        meaning="Pods a learned policy that may not act would have been granted.",
        value=_shadow,
    ),
    _Shown(name="requests_per_second", meaning="Requests users send.", value=_rate),
    _Shown(
        name="replicas_running",
        meaning="Pods the workload asks for.",
        value=lambda report: report.facts.running.replicas,
    ),
    _Shown(
        name="replicas_ready",
        meaning="Pods that answer.",
        value=lambda report: report.facts.ready,
    ),
    _Shown(name="gpus_held", meaning="GPUs that all pods of a service hold.", value=_gpus),
    _Shown(
        name="attainment_ratio",
        meaning="Share of requests answered correctly in time.",
        value=_attained,
    ),
    _Shown(
        name="attainment_objective_ratio",
        meaning="Least share of requests that is to be in time.",
        value=_objective,
    ),
    _Shown(
        name="latency_objective_seconds",
        meaning="Time within which a request is to be answered.",
        value=_target,
    ),
)


def tallied(before: Tallies, tick: TickReport) -> Tallies:
    """Return the counts after a tick; those of services that are gone are dropped."""
    now = {_whose(report) for report in tick.services}
    counts = {tally: count for tally, count in before.items() if tally[1] in now}
    for report in tick.services:
        for name, kind in _happened(report):
            tally = (name, _whose(report), kind)
            counts[tally] = counts.get(tally, 0) + 1
    return counts


def service_metrics(tick: TickReport, tallies: Tallies) -> Iterator[Metric]:
    """Yield every family of series that a tick's report and the counts make."""
    count = len(tick.services) + len(tick.unready)
    yield _family("services", "Services there are.", ()).having((), count)
    for shown in _GAUGES:
        family = _family(shown.name, shown.meaning)
        for report in tick.services:
            family.having(_whose(report), shown.value(report))
        yield family
    yield from (_latency(tick), _conditions(tick), _states(tick), _proofs(tick))
    yield from _counted(tallies)


class _Gauges(GaugeMetricFamily):
    """A family of gauges in which what is not known is left out."""

    def having(self, labels: tuple[str, ...], value: float | None) -> _Gauges:
        """Add a series, unless its value is not known; return the family."""
        if value is not None:
            self.add_metric(labels, value)
        return self


def _family(name: str, meaning: str, labels: tuple[str, ...] = LABELS) -> _Gauges:
    return _Gauges(f"gpupilot_{name}", meaning, labels=labels)


def _latency(tick: TickReport) -> Metric:
    family = _family("latency_seconds", "Users' latency.", (*LABELS, "quantile"))
    for report in tick.services:
        felt = report.facts.observed
        if felt is not None:
            for quantile, value in (
                ("0.5", felt.p50_s),
                ("0.95", felt.p95_s),
                ("0.99", felt.p99_s),
            ):
                family.having((*_whose(report), quantile), value)
    return family


def _conditions(tick: TickReport) -> Metric:
    meaning = "Conditions of status: 1 where one holds, 0 where not, absent where not known."
    family = _family("condition", meaning, (*LABELS, "type", "reason"))
    for report in tick.services:
        for told in conditions_of(_service(report), report.facts):
            labels = (*_whose(report), told.type.value, told.reason)
            family.having(labels, None if told.holds is None else float(told.holds))
    for key, reason in tick.unready.items():
        namespace, _, name = key.partition("/")
        for kind in (ConditionType.READY, ConditionType.ABLE_TO_SCALE):
            family.having((namespace, name, kind.value, reason), 0.0)
    return family


def _states(tick: TickReport) -> Metric:
    meaning = "Always 1; says the mode in force, who decides and why."
    family = _family("service_info", meaning, (*LABELS, "mode", "decider", "cause", "policy"))
    for report in tick.services:
        facts = report.facts
        policy = facts.grant.policy if facts.grant else ""
        said = (facts.mode.value, facts.rung.value, facts.cause.value, policy)
        family.having((*_whose(report), *said), 1)
    return family


def _proofs(tick: TickReport) -> Metric:
    family = _family("proof_age_seconds", "Time since the newest gate of a policy passed.")
    for report in tick.services:
        passed_s = report.proof_passed_at_s
        family.having(_whose(report), None if passed_s is None else tick.at_s - passed_s)
    return family


def _counted(tallies: Tallies) -> Iterator[Metric]:
    for counter, (label, meaning) in _COUNTERS.items():
        labels = (*LABELS, label)
        family = CounterMetricFamily(f"gpupilot_{counter}", meaning, labels=labels)
        for (name, whose, kind), count in tallies.items():
            if name == counter:
                family.add_metric((*whose, kind), count)
        yield family


def _happened(report: ServiceReport) -> Iterator[tuple[str, str]]:
    """Yield what is to be counted: a counter, and of what."""
    for reason in _bit(report.facts):
        yield HELD, reason.value
    for actuator in report.moved:
        yield CHANGES, actuator


def _bit(facts: Facts) -> tuple[Reason, ...]:
    reasons = facts.grant.reasons if facts.grant else ()
    return tuple(each for each in reasons if each is not Reason.DESIRED_WITHIN_RANGE)


def _service(report: ServiceReport) -> Service:
    return report.seen.service


def _whose(report: ServiceReport) -> tuple[str, str]:
    service = report.seen.service
    return service.namespace, service.name
