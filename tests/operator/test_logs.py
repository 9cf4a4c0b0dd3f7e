"""Log lines: JSON for everybody, one for each decision that is news, trouble told once."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gpupilot_operator import logs
from gpupilot_operator.narrator import FIRST, Narrator
from gpupilot_operator.plan import Plan, Resize
from gpupilot_operator.report import ServiceReport, TickReport

Reported = Callable[..., ServiceReport]
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """Return a function that returns the lines written since it was last called."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    stream = io.StringIO()
    logs.set_up("info", stream)

    def read() -> list[dict[str, Any]]:
        text = stream.getvalue()
        stream.seek(0)
        stream.truncate()
        return [json.loads(line) for line in text.splitlines()]

    yield read
    logging.captureWarnings(False)
    root.handlers[:] = before
    root.setLevel(level)


def tick(*services: ServiceReport, error: str | None = None) -> TickReport:
    return TickReport(
        at_s=1.0,
        read_s=0,
        decide_s=0,
        act_s=0,
        queries=5,
        query_error=error,
        services=services,
    )


def test_any_record_becomes_one_line_of_json(lines: Lines) -> None:
    log = logging.getLogger("kopf.reactor")
    log.info("two\nlines of %s", "text")
    try:
        int("wrong")
    except ValueError:
        log.exception("it failed")
    told, failed = lines()
    assert told["message"] == "two\nlines of text"
    assert (told["level"], told["logger"]) == ("info", "kopf.reactor")
    assert told["time"].endswith("+00:00")
    assert "ValueError: invalid literal" in failed["trace"]


def test_a_client_never_tells_its_requests(lines: Lines) -> None:
    logging.getLogger("kubernetes.client.rest").info("Authorization: Bearer secret")
    assert lines() == []


def test_a_decision_that_is_news_is_one_line(lines: Lines, reported: Reported) -> None:
    narrator = Narrator()
    plan = Plan(replicas=4, resize=Resize(cpu_milli=500, memory_bytes=2**30))
    narrator.report(tick(reported(told=True, plan=plan), reported("search")))
    (line,) = lines()
    wanted = {
        "namespace": "prod",
        "name": "shop",
        "generation": 3,
        "mode": "Act",
        "policy": "generalist",
        "decider": "PolicyDecides",
        "cause": "PolicyInCharge",
        "running": 3,
        "ready": 2,
        "asked": 5,
        "granted": 4,
        "reasons": ["StepLimited", "TooManyReplicas"],
        "attainmentRatio": 0.97,
        "p95Seconds": 0.05,
        "requestsPerSecond": 80.0,
        "source": "gateway",
        "changed": ["replicas", "resize"],
    }
    assert {key: line[key] for key in wanted} == wanted
    assert line["message"].startswith("prod/shop: generalist asked for 5, 4 granted: ")
    assert line["logger"] == "gpupilot.decisions"


def test_the_first_decision_is_told_of_before_it_begins(lines: Lines) -> None:
    times = iter([10.0, 45.5])
    narrator = Narrator(clock=lambda: next(times))
    with narrator.deciding(lambda: 0):
        pass
    assert lines() == []
    with narrator.deciding(lambda: 3):
        assert [line["message"] for line in lines()] == [FIRST]
    assert [line["message"] for line in lines()] == ["the first decision took 35.5 s"]
    with narrator.deciding(lambda: 3):
        pass
    assert lines() == []


def test_a_first_decision_that_fails_is_told_of_again(lines: Lines) -> None:
    narrator = Narrator()
    for _ in range(2):
        with pytest.raises(ValueError, match="no"), narrator.deciding(lambda: 1):
            raise ValueError("no")
        assert [line["message"] for line in lines()] == [FIRST]


def test_trouble_is_told_once_and_its_end_too(lines: Lines, reported: Reported) -> None:
    narrator = Narrator()
    away = "Prometheus at http://p cannot be reached"
    for _ in range(3):
        narrator.report(tick(reported(failure="403: forbidden"), error=away))
    assert [(line["of"], line["level"]) for line in lines()] == [
        ("prod/shop", "warning"),
        ("prometheus", "warning"),
    ]
    narrator.report(tick(reported(failure="409: conflict")))
    changed, over = lines()
    assert (changed["of"], changed["message"]) == ("prod/shop", "prod/shop: 409: conflict")
    assert (over["of"], over["level"]) == ("prometheus", "info")
