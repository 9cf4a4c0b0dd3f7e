"""The operator is killed in the middle and begins anew: it goes on where it was."""

from __future__ import annotations

import time
from typing import Any

import pytest

from gpupilot_testbed.faults import Fault
from gpupilot_testbed.running import until

pytestmark = pytest.mark.timeout(3000)

SCALE = "^PATCH .*/deployments/.*/scale"


def test_one_that_is_killed_in_the_middle_goes_on_where_it_was(world: Any, shop: Any) -> None:
    before = len(world.kube.asked)
    with world.kube.failing(Fault(match=SCALE, lost=True, delay_s=0.5)):
        shop.asked(4.5)
        until(lambda: shop.replicas() > 1)
        world.operator.kill()
    assert len(world.kube.asked) > before
    world.start()
    shop.settles(lambda count: count >= 5)
    assert max(shop.seen()) <= 6
    assert len(shop.objects("apps/v1", "deployments")) == 1


def test_one_that_begins_takes_nothing_away_before_it_knows(world: Any, shop: Any) -> None:
    shop.asked(3.5)
    count = shop.settles(lambda count: count >= 4)
    world.operator.kill()
    shop.asked(0.4)
    began_s = time.monotonic()
    world.start()
    until(lambda: "WarmingUp" in str(shop.status()) or shop.replicas() < count)
    assert shop.seen(began_s)[0] == count
    shop.settles(lambda now: now == 1)
    assert min(shop.seen(began_s)) >= 1
