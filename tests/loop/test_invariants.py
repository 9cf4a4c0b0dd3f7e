"""Whatever is read, written by others or refused: what may never happen never does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gpupilot_envs.live_reading import LiveReading
from gpupilot_envs.signals import Signals
from gpupilot_operator.control import tick
from gpupilot_operator.memory import State
from gpupilot_operator.ports import Failure

Maker = Callable[..., Any]
START_S = 1_795_000_000.0
LEAST, MOST, BUDGET = 2, 12, 9000
STEP_UP, STEP_DOWN = 3, 1
COOL_UP_S, COOL_DOWN_S = 10.0, 30.0
SAFE = 6

NUMBERS = st.one_of(
    st.none(),
    st.floats(0.0, 5000.0),
    st.sampled_from([0.0, -1.0, float("nan"), float("inf"), float("-inf"), 1e300, 1e-300]),
)
RATIOS = st.one_of(NUMBERS, st.floats(0.0, 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What happens between one tick and the next."""

    elapsed_s: float = 5.0
    rate_rps: float | None = None
    age_s: float | None = 1.0
    busy: float | None = None
    attained: float | None = None
    answers: bool = False
    down: bool = False
    refuses: bool = False
    deaf: bool = False
    by_others: int | None = None
    comes_anew: bool = False


