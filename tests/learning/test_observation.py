"""The observation is bounded, free of scale, honest about what is missing, and one kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from gpupilot_envs import observation
from gpupilot_envs.actions import (
    AXES,
    CHOICES,
    SIZES,
    knobs_row,
)
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.controller import Controller
from gpupilot_envs.deciding import observe_one
from gpupilot_envs.decision import Seats, Service
from gpupilot_envs.following import fresh_rows
from gpupilot_envs.gear_guard import fresh_actuator_rows
from gpupilot_envs.gears import GEAR_FIELDS, GEARS_MAX, Gear, Menu
from gpupilot_envs.guardrail import limits_row
from gpupilot_envs.limits import Limits
from gpupilot_envs.observation import ADVICE_FIELDS, FIELDS, GEAR_SEEN, HIGH, LOW
from gpupilot_envs.serving.capacity import Capacity
from gpupilot_envs.signals import SIGNAL_FIELDS, Signals

Readings = Callable[..., list[Signals]]
NAMES = [field.name for field in FIELDS]


def _observe(service: Service, readings: list[Signals], running: int = 3) -> dict[str, float]:
    seats = Seats(1)
    seats.seat([service])
    for reading in readings:
        seats.observe(np.array([0]), reading.row()[None, :], np.array([running]))
    return dict(zip(NAMES, seats.observations[0].tolist(), strict=True))


def test_field_names_are_unique_and_ranges_are_ordered() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert (LOW < HIGH).all()


def test_the_documentation_table_has_a_row_per_field() -> None:
    lines = observation.fields_table().splitlines()
    assert len(lines) == 2 + len(FIELDS)
    assert all(name in line for name, line in zip(NAMES, lines[2:], strict=True))


def test_the_schema_hash_changes_with_any_field(monkeypatch: pytest.MonkeyPatch) -> None:
    before = observation.schema_hash()
    wider = (replace(FIELDS[0], high=5.0), *FIELDS[1:])
    monkeypatch.setattr(observation, "FIELDS", wider)
    assert observation.schema_hash() != before


@settings(deadline=None, max_examples=60)
@given(
    rows=arrays(
        np.float64,
        (8, len(SIGNAL_FIELDS)),
        elements=st.one_of(st.just(np.nan), st.floats(0, 1e9)),
    ),
    count=st.integers(1, 8),
    running=st.integers(0, 64),
)
def test_any_reading_gives_finite_values_within_the_bounds(
    rows: NDArray[np.float64], count: int, running: int
) -> None:
    service = np.array([80.0, 120.0, 0.01, 0.06, 0.99, 30.0, 8.0, 64.0, 60.0, 1000.0, 25.0])
    knobs = knobs_row(Controller().knobs(30.0))
    ring, ordered, known = (part[0] for part in fresh_rows(1))
    advice, mask = np.empty(len(ADVICE_FIELDS)), np.empty(CHOICES, dtype=np.bool_)
    out, before = np.empty(len(FIELDS), dtype=np.float32), np.zeros(len(AXES))
    menu, costs = np.full((GEARS_MAX, len(GEAR_FIELDS)), np.nan), np.empty(GEARS_MAX)
    limits, never = limits_row(Limits()), fresh_actuator_rows(1)[0]
    for row in rows[:count]:
        observe_one(
            row,
            ring,
            ordered,
            known,
            service,
            knobs,
            running,
            before,
            menu,
            1,
            0,
            limits,
            never,
            advice,
            costs,
            mask,
            np.empty(len(GEAR_SEEN)),
            out,
        )
    assert np.isfinite(out).all()
    assert ((out >= LOW) & (out <= HIGH)).all()


def _slices(seed: int) -> Menu:
    """Return slices of which the smaller are the cheaper, and the stated one is any of them."""

    def gear(share_milli: int, slo_rps: float) -> Gear:
        able = Capacity(slo_rps=slo_rps, saturation_rps=1.3 * slo_rps, idle_latency_s=0.012)
        allocation = Allocation(replicas=1, gpu_share_milli=share_milli)
        return Gear(allocation=allocation, capacity=able, cost_milli=share_milli)

    gears = (gear(250, 30.0 + seed), gear(500, 60.0), gear(1000, 100.0))
    return Menu(gears=gears, base=seed % 3)


def test_every_field_answers_to_something(service: Service, readings: Readings) -> None:
    """A field that never moves is not a field: over varied services each takes two values."""
    seen = []
    for seed in range(12):
        varied = replace(
            service,
            capacity=Capacity(
                slo_rps=50.0 + 10 * seed, saturation_rps=200.0, idle_latency_s=0.01 + 0.002 * seed
            ),
            profile=service.profile.model_copy(
                update={
                    "cold_start_s": service.profile.cold_start_s.model_copy(
                        update={"mean": 10.0 + seed}
                    )
                }
            ),
            targets=replace(service.targets, attainment_ratio=0.9 + 0.008 * seed),
            price=5.0 * (1 + seed),
            menu=_slices(seed) if seed % 4 else None,
        )
        seats = Seats(1)
        seats.seat([varied])
        missing = 0.3 if seed % 2 else 0.0
        for k, reading in enumerate(readings(30 + seed, seed=seed, missing=missing)):
            if seed % 3 == 0 and k > 20 and reading.rate_rps is not None:
                reading = replace(reading, rate_rps=0.01 * reading.rate_rps)
            seats.observe(np.array([0]), reading.row()[None, :], np.array([1 + seed]))
            action = np.array([[seed % size for size in SIZES]])
            seats.decide(action, np.array([1 + seed]), np.array([reading.at_s]))
        seats.observe(np.array([0]), reading.row()[None, :], np.array([1 + seed]))
        seen.append(seats.observations[0].copy())
    still = np.ptp(np.stack(seen), axis=0) == 0
    assert [name for name, flat in zip(NAMES, still, strict=True) if flat] == []


def test_scale_is_not_seen(service: Service, readings: Readings) -> None:
    """Ten times the traffic on replicas ten times as strong is the same situation."""
    factor = 10.0
    strong = replace(
        service,
        capacity=replace(
            service.capacity,
            slo_rps=factor * service.capacity.slo_rps,
            saturation_rps=factor * service.capacity.saturation_rps,
        ),
    )
    small = readings(40)
    large = [
        replace(
            r,
            rate_rps=None if r.rate_rps is None else r.rate_rps * factor,
            pending_requests=None if r.pending_requests is None else r.pending_requests * factor,
        )
        for r in small
    ]
    one, ten = _observe(service, small), _observe(strong, large)
    assert ten == pytest.approx(one, rel=1e-5, abs=1e-5)


def test_missing_is_flagged_and_is_not_zero_traffic(service: Service) -> None:
    silent = [Signals(at_s=15.0, window_s=15.0)]
    idle = [Signals(at_s=15.0, window_s=15.0, rate_rps=0.0, attainment_ratio=1.0)]
    missing, zero = _observe(service, silent), _observe(service, idle)
    assert (missing["rate_missing"], missing["latency_missing"]) == (1.0, 1.0)
    assert (zero["rate_missing"], zero["latency_missing"]) == (0.0, 0.0)


def test_budget_left_falls_with_late_requests_and_recovers(service: Service) -> None:
    def reading(k: int, attainment: float) -> Signals:
        at_s = 15.0 * k
        return Signals(at_s=at_s, window_s=15.0, rate_rps=200.0, attainment_ratio=attainment)

    perfect = [reading(k, 1.0) for k in range(1, 61)]
    spent = [*perfect, *(reading(k, 0.5) for k in range(61, 65))]
    healed = [*spent, *(reading(k, 1.0) for k in range(65, 785))]
    left = [_observe(service, some)["budget_left"] for some in (perfect, spent, healed)]
    assert left[0] == 1.0
    assert left[1] < 0.0 < left[2] < 1.0


def test_an_outage_is_the_latest_it_can_be(service: Service) -> None:
    """All late for 5 min: a mean attainment of 0 must not read as nothing known."""
    down = [
        Signals(at_s=15.0 * k, window_s=15.0, rate_rps=200.0, attainment_ratio=0.0)
        for k in range(1, 25)
    ]
    seen = _observe(service, down)
    assert seen["late_now"] == pytest.approx(1.0)
    assert seen["late_5min"] == pytest.approx(1.0)
