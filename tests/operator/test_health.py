"""Probes: what counts as alive and as ready, and the pages that answer."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from gpupilot_operator.exporter import Exporter
from gpupilot_operator.health import Health
from gpupilot_operator.pages import pages, served


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_loop_lives_while_it_beats(clock: Clock) -> None:
    health = Health(clock)
    health.expect("tick", within_s=30.0)
    clock.now_s += 30.0
    assert health.alive().well
    clock.now_s += 0.1
    assert not health.alive().well
    assert "tick: none yet, expected 30.1 s ago" in health.alive().text
    health.beat("tick")
    assert health.alive().well


def test_one_late_loop_is_enough(clock: Clock) -> None:
    health = Health(clock)
    health.expect("tick", within_s=30.0)
    health.expect("lease", within_s=5.0)
    clock.now_s += 10.0
    health.beat("tick")
    assert not health.alive().well


def test_standing_by_fewer_loops_are_expected(clock: Clock) -> None:
    health = Health(clock)
    health.synced()
    health.expect("tick", within_s=30.0)
    assert not health.ready().well
    health.release("tick")
    clock.now_s += 1000.0
    assert health.alive().well
    assert health.ready().well


def test_a_beat_of_a_loop_that_was_let_go_is_no_news(clock: Clock) -> None:
    health = Health(clock)
    health.expect("tick", within_s=30.0)
    health.release("tick")
    health.beat("tick")
    assert health.alive().text == ""


def test_ready_needs_the_store_and_one_round(clock: Clock) -> None:
    health = Health(clock)
    health.expect("tick", within_s=30.0)
    assert not health.ready().well
    health.beat("tick", "Prometheus at http://p cannot be reached")
    assert not health.ready().well, "the store is empty"
    health.synced()
    assert health.ready().well, "that Prometheus is away was found out and is shown"
    assert "cannot be reached" in health.ready().text


def asked(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as page:
            return page.status, page.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_pages_answer_over_http(clock: Clock) -> None:
    health, exporter = Health(clock), Exporter()
    health.expect("tick", within_s=30.0)
    with served(pages(exporter.registry, health), 0, "127.0.0.1") as port:
        assert asked(port, "/healthz")[0] == 200
        status, text = asked(port, "/readyz")
        assert (status, text.splitlines()[0]) == (503, "store: not synced yet")
        health.synced()
        health.beat("tick")
        assert asked(port, "/readyz")[0] == 200
        clock.now_s += 60.0
        assert asked(port, "/healthz")[0] == 503
        status, text = asked(port, "/metrics")
        assert (status, "gpupilot_leader 0.0" in text) == (200, True)
        assert asked(port, "/")[0] == 404
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10)