MOMENTS = st.builds(
    Moment,
    elapsed_s=st.one_of(st.just(5.0), st.sampled_from([0.0, 1.0, 30.0, 61.0, -3600.0, 1e6])),
    rate_rps=NUMBERS,
    age_s=st.one_of(st.just(1.0), NUMBERS),
    busy=RATIOS,
    attained=RATIOS,
    answers=st.booleans() | st.just(True),
    down=st.sampled_from([False] * 7 + [True]),
    refuses=st.sampled_from([False] * 7 + [True]),
    deaf=st.sampled_from([False] * 7 + [True]),
    by_others=st.sampled_from([None] * 9 + [LEAST, 5, BUDGET // 1000]),
    comes_anew=st.sampled_from([False] * 15 + [True]),
)
SPECS: list[dict[str, Any]] = [
    {"policy": "Learned"},
    {"policy": "Learned", "annotations": {"gpupilot.dev/override-gate": "true"}},
    {"policy": "Learned", "mode": "Observe"},
    {"policy": "Queueing"},
    {"policy": "Queueing", "mode": "Paused"},
    {"policy": "Queueing", "annotations": {"gpupilot.dev/pause": "down"}},
    {"policy": "Queueing", "other_writer": "HorizontalPodAutoscaler/shop"},
    {"policy": "KEDA"},
    {"policy": "KPA"},
    {"policy": "HPA", "profile": None},
    {"policy": "Static"},
]
SHOWN = ("annotations", "other_writer")
OUR_COUNT_AFTER_A_HAND = [Moment()] * 7 + [
    Moment(by_others=2),
    *[Moment()] * 5,
    Moment(by_others=2),
    Moment(answers=True, by_others=5),
]
"""Somebody sets by hand what was asked for a moment before another hand: it is theirs, not ours."""


def shop(shop_of: Maker, number: int, uid: str = "first") -> Any:
    spec = dict(SPECS[number])
    shown = {name: spec.pop(name) for name in SHOWN if name in spec}
    made = shop_of(
        f"shop-{number}",
        uid=f"{uid}-{number}",
        replicas=4,
        predictor={
            "model": None,
            "targetRef": {"name": "shop"},
            "minReplicas": LEAST,
            "maxReplicas": MOST,
        },
        gpu={"budgetMilli": BUDGET},
        behavior={
            "scaleUp": {"maxStep": STEP_UP, "cooldownSeconds": COOL_UP_S},
            "scaleDown": {"maxStep": STEP_DOWN, "cooldownSeconds": COOL_DOWN_S},
            "warmUpSeconds": 20,
        },
        fallback={"replicas": SAFE, "afterSeconds": 30},
        manualHoldSeconds=20,
        **spec,
    )
    made.shown |= shown
    return made


def blind(reading: LiveReading | None, down: bool) -> bool:
    if reading is None or down:
        return True
    rate = reading.signals.rate_rps
    return rate is None or not 0.0 <= rate < float("inf")


def befall(town: Any, moment: Moment, shop_of: Maker) -> None:
    """Let a moment happen to every service."""
    town.down = "Prometheus is away" if moment.down else None
    town.refuses = Failure(said="the API server answers 500") if moment.refuses else None
    town.deaf = "the API server answers 429" if moment.deaf else None
    if moment.comes_anew:
        town.shops = {
            one.service.key: one
            for one in (shop(shop_of, n, f"later-{len(town.noted)}") for n in range(len(SPECS)))
        }
    signals = Signals(
        at_s=0.0,
        window_s=15.0,
        age_s=moment.age_s,
        rate_rps=moment.rate_rps,
        gpu_busy_ratio=moment.busy,
        attainment_ratio=moment.attained,
    )
    for one in town.shops.values():
        one.reading = LiveReading(signals=signals) if moment.answers else None
        if moment.by_others is not None:
            one.running = replace(one.running, replicas=moment.by_others)


class Ledger:
    """When each service was last changed by us, since when anything could be known of it."""

    def __init__(self) -> None:
        self.changed_s: dict[str, float] = {}

    def check(
        self, change: Any, now_s: float, *, missing: bool, by_hand: bool, refused: bool
    ) -> None:
        before, after = change.seen.running.replicas, change.plan.replicas
        assert LEAST <= after <= MOST
        assert after * change.seen.running.gpu_share_milli <= BUDGET
        uid = change.seen.service.uid
        if not by_hand:
            assert -STEP_DOWN <= after - before <= STEP_UP
            assert not (missing and after < before)
            since_s = now_s - self.changed_s.get(uid, float("-inf"))
            assert since_s >= (COOL_UP_S if after > before else COOL_DOWN_S)
        if not refused:
            self.changed_s[uid] = now_s


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(moments=st.lists(MOMENTS, min_size=10, max_size=25))
@example(moments=OUR_COUNT_AFTER_A_HAND)
def test_no_input_leads_out_of_the_envelope(
    shop_of: Maker, town_of: Maker, state_of: Callable[[], State], moments: list[Moment]
) -> None:
    state = state_of()
    town = town_of(*(shop(shop_of, n) for n in range(len(SPECS))))
    for seen in town.services():
        state.sizes.of(seen)
    state.sizes.wait()
    now_s, highest_s, ledger = START_S, START_S, Ledger()
    for moment in moments:
        now_s += moment.elapsed_s
        befall(town, moment, shop_of)
        town.changes.clear()
        if now_s - highest_s > 60.0 or moment.elapsed_s <= 0.0 or moment.comes_anew:
            # what was before a hole in time is not remembered
            ledger.changed_s.clear()
        highest_s = now_s
        report = tick(town.ports, state, now_s)
        facts = {one.seen.service.key: one.facts for one in report.services}
        assert len(facts) == len(SPECS)
        for change in town.changes:
            seen = change.seen
            assert seen.other_writer is None
            assert seen.service.spec.autoscaling.mode == "Act"
            hand = facts[seen.service.key].hand
            missing = blind(town.shops[seen.service.key].reading, moment.down)
            if change.plan.replicas is not None:
                held = hand is not None and hand.holds(now_s)
                ledger.check(change, now_s, missing=missing, by_hand=held, refused=moment.refuses)
            if seen.annotations.get("gpupilot.dev/pause") == "down":
                assert change.plan.replicas >= seen.running.replicas


@pytest.mark.parametrize("number", range(len(SPECS)))
def test_the_same_inputs_lead_to_the_same_decisions(
    shop_of: Maker, town_of: Maker, state_of: Callable[[], State], number: int
) -> None:
    told = []
    for _ in range(2):
        state, town = state_of(), town_of(shop(shop_of, number))
        for seen in town.services():
            state.sizes.of(seen)
        state.sizes.wait()
        for step in range(60):
            one = next(iter(town.shops.values()))
            rate = 300.0 + 20.0 * (step % 7)
            one.reading = LiveReading(
                signals=Signals(at_s=0.0, window_s=15.0, age_s=1.0, rate_rps=rate)
            )
            tick(town.ports, state, START_S + 5.0 * step)
        told.append([(each.at_s, each.policy, each.grant, each.why) for each in town.noted])
    assert told[0] == told[1]
