"""Tells of ticks in log lines: each decision that says something new, each trouble once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gpupilot_operator.facts import Grant, Observed
from gpupilot_operator.logs import FIELDS
from gpupilot_operator.report import ServiceReport, TickReport

FIRST = (
    "the first decision of this process begins: what it runs is loaded, or compiled where it never "
    "ran, which takes a minute or two; until then no status changes"
)
_LOG = logging.getLogger("gpupilot.decisions")


class Narrator:
    """Remembers what trouble was told, so that it is told once and its end too."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without trouble, and without a decision.

        Args:
            clock: Counts the seconds of the first decision.
        """
        self._troubles: dict[str, str] = {}
        self._clock = clock
        self._has_decided = False

    @contextmanager
    def deciding(self, services: Callable[[], int]) -> Iterator[None]:
        """Tell before and after the first decision of the process, which others wait for.

        Args:
            services: Says how many services there are to decide for.
        """
        if self._has_decided or not services():
            yield
            return
        began_s = self._clock()
        _LOG.info(FIRST)
        yield
        self._has_decided = True
        _LOG.info(f"the first decision took {self._clock() - began_s:.1f} s")

    def report(self, tick: TickReport) -> None:
        """Tell of a tick."""
        for each in tick.services:
            if each.told and each.facts.grant is not None:
                _LOG.info(_sentence(each, each.facts.grant), extra={FIELDS: _fields(each)})
        found = {each.seen.service.key: each.failure for each in tick.services if each.failure}
        if tick.query_error is not None:
            found["prometheus"] = tick.query_error
        self._tell_troubles(found)

    def _tell_troubles(self, found: dict[str, str]) -> None:
        for who, what in found.items():
            if self._troubles.get(who) != what:
                _LOG.warning(f"{who}: {what}", extra={FIELDS: {"of": who}})
        for who in self._troubles.keys() - found.keys():
            _LOG.info(f"{who}: the trouble is over", extra={FIELDS: {"of": who}})
        self._troubles = found


def _sentence(report: ServiceReport, grant: Grant) -> str:
    return f"{report.seen.service.key}: {grant.sentence}"


def _fields(report: ServiceReport) -> dict[str, Any]:
    facts, service = report.facts, report.seen.service
    grant = facts.grant
    return {
        "namespace": service.namespace,
        "name": service.name,
        "generation": service.generation,
        "mode": facts.mode.value,
        "decider": facts.rung.value,
        "cause": facts.cause.value,
        "running": facts.running.replicas,
        "ready": facts.ready,
        **({} if grant is None else _granted(grant)),
        **({} if facts.observed is None else _felt(facts.observed)),
        "changed": report.moved,
    }


def _granted(grant: Grant) -> dict[str, Any]:
    return {
        "policy": grant.policy,
        "asked": grant.asked.replicas,
        "granted": grant.granted.replicas,
        "reasons": [each.value for each in grant.reasons],
    }


def _felt(observed: Observed) -> dict[str, Any]:
    return {
        "attainmentRatio": observed.attainment_ratio,
        "p95Seconds": observed.p95_s,
        "requestsPerSecond": observed.rate_rps,
        "source": observed.source,
    }
