"""The demo goes through to its report, on small numbers, and an interrupted one goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpupilot_agent.demo import AS_PUBLISHED, KNOWING, TO_TUNE, DemoConfig, demo

STAGES = [
    "preparing traffic and service",
    "tuning the baselines",
    "training the policy",
    "comparing on unseen traffic",
    "drawing the reports",
]


class Stages:
    """Notes every stage; stops the demo before the one it is told to stop at."""

    def __init__(self, stop_at: str = "") -> None:
        self.seen: list[str] = []
        self.stop_at = stop_at

    @contextmanager
    def __call__(self, name: str) -> Iterator[Callable[[float, str], None]]:
        if name == self.stop_at:
            raise KeyboardInterrupt
        self.seen.append(name)
        yield self.told

    @staticmethod
    def told(share: float, note: str) -> None:
        assert 0.0 <= share <= 1.0, note


def test_the_demo_ends_with_a_report_and_resumes_where_it_stopped(
    tiny: Path, tmp_path: Path
) -> None:
    config = DemoConfig(
        results=tmp_path,
        traffic="generated",
        profile=str(tiny),
        target_ms=500.0,
        replicas=2.0,
        trace_s=600.0,
        per_family=(1, 1, 1),
        trials=2,
        train_s=1.0,
    )
    first = Stages(stop_at=STAGES[3])
    with pytest.raises(KeyboardInterrupt):
        demo(config, first, jobs=1)
    assert first.seen == STAGES[:3]

    second = Stages()
    result = demo(config, second, jobs=1)
    assert second.seen == [STAGES[0], *STAGES[3:]]
    assert set(result.summary.policies) == {
        *AS_PUBLISHED,
        *(f"{name}-tuned" for name in TO_TUNE),
        "ppo",
        "generalist",
        *KNOWING,
    }
    assert len(result.summary.traces) == 4
    assert result.report.parent == result.folder
    assert (result.folder / "summary.json").exists()
    for page in (result.report, result.learning):
        assert page.stat().st_size > 10_000


def test_where_it_is_written_does_not_name_the_run(tmp_path: Path) -> None:
    assert DemoConfig(results=tmp_path).identity() == DemoConfig().identity()
    assert DemoConfig(seed=1).identity() != DemoConfig().identity()
