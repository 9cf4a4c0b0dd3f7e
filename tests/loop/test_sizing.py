"""What pods carry is measured once, and not remembered for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gpupilot_envs.errors import ProfileInvalid
from gpupilot_operator import sizing
from gpupilot_operator.facts import PolicyState
from gpupilot_operator.sizing import Sizes, Unsized


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the objectives that were measured for; measuring takes no time."""
    asked: list[str] = []

    def menu(_: Any, targets: Any) -> Any:
        asked.append(f"{targets.latency_s:g}")
        raise ProfileInvalid("profile", "x", "y")

    monkeypatch.setattr(sizing, "menu", menu)
    return asked


def test_what_was_asked_for_the_longest_is_measured_anew(
    shop_of: Callable[..., Any], measured: list[str]
) -> None:
    sizes = Sizes(most=2)
    for target in ("40ms", "50ms", "40ms", "60ms", "40ms", "50ms"):
        seen = shop_of(slo={"latency": {"target": target}}).seen()
        sizes.of(seen)
        sizes.wait()
        found = sizes.of(seen)
        assert isinstance(found, Unsized)
        assert found.state is PolicyState.INFEASIBLE
    sizes.close()
    assert measured == ["0.04", "0.05", "0.06", "0.05"]
