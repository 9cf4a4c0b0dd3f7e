"""The report: complete, self-contained, and saying what the numbers say, losses included."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from gpupilot_agent.comparison.config import CompareConfig
from gpupilot_agent.comparison.running import compare
from gpupilot_agent.report import write_compact, write_report
from gpupilot_agent.report.canvas import PNG_DPI
from gpupilot_agent.report.findings import findings, headline, listing
from gpupilot_agent.report.look import looks
from gpupilot_agent.report.reading import Reading, percent
from gpupilot_agent.results import Summary
from gpupilot_envs.errors import InputInvalid

ATTRIBUTES_THAT_LOAD = ("src", "href", "data", "srcset", "poster", "action")


class Links(HTMLParser):
    """Collects every attribute that could fetch something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name.split(":")[-1] in ATTRIBUTES_THAT_LOAD:
                self.found.append(f"{tag} {value}")


@pytest.fixture(scope="module")
def result(small: CompareConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "run"
    compare(small, out)
    write_report(out)
    return out


def test_report_names_every_policy_and_every_trace(result: Path, small: CompareConfig) -> None:
    text = (result / "report.html").read_text()
    for name in (*small.policies, *(trace.name for trace in small.traces)):
        assert text.count(name) >= 3


def test_report_needs_no_network_and_no_other_file(result: Path) -> None:
    text = (result / "report.html").read_text()
    links = Links()
    links.feed(text)
    assert all(link.split()[1].startswith("#") for link in links.found)
    assert not re.findall(r"url\((?!#)", text)
    assert "@import" not in text
    addresses = set(re.findall(r"https?://[^\s\"'<>]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_every_colour_of_the_figures_follows_the_theme(result: Path) -> None:
    text = (result / "report.html").read_text()
    figures = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert re.findall(r"#[0-9a-fA-F]{6}\b", figures) == []
    assert "prefers-color-scheme: dark" in text
    used = set(re.findall(r"var\((--c-[0-9a-f]{6})\)", text))
    dark = re.search(r"prefers-color-scheme: dark\) \{ :root \{(.*?)\}", text)
    assert dark is not None
    assert all(f"{name}:" in dark.group(1) for name in used)


def test_pictures_lie_beside_the_report(result: Path) -> None:
    names = {file.name for file in result.glob("*.png")}
    assert names == {
        "overview.png", "frontier.png", "traces.png", "trace-slow.png", "trace-quick.png"
    }  # fmt: skip
    for name in names:
        assert (result / name).read_bytes().startswith(b"\x89PNG")
    assert PNG_DPI >= 150


def test_compact_page_leaves_out_single_traces_and_nothing_else(
    result: Path, tmp_path: Path
) -> None:
    target = tmp_path / "page.html"
    write_compact(result, target)
    short, full = (path.read_text("utf-8") for path in (target, result / "report.html"))
    assert len(short) < len(full)
    assert short.count("<svg") == 3
    assert all(part in full for part in short.split("<h3>")[-3:])


def test_same_result_gives_the_same_report(result: Path) -> None:
    before = (result / "report.html").read_bytes()
    write_report(result)
    assert (result / "report.html").read_bytes() == before


@pytest.mark.parametrize("text", [None, "{}", "no json"])
def test_folder_without_a_summary_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "summary.json").write_text(text)
    with pytest.raises(InputInvalid, match=r"summary\.json"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


Edit = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def edited(result: Path) -> Callable[[Edit], Reading]:
    """Return a function that reads the result after somebody changed its numbers."""
    source = (result / "summary.json").read_text()

    def make(edit: Edit) -> Reading:
        document = json.loads(source)
        edit(document)
        return Reading(summary=Summary.model_validate(document))

    return make


def duel(relative: float, low: float, high: float, *, cost: float = 1.0) -> Edit:
    """Return an edit in which queueing is the learned policy and meets static at 95 %."""

    def edit(document: dict[str, Any]) -> None:
        document["config"]["policies"]["queueing"] = {"family": "ppo", "role": "learned"}
        document["at_attainment"]["0.95"] |= {"queueing": cost * (1.0 + relative), "static": cost}
        for pair in document["paired"]:
            if (pair["a"], pair["b"], pair["metric"]) == ("static", "queueing", "gpu_hours@0.95"):
                turned = [1.0 / (1.0 + value) - 1.0 for value in (relative, high, low)]
                pair["relative"] = {"mean": turned[0], "ci95": turned[1:]}

    return edit


def test_sure_win_is_told_with_its_interval(edited: Callable[[Edit], Reading]) -> None:
    reading = edited(duel(-0.10, -0.12, -0.08))
    assert headline(reading) == (
        "queueing keeps 95 % of requests within 200 ms with 10.0 % fewer GPU-hours "
        "(95 % interval -12.0 to -8.0 %) than the best other policy, static."
    )
    assert findings(reading)[0].verdict == "better"


def test_difference_within_the_error_claims_no_winner(edited: Callable[[Edit], Reading]) -> None:
    reading = edited(duel(-0.01, -0.03, 0.02))
    assert "within the error of measurement" in headline(reading)
    assert "fewer" not in headline(reading)
    assert findings(reading)[0].verdict == "even"


def test_loss_is_told_first(edited: Callable[[Edit], Reading]) -> None:
    reading = edited(duel(0.07, 0.05, 0.09))
    assert "7.0 % more GPU-hours" in headline(reading)
    assert "than the cheapest policy, static" in headline(reading)
    assert findings(reading)[0].verdict == "worse"


@pytest.mark.parametrize(
    ("relative", "told"),
    [
        (
            0.07,
            "static keeps 95 % of requests within 200 ms most cheaply; queueing needs 7.0 % more",
        ),
        (-0.07, "queueing keeps 95 % of requests within 200 ms most cheaply: 7.0 % fewer"),
    ],
)
def test_without_an_interval_the_numbers_are_told_and_no_verdict(
    edited: Callable[[Edit], Reading], relative: float, told: str
) -> None:
    def alone(document: dict[str, Any]) -> None:
        duel(relative, 0.0, 0.0)(document)
        for pair in document["paired"]:
            pair["relative"]["ci95"] = [None, None]

    reading = edited(alone)
    assert headline(reading).startswith(told)
    assert "too few runs for an interval" in headline(reading)
    assert findings(reading)[0].verdict == "note"


def test_cheaper_policy_without_a_frontier_leads_the_headline(
    edited: Callable[[Edit], Reading],
) -> None:
    def lone(document: dict[str, Any]) -> None:
        duel(0.0, 0.0, 0.0, cost=3.0)(document)
        document["at_attainment"]["0.95"]["static"] = None
        static = document["policies"]["static"]
        static["attainment_ratio"] = {"mean": 0.99, "ci95": [0.98, 1.0]}
        static["gpu_hours"] = {"mean": 2.0, "ci95": [1.9, 2.1]}
        document["policies"]["queueing"]["attainment_ratio"] = {"mean": 0.9, "ci95": [0.8, 0.94]}

    assert headline(edited(lone)) == (
        "static keeps 95 % of requests within 200 ms most cheaply; queueing needs 50.0 % more "
        "GPU-hours (not read at equal attainment)."
    )


def test_when_nobody_meets_the_target_nobody_wins(edited: Callable[[Edit], Reading]) -> None:
    def fail(document: dict[str, Any]) -> None:
        document["at_attainment"] = {"0.95": dict.fromkeys(document["policies"])}
        for scores in (document["policies"], *document["traces"].values()):
            for score in scores.values():
                score["attainment_ratio"] = {"mean": 0.5, "ci95": [0.4, 0.6]}

    reading = edited(fail)
    assert headline(reading).startswith("No policy kept 95 % of requests within 200 ms")
    assert not [finding for finding in findings(reading) if finding.verdict == "better"]


def test_learned_policy_that_misses_the_target_is_compared_where_it_can_be(
    edited: Callable[[Edit], Reading],
) -> None:
    def short(document: dict[str, Any]) -> None:
        duel(-0.10, -0.12, -0.08)(document)
        document["at_attainment"]["0.9"] = document["at_attainment"].pop("0.95")
        document["at_attainment"]["0.95"] = {"static": 1.0, "queueing": None}
        document["policies"]["queueing"]["attainment_ratio"]["mean"] = 0.93
        for pair in document["paired"]:
            pair["metric"] = pair["metric"].replace("@0.95", "@0.9")

    reading = edited(short)
    assert (reading.level, reading.focus) == (0.9, "queueing")
    assert headline(reading).startswith(
        "queueing has no setting at the objective of 95 %. queueing keeps 90 % of requests"
    )


def test_trace_on_which_the_focus_loses_or_misses_is_named(
    edited: Callable[[Edit], Reading],
) -> None:
    def lose(document: dict[str, Any]) -> None:
        duel(-0.10, -0.12, -0.08)(document)
        met = {"mean": 0.99, "ci95": [0.98, 0.995]}
        for scores in document["traces"].values():
            for name in ("static", "queueing"):
                scores[name]["attainment_ratio"] = met
        document["traces"]["slow"]["static"]["gpu_hours"]["mean"] = 0.01
        document["traces"]["quick"]["queueing"]["attainment_ratio"] = met | {"mean": 0.8}
        for pair in document["paired_by_trace"]["slow"]:
            if (pair["a"], pair["b"], pair["metric"]) == ("static", "queueing", "gpu_hours"):
                pair["relative"] = {"mean": -0.2, "ci95": [-0.25, -0.15]}

    worse = [f.text for f in findings(edited(lose)) if f.verdict == "worse"]
    assert worse == [
        "As they ran, queueing met the target but cost more than the cheapest on 1 of 2 traces: "
        "slow (against static: +25.0 %).",
        "queueing missed on quick (80 %).",
    ]


def test_traffic_that_was_tuned_on_is_named_first(edited: Callable[[Edit], Reading]) -> None:
    def leak(document: dict[str, Any]) -> None:
        sha256 = next(iter(document["hashes"]["traces"].values()))
        document["hashes"]["tuned_on"] = {"under another name": sha256}

    reading = edited(leak)
    leaked = next(iter(reading.summary.hashes["traces"]))
    assert findings(reading)[0].verdict == "worse"
    assert findings(reading)[0].text.startswith(f"Not a fair test on {leaked}:")


def test_bounds_never_win(edited: Callable[[Edit], Reading]) -> None:
    reading = edited(lambda _: None)
    assert "oracle" not in dict(reading.ranking())
    assert reading.focus in ("static", "queueing")
    assert {reading.winner(trace) for trace in ("slow", "quick")} <= {"static", "queueing", None}


def test_policies_differ_without_colour() -> None:
    roles: dict[str, Any] = {
        "ppo": ("ppo", "learned"),
        "hpa": ("hpa", "default"),
        "hpa-tuned": ("hpa", "tuned"),
        "keda-tuned": ("keda", "tuned"),
        "dynamo": ("dynamo", "default"),
        "wva": ("wva", "default"),
        "oracle": ("oracle", "bound"),
        "clairvoyant": ("clairvoyant", "bound"),
    }
    marks = {(look.marker, look.filled) for look in looks(roles).values()}
    assert len(marks) == len(roles)


def test_words() -> None:
    assert (percent(0.99), percent(0.9999), percent(0.9)) == ("99 %", "99.99 %", "90 %")
    assert listing(["a", "b", "c"]) == "a, b and c"
