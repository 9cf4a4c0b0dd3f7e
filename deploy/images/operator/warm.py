"""Compile what a tick runs, into ``NUMBA_CACHE_DIR``: decide for a service that is not there."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.live_reading import LiveReading
from gpupilot_envs.signals import Signals
from gpupilot_operator import control
from gpupilot_operator.memory import State
from gpupilot_operator.ports import Change, Failure, Noted, Ports, Seen, Telling
from gpupilot_operator.service import Service, parse_service
from gpupilot_operator.status_fields import InferenceServiceStatus

POLICIES = ("Learned", "Queueing", "HPA", "KEDA", "KPA")
TICKS = 6
WITHIN_S = 600.0
MEASURED = "ProfileBeingMeasured"


class Nowhere:
    """Every door of a tick: services that run well, changes that nobody makes."""

    queries = 0

    def services(self) -> tuple[Seen, ...]:
        """Return one service of each policy."""
        return tuple(_seen(policy) for policy in POLICIES)

    def unready(self) -> Mapping[str, str]:
        """Return nothing: all is well."""
        return {}

    def carry_out(self, changes: Sequence[Change]) -> Mapping[str, Failure | None]:
        """Change nothing."""
        return {change.seen.service.key: None for change in changes}

    def tell(self, tellings: Sequence[Telling]) -> Mapping[str, str | None]:
        """Tell nobody."""
        return {telling.service.key: None for telling in tellings}

    def note(self, decisions: Sequence[Noted]) -> None:
        """Keep nothing."""

    def read(self, services: Sequence[Service], at_s: float) -> Mapping[str, LiveReading]:
        """Return a reading in which all is well."""
        signals = Signals(
            at_s=at_s,
            window_s=15.0,
            rate_rps=100.0,
            age_s=1.0,
            attainment_ratio=1.0,
            latency_p95_s=0.02,
        )
        reading = LiveReading(signals=signals, sources={"rate_rps": "gpupilot-gateway"})
        return {service.key: reading for service in services}


def _seen(policy: str) -> Seen:
    model = {"modelFormat": {"name": "onnxruntime"}, "storageUri": "pvc://models/warm"}
    spec = {
        "predictor": {"model": model, "maxReplicas": 8},
        "slo": {"latency": {"target": "60ms"}},
        "autoscaling": {"mode": "Act", "policy": policy, "profile": "mobilenetv4-edge"},
    }
    name = policy.lower()
    whose = {"namespace": "warm", "name": name, "uid": name, "generation": 1}
    return Seen(
        service=parse_service({"metadata": whose, "spec": spec}),
        status=InferenceServiceStatus(),
        running=Allocation(replicas=2),
        ready=2,
        annotations={"gpupilot.dev/override-gate": "true"},
    )


def main() -> None:
    """Tick until every policy has decided."""
    nowhere, state = Nowhere(), State()
    ports = Ports(cluster=nowhere, metrics=nowhere, log=nowhere)
    deadline_s = time.monotonic() + WITHIN_S
    now_s, decided = time.time(), 0
    while decided < TICKS:
        now_s += 5.0
        report = control.tick(ports, state, now_s)
        policies = {one.facts.grant.policy for one in report.services if one.facts.grant}
        decided += "nobody" not in policies
        if time.monotonic() > deadline_s:
            sys.exit(f"nobody decides: {policies}")
        time.sleep(0.0 if decided else 0.5)
    state.sizes.close()


if __name__ == "__main__":
    main()
