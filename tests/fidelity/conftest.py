"""Runs whose latencies are known from Lindley's recursion, not from the simulator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpupilot_envs.profile import Batching, ServiceProfile
from gpupilot_envs.runs import REQUESTS, RunCard, write_run

SERVICE_S, OVERHEAD_S, WARM_UP_S = 0.010, 0.002, 5.0
ALONE = Batching(enabled=False, max_batch=1)


class Queue:
    """A server that takes 10 ms for every request, first come, first served, and 2 ms more."""

    service_s, overhead_s = SERVICE_S, OVERHEAD_S

    def service(self, *, slower: float = 1.0) -> ServiceProfile:
        """Return the profile of a server that takes the same time for every request."""
        return ServiceProfile(
            name="queue",
            batch_latency_ms=((1.0, 1000.0 * SERVICE_S * slower),),
            noise_cv=0.0,
            batching=ALONE,
            overhead_ms=1000.0 * OVERHEAD_S,
        )

    def card(self, **changes: object) -> RunCard:
        """Return the card of a run of that server."""
        given = {
            "name": "steady",
            "flavour": "cpu",
            "purpose": "fidelity",
            "replicas": 1,
            "instances": 1,
            "batching": ALONE,
            "target_ms": 30.0,
            "warm_up_s": WARM_UP_S,
            "duration_s": 60.0,
        }
        return RunCard.model_validate(given | changes)

    def recorded(
        self, folder: Path, *, load: float, duration_s: float = 60.0, seed: int = 0
    ) -> Path:
        """Write a run of Poisson arrivals, first come, first served; return its folder."""
        random = np.random.default_rng(seed)
        count = random.poisson(load / SERVICE_S * (WARM_UP_S + duration_s))
        sent_s = np.sort(random.uniform(0.0, WARM_UP_S + duration_s, count))
        sent_s -= sent_s[0]
        free_s, latency_s = 0.0, np.empty(count)
        for index, at_s in enumerate(sent_s):
            free_s = max(free_s, at_s) + SERVICE_S
            latency_s[index] = free_s - at_s + OVERHEAD_S
        columns = {
            "intended_s": 1e9 + sent_s,
            "lag_s": np.zeros(count),
            "latency_s": latency_s,
            "ok": np.ones(count, dtype=bool),
        }
        write_run(folder, self.card(name=folder.name, duration_s=duration_s))
        pq.write_table(pa.table(columns), folder / REQUESTS)
        return folder


@pytest.fixture(scope="session")
def queue() -> Queue:
    """Return the server whose runs are known."""
    return Queue()
