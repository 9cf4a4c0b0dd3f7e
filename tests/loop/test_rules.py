"""The rules beside the guardrail, each by itself: ladder, burn, quota, what people say."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.signals import Signals
from gpupilot_operator.budget import Claim, within_quota
from gpupilot_operator.burn import LEAST_S, TRIP_S, Burn, burns, counted
from gpupilot_operator.facts import Cause, MetricsState, PolicyState, Rung
from gpupilot_operator.ladder import SEEING_S, Footing, Look, Step, stepped
from gpupilot_operator.manual import Pauses, mode_of, overrides_gate, pauses_of
from gpupilot_operator.spec_autoscaling import Controller, Fallback, Mode

WELL = Signals(at_s=0.0, window_s=15.0, rate_rps=100.0, attainment_ratio=1.0)
BADLY = replace(WELL, attainment_ratio=0.5)
LOOK = Look(
    now_s=0.0,
    reading=WELL,
    objective=0.99,
    metrics=MetricsState.FOUND,
    policy=PolicyState.PROVEN,
    doubted=False,
    rehearsing=False,
    fallback=Fallback(replicas=4, after_seconds=60),
)


def climb(looks: list[Look]) -> list[Step]:
    footing, steps = Footing(), []
    for look in looks:
        footing, step = stepped(footing, look)
        steps.append(step)
    return steps


@pytest.mark.parametrize(
    ("changes", "rung", "cause"),
    [
        ({}, Rung.POLICY, Cause.IN_CHARGE),
        ({"policy": PolicyState.CLASSICAL}, Rung.POLICY, Cause.IN_CHARGE),
        ({"policy": PolicyState.OVERRIDDEN}, Rung.POLICY, Cause.IN_CHARGE),
        ({"policy": PolicyState.UNPROVEN}, Rung.CONTROLLER, Cause.PROOF),
        ({"policy": PolicyState.EXPIRED}, Rung.CONTROLLER, Cause.PROOF),
        ({"policy": PolicyState.HELD}, Rung.CONTROLLER, Cause.PROOF),
        ({"policy": PolicyState.UNPROVEN, "rehearsing": True}, Rung.POLICY, Cause.IN_CHARGE),
        ({"policy": PolicyState.REFUSED}, Rung.CONTROLLER, Cause.BUNDLE),
        ({"policy": PolicyState.REFUSED, "rehearsing": True}, Rung.CONTROLLER, Cause.BUNDLE),
        ({"policy": PolicyState.PROFILE_MISSING}, Rung.HOLD, Cause.UNSIZED),
        ({"policy": PolicyState.INFEASIBLE}, Rung.HOLD, Cause.UNSIZED),
        ({"doubted": True}, Rung.CONTROLLER, Cause.UNFAMILIAR),
        (
            {"doubted": True, "fallback": Fallback(controller=Controller.HOLD)},
            Rung.HOLD,
            Cause.UNFAMILIAR,
        ),
    ],
)
def test_who_decides_follows_from_what_is_known(
    changes: dict[str, object], rung: Rung, cause: Cause
) -> None:
    assert climb([replace(LOOK, **changes)]) == [Step(rung=rung, cause=cause)]  # type: ignore[arg-type]


def test_what_is_safe_comes_after_its_time_and_goes_after_a_quiet_while() -> None:
    blind = [replace(LOOK, now_s=5.0 * n, metrics=MetricsState.MISSING) for n in range(20)]
    seeing = [replace(LOOK, now_s=100.0 + 5.0 * n) for n in range(20)]
    steps = climb(blind + seeing)
    safe = [step.rung is Rung.SAFE for step in steps]
    assert safe == [5.0 * n >= 60.0 for n in range(20)] + [5.0 * n < SEEING_S for n in range(20)]


def test_one_reading_among_missing_ones_does_not_end_what_is_safe() -> None:
    blind = [replace(LOOK, now_s=5.0 * n, metrics=MetricsState.STALE) for n in range(14)]
    glimpse = [replace(LOOK, now_s=70.0), replace(blind[0], now_s=75.0)]
    assert [step.rung for step in climb(blind + glimpse)][-2:] == [Rung.SAFE, Rung.SAFE]


def test_without_declared_replicas_nothing_is_safe_and_the_guardrail_holds() -> None:
    unspoken = replace(LOOK, fallback=Fallback(), metrics=MetricsState.MISSING)
    steps = climb([replace(unspoken, now_s=5.0 * n) for n in range(200)])
    assert {step.rung for step in steps} == {Rung.POLICY}


def test_a_policy_that_burns_the_objective_stands_back_for_its_time() -> None:
    steps = climb([replace(LOOK, now_s=5.0 * n, reading=BADLY) for n in range(900)])
    causes = [step.cause for step in steps]
    tripped = causes.index(Cause.BURN)
    assert tripped * 5.0 == pytest.approx(LEAST_S, abs=10.0)
    again = causes.index(Cause.IN_CHARGE, tripped)
    assert (again - tripped) * 5.0 == pytest.approx(TRIP_S, abs=10.0)
    assert steps[tripped].rung is Rung.CONTROLLER


@pytest.mark.parametrize(
    "changes",
    [
        {"policy": PolicyState.CLASSICAL},
        {"policy": PolicyState.UNPROVEN},
        {"rehearsing": True},
        {"reading": replace(BADLY, rate_rps=0.0)},
        {"reading": replace(BADLY, attainment_ratio=None)},
    ],
    ids=["classical", "unproven", "observing", "no traffic", "unknown"],
)
def test_only_a_learned_policy_in_charge_is_judged_by_what_came_of_it(
    changes: dict[str, object],
) -> None:
    bad = replace(LOOK, **({"reading": BADLY} | changes))  # type: ignore[arg-type]
    steps = climb([replace(bad, now_s=5.0 * n) for n in range(300)])
    assert Cause.BURN not in {step.cause for step in steps}


def test_a_bad_minute_that_is_over_does_not_trip() -> None:
    readings = [BADLY] * 12 + [WELL] * 300
    looks = [replace(LOOK, now_s=5.0 * n, reading=each) for n, each in enumerate(readings)]
    assert Cause.BURN not in {step.cause for step in climb(looks)}


@given(
    attained=st.lists(st.floats(0.0, 1.0) | st.none(), max_size=60),
    rates=st.lists(st.floats(0.0, 1e4) | st.none(), min_size=60, max_size=60),
)
def test_late_requests_are_never_more_than_requests(
    attained: list[float | None], rates: list[float | None]
) -> None:
    burn = Burn()
    for n, (share, rate) in enumerate(zip(attained, rates, strict=False)):
        reading = Signals(at_s=0.0, window_s=15.0, rate_rps=rate, attainment_ratio=share)
        burn = counted(burn, reading, 5.0 * n)
        for requests, late in zip(burn.requests, burn.late, strict=True):
            assert 0.0 <= late <= requests * (1.0 + 1e-9) + 1e-9
        assert not burns(burn, 0.0)


CLAIMS = st.lists(
    st.builds(
        Claim,
        running=st.builds(
            Allocation, replicas=st.integers(0, 6), gpu_share_milli=st.sampled_from([142, 1000])
        ),
        granted=st.builds(
            Allocation, replicas=st.integers(1, 9), gpu_share_milli=st.sampled_from([142, 1000])
        ),
    ),
    max_size=6,
)


@given(claims=CLAIMS, quota_milli=st.integers(0, 30_000))
def test_a_quota_is_kept_nobody_is_made_to_shrink_and_no_room_is_left_unused(
    claims: list[Claim], quota_milli: int
) -> None:
    given_ = within_quota(claims, quota_milli)
    held = sum(each.held_milli for each in claims)
    peak = sum(_peak(each, got) for each, got in zip(claims, given_, strict=True))
    assert peak <= max(quota_milli, held)
    for claim, got in zip(claims, given_, strict=True):
        if claim.moves:
            assert got in (claim.granted, claim.running)
        else:
            low, high = sorted((claim.running.replicas, claim.granted.replicas))
            assert low <= got.replicas <= high
            assert claim.grows or got == claim.granted
            assert got == claim.granted or quota_milli - peak < got.gpu_share_milli


def _peak(claim: Claim, got: Allocation) -> int:
    """Return the GPU held at the worst moment: both generations while a share changes."""
    new = got.replicas * got.gpu_share_milli
    if got.gpu_share_milli != claim.running.gpu_share_milli:
        return claim.held_milli + new
    return max(claim.held_milli, new)


def test_the_most_pressed_service_of_a_namespace_grows_first() -> None:
    claims = [
        Claim(running=Allocation(replicas=1), granted=Allocation(replicas=4)),
        Claim(running=Allocation(replicas=5), granted=Allocation(replicas=6)),
    ]
    assert [each.replicas for each in within_quota(claims, 8000)] == [3, 5]


@pytest.mark.parametrize(
    ("said", "up", "down"),
    [(None, 0, 0), ("up", 1, 0), ("down", 0, 1), ("both", 1, 1), (" UP ", 1, 0), ("no", 1, 1)],
)
def test_a_pause_is_read_and_an_unknown_word_pauses_both_ways(
    said: str | None, up: int, down: int
) -> None:
    found = pauses_of({} if said is None else {"gpupilot.dev/pause": said})
    assert found == Pauses(up=bool(up), down=bool(down))
    assert (mode_of(Mode.ACT, found) is Mode.PAUSED) == bool(up and down)


def test_only_the_word_true_overrides_the_gate() -> None:
    assert overrides_gate({"gpupilot.dev/override-gate": "true"})
    assert not any(
        overrides_gate({"gpupilot.dev/override-gate": word}) for word in ("", "yes", "false", "1")
    )
    assert not overrides_gate({})
