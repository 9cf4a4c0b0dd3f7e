"""Events: on change only, typed by a word, told in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from gpupilot_operator.events import events_of
from gpupilot_operator.facts import Cause, MetricsState, PolicyState, Rung
from gpupilot_operator.ports import Event
from gpupilot_operator.report import ServiceReport

MEASURING = {"policy": PolicyState.MEASURING, "rung": Rung.HOLD, "cause": Cause.UNSIZED}
DECIDES = {"policy": PolicyState.CLASSICAL, "rung": Rung.POLICY, "cause": Cause.IN_CHARGE}
UNPROVEN = {"policy": PolicyState.UNPROVEN, "rung": Rung.CONTROLLER, "cause": Cause.PROOF}
REFUSED = {"policy": PolicyState.REFUSED, "rung": Rung.CONTROLLER, "cause": Cause.BUNDLE}
HOPELESS = {"policy": PolicyState.INFEASIBLE, "rung": Rung.HOLD, "cause": Cause.UNSIZED}
BURNT = {"policy": PolicyState.PROVEN, "rung": Rung.CONTROLLER, "cause": Cause.BURN}
PROVEN = {"policy": PolicyState.PROVEN, "rung": Rung.POLICY, "cause": Cause.IN_CHARGE}

State = Mapping[str, Any]
Reported = Callable[..., ServiceReport]
Told = Callable[[State, State], list[Event]]


@pytest.fixture
def told(reported: Reported) -> Told:
    """Return what tells the events from one state of a service to another."""
    base = reported()
    service, facts = base.seen.service, base.facts

    def tell(before: State, after: State) -> list[Event]:
        then, now = replace(facts, **before), replace(facts, **after)
        return list(events_of(service, then, now, None, None))

    return tell


@pytest.mark.parametrize("after", [DECIDES, UNPROVEN, PROVEN, MEASURING])
def test_a_service_that_begins_well_is_worth_no_event(told: Told, after: State) -> None:
    assert told(MEASURING, after) == []


@pytest.mark.parametrize(
    ("before", "after", "reasons", "words"),
    [
        (MEASURING, REFUSED, ["PolicyNotReady", "FallbackActivated"], "could not be used"),
        (MEASURING, HOPELESS, ["PolicyNotReady"], "no pod can meet the objective"),
        (PROVEN, BURNT, ["FallbackActivated"], "the objective was missed by far"),
        (BURNT, PROVEN, ["FallbackDeactivated"], "no longer so: the objective was missed by far"),
        (UNPROVEN, PROVEN, ["PolicyReady", "FallbackDeactivated"], "beat the baselines"),
        (
            {"metrics": MetricsState.FOUND},
            {"metrics": MetricsState.STALE},
            ["MetricsStale"],
            "too old to decide on; nothing is scaled down",
        ),
    ],
)
def test_a_change_is_told_in_a_sentence(
    told: Told,
    before: State,
    after: State,
    reasons: list[str],
    words: str,
) -> None:
    events = told(before, after)
    assert [each.reason for each in events] == reasons
    assert words in events[0].message
    assert not any(word in each.message for each in events for word in (*Cause, *Rung))


def test_what_stays_the_same_is_told_once(told: Told) -> None:
    assert told(BURNT, BURNT) == []
