"""How fast the guardrail, the queueing kernels, the baselines and the oracle are on one core.

Usage: ``python benchmarks/bench_deciders.py`` prints one line per measurement, in CPU seconds of
this process (``time.process_time``), the median of five runs after a warm-up.
"""

from __future__ import annotations

import numpy as np
from cpu_time import cpu_s
from numpy.typing import NDArray

from gpupilot_agent.baselines.registry import make, names
from gpupilot_agent.oracle import capacity_curve, hindsight, late_table
from gpupilot_agent.policies import View
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.compiled import compiled
from gpupilot_envs.guardrail import (
    GuardrailMemory,
    fresh_memory_rows,
    limits_row,
    restrain,
    restrain_replicas,
)
from gpupilot_envs.limits import Limits, Targets
from gpupilot_envs.profile import parse_profile
from gpupilot_envs.queueing import needs
from gpupilot_envs.serving.capacity import Capacity
from gpupilot_envs.signals import History, Signals
from gpupilot_envs.workload.trace import RateTrace

LOOPS = 200_000
DAY = RateTrace(
    name="day", bin_s=15.0, rps=600.0 + 400.0 * np.sin(np.arange(5760) / 917.0), family="bench"
)


def history() -> History:
    """Return 64 readings of a busy service."""
    rng = np.random.default_rng(1)
    readings = tuple(
        Signals(
            at_s=15.0 * i,
            window_s=15.0,
            age_s=1.0,
            rate_rps=float(rng.gamma(400.0)),
            pending_requests=3.0,
            inflight_requests=20.0,
            gpu_busy_ratio=0.7,
            replicas_ready=6,
            replicas_pending=0,
        )
        for i in range(64)
    )
    return History(readings=readings)


@compiled
def many_verdicts(times: int, limits: NDArray[np.float64], memory: NDArray[np.float64]) -> int:
    """Restrain ``times`` asks in a compiled loop, as the fleet does."""
    total = 0
    for i in range(times):
        granted, _ = restrain_replicas(
            i % 40, 7, limits, memory, float(i), 1.0, 900.0, 300.0, 100.0, 1000
        )
        total += granted
    return total


@compiled
def many_needs(times: int, rows: NDArray[np.float64]) -> float:
    """Size ``times`` services from 64 readings each in a compiled loop."""
    total = 0.0
    for i in range(times):
        total += needs(rows, i % 64, 64, 80.0, 2.0, 120.0, 45.0, 0.5, 0.2, 15.0, False)[1]
    return total


def bench_kernels(seen: History) -> None:
    """Time what runs inside compiled loops, and the wrapper that runs live."""
    limits, memory, rows = limits_row(Limits()), fresh_memory_rows(1, 60)[0], seen.matrix()
    spent = cpu_s(lambda: many_verdicts(LOOPS, limits, memory))
    print(f"guardrail, compiled       {spent / LOOPS * 1e9:8.1f} ns a decision")
    spent = cpu_s(lambda: many_needs(LOOPS // 10, rows))
    print(f"queueing needs, 64 rows   {spent / LOOPS * 1e10:8.1f} ns a decision")
    ask, running = Allocation(replicas=3), Allocation(replicas=7)
    verdict = cpu_s(
        lambda: [
            restrain(ask, running, seen, Limits(), 945.0, GuardrailMemory(), 100.0)
            for _ in range(1000)
        ]
    )
    print(f"guardrail, live wrapper   {verdict * 1e3:8.1f} us a decision")


def bench_policies(seen: History) -> None:
    """Time one decision of each baseline."""
    view = View(
        now_s=945.0,
        history=seen,
        current=Allocation(replicas=6),
        limits=Limits(),
        targets=Targets(latency_s=0.06),
        profile=parse_profile({"name": "bench", "batch_latency_ms": [[1, 8.0], [8, 26.0]]}),
        capacity=Capacity(slo_rps=80.0, saturation_rps=110.0, idle_latency_s=0.008),
    )
    for name in names():
        policy = make(name, trace=DAY)
        memory = policy.act(view, None).memory
        spent = cpu_s(lambda p=policy, m=memory: [p.act(view, m) for _ in range(200)])  # type: ignore[misc]
        print(f"{name:25s} {spent / 200 * 1e6:8.1f} us a decision")


def bench_oracle() -> None:
    """Time the table and the plan of one day in 15 s intervals, up to 32 replicas."""
    per_second = np.random.default_rng(0).poisson(np.repeat(DAY.rps, 15)).astype(np.float64)
    curve = capacity_curve(60.0, 0.06)
    spent = cpu_s(lambda: late_table(per_second, curve, interval_s=15.0, replicas_max=32))
    print(f"oracle, lateness table    {spent:8.3f} s a day")
    table = late_table(per_second, curve, interval_s=15.0, replicas_max=32)
    spent = cpu_s(
        lambda: hindsight(
            table,
            requests=float(per_second.sum()),
            late_share_max=0.01,
            interval_s=15.0,
            cold_start_s=40.0,
            limits=Limits(),
            initial=10,
        )
    )
    print(f"oracle, plan of a day     {spent:8.3f} s (5,760 intervals x 32 replicas)")


if __name__ == "__main__":
    bench_kernels(history())
    bench_policies(history())
    bench_oracle()
