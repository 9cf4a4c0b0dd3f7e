"""A cluster, a Prometheus and a decision log over plain data, for ticks without any I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from looping import after

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.errors import MetricsUnavailable
from gpupilot_envs.live_reading import LiveReading
from gpupilot_envs.signals import Signals
from gpupilot_operator.memory import State
from gpupilot_operator.ports import Change, Failure, Noted, Ports, Seen, Telling
from gpupilot_operator.service import Service, parse_service
from gpupilot_operator.sizing import Sizes
from gpupilot_operator.status_fields import InferenceServiceStatus

PROFILE = "mobilenetv4-edge"


@dataclass
class Shop:
    """One service as the ports show it: written by tests, changed by what the loop carries out."""

    service: Service
    running: Allocation
    reading: LiveReading | None = None
    shown: dict[str, Any] = field(default_factory=dict)
    status: InferenceServiceStatus = field(default_factory=InferenceServiceStatus)

    def seen(self) -> Seen:
        shown = {"ready": self.running.replicas} | self.shown
        return Seen(service=self.service, status=self.status, running=self.running, **shown)


class Town:
    """Every port of the loop over plain data: what is asked for is done at once, or refused."""

    def __init__(self, *shops: Shop) -> None:
        self.shops = {shop.service.key: shop for shop in shops}
        self.down: str | None = None
        self.refuses: Failure | None = None
        self.deaf: str | None = None
        self.wrong: dict[str, str] = {}
        self.changes: list[Change] = []
        self.tellings: list[Telling] = []
        self.noted: list[Noted] = []
        self.reads = 0
        self.queries = 5

    @property
    def ports(self) -> Ports:
        return Ports(cluster=self, metrics=self, log=self)

    def services(self) -> tuple[Seen, ...]:
        return tuple(shop.seen() for shop in self.shops.values())

    def unready(self) -> Mapping[str, str]:
        return self.wrong

    def carry_out(self, changes: Sequence[Change]) -> Mapping[str, Failure | None]:
        self.changes.extend(changes)
        if self.refuses is not None:
            return {change.seen.service.key: self.refuses for change in changes}
        for change in changes:
            shop = self.shops[change.seen.service.key]
            shop.running = after(shop.running, change.plan)
        return {change.seen.service.key: None for change in changes}

    def tell(self, tellings: Sequence[Telling]) -> Mapping[str, str | None]:
        self.tellings.extend(tellings)
        if self.deaf is not None:
            return {telling.service.key: self.deaf for telling in tellings}
        for telling in tellings:
            shop = self.shops[telling.service.key]
            if telling.patch is not None:
                shop.status = merged(shop.status, telling.patch)
            if telling.release_hand:
                shop.shown.pop("set_by_hand", None)
        return {telling.service.key: None for telling in tellings}

    def read(self, services: Sequence[Service], at_s: float) -> Mapping[str, LiveReading]:
        self.reads += 1
        if self.down is not None:
            raise MetricsUnavailable(self.down, passing=True)
        readings = {service.key: self.shops[service.key].reading for service in services}
        return {
            key: replace(reading, signals=replace(reading.signals, at_s=at_s))
            for key, reading in readings.items()
            if reading is not None
        }

    def note(self, decisions: Sequence[Noted]) -> None:
        self.noted.extend(decisions)


def merged(status: InferenceServiceStatus, patch: Mapping[str, Any]) -> InferenceServiceStatus:
    """Return the status after a merge patch, as the API server would keep it (RFC 7386)."""
    kept = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return InferenceServiceStatus.model_validate(_merged(kept, patch["status"]))


def _merged(kept: Any, patch: Any) -> Any:
    if not isinstance(patch, Mapping):
        return patch
    result = dict(kept) if isinstance(kept, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged(result.get(name), value)
    return result


@pytest.fixture(scope="session")
def state_of() -> Iterator[Callable[[], State]]:
    """Return a maker of states that share what was measured."""
    sizes = Sizes()

    def make() -> State:
        state = State()
        state.sizes.close()
        state.sizes = sizes
        return state

    yield make
    sizes.close()


@pytest.fixture
def state(state_of: Callable[[], State]) -> State:
    """Return a state that nothing happened to."""
    return state_of()


@pytest.fixture(scope="session")
def shop_of() -> Callable[..., Shop]:
    """Return a maker of services: what differs in the spec's blocks, and what is shown of them."""

    def make(
        name: str = "shop",
        *,
        namespace: str = "prod",
        uid: str | None = None,
        replicas: int = 2,
        predictor: dict[str, Any] | None = None,
        gpu: dict[str, Any] | None = None,
        slo: dict[str, Any] | None = None,
        **autoscaling: Any,
    ) -> Shop:
        model = {"modelFormat": {"name": "onnxruntime"}, "storageUri": "pvc://models/shop/1"}
        spec = {
            "predictor": {"model": model, "maxReplicas": 8} | (predictor or {}),
            "slo": {"latency": {"target": "60ms"}} | (slo or {}),
            "gpu": gpu or {},
            "autoscaling": {"mode": "Act", "policy": "Queueing", "profile": PROFILE} | autoscaling,
        }
        whose = {"namespace": namespace, "name": name, "uid": uid or f"u-{name}", "generation": 1}
        service = parse_service({"metadata": whose, "spec": spec})
        return Shop(service=service, running=Allocation(replicas=replicas))

    return make


@pytest.fixture(scope="session")
def town_of() -> Callable[..., Town]:
    """Return a maker of everything around the loop."""
    return Town


@pytest.fixture(scope="session")
def felt() -> Callable[..., LiveReading]:
    """Return a maker of readings at some rate: all well unless it is said otherwise."""

    def make(rate_rps: float | None = 100.0, **signals: Any) -> LiveReading:
        known = {"age_s": 1.0, "attainment_ratio": 1.0, "latency_p95_s": 0.02} | signals
        found = Signals(at_s=0.0, window_s=15.0, rate_rps=rate_rps, **known)
        return LiveReading(signals=found, sources={"rate_rps": "gpupilot-gateway"})

    return make
