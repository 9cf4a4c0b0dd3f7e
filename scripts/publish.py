"""Put a comparison's numbers where they are published: tables, picture, report.

Usage: ``python scripts/publish.py FOLDER``, a folder that ``benchmarks/compare_real.py`` wrote.

Tables between ``<!-- NAME -->`` and ``<!-- /NAME -->`` in README.md and docs/learning.md are
written anew, docs/reports/comparison.html and docs/images/frontier.png too. The words round them
are people's work: what they must agree with is printed. The shipped policy's card is renewed by
``scripts/generalist.py --summary FOLDER/summary.json --policy NAME``.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from gpupilot_agent.report.findings import findings, headline
from gpupilot_agent.report.reading import Reading
from gpupilot_agent.report.writing import write_compact
from gpupilot_agent.results import Metric, Row, Summary, read_summary
from gpupilot_envs.atomic import write_bytes, write_text

ROOT = Path(__file__).resolve().parent.parent
README, LEARNING = ROOT / "README.md", ROOT / "docs" / "learning.md"
REPORT = ROOT / "docs" / "reports" / "comparison.html"
PICTURE = ROOT / "docs" / "images" / "frontier.png"

NONE = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"

GOALS = {
    "default": ("HPA with defaults, where it ran", f"{MINUS}20 %"),
    "tuned_rule": ("the best tuned of HPA, KEDA, KPA", f"{MINUS}8 %"),
    "tuned_queueing": ("the tuned queueing controller, 15 or 5 s", f"{MINUS}5 %"),
    "tuned_predictive": ("the tuned predictive controller, 15 or 5 s", f"{MINUS}5 %"),
    "clairvoyant": ("the smoothed clairvoyant", "at most +2 %"),
    "oracle": ("the oracle", NONE),
    "perfect": ("perfect information, proven", NONE),
}
"""References in the order of the table, and what was asked for."""

BY_FAMILY = ("tuned_rule", "tuned_queueing", "tuned_predictive", "clairvoyant")


def main() -> None:
    """Write everything and print what the words must agree with."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    summary = read_summary(folder / "summary.json")
    reading = Reading(summary=summary)
    fill(README, {"policies": policies(reading), "references": references(summary)})
    fill(LEARNING, {"families": families(reading), "trainings": trainings(summary)})
    write_compact(folder, REPORT)
    write_bytes(PICTURE, (folder / "frontier.png").read_bytes())
    lines = [headline(reading), *(finding.text for finding in findings(reading))]
    sys.stdout.write("\n".join(lines) + "\n")


def fill(path: Path, tables: dict[str, str]) -> None:
    """Write each table between its marks.

    Raises:
        SystemExit: A mark is missing.
    """
    text = path.read_text(encoding="utf-8")
    for name, table in tables.items():
        marks = re.compile(f"<!-- {name} -->.*?<!-- /{name} -->", re.DOTALL)
        if not marks.search(text):
            sys.exit(f"{path}: no <!-- {name} --> ... <!-- /{name} -->")
        block = f"<!-- {name} -->\n{table}\n<!-- /{name} -->"
        text = marks.sub(block.replace("\\", r"\\"), text)
    write_text(path, text)


def policies(reading: Reading) -> str:
    """Return every policy's attainment and cost; the cheapest at the objective first."""
    summary = reading.summary
    levels = sorted(summary.at_attainment, key=float)
    goal = f"{reading.target:g}"

    def place(name: str) -> tuple[bool, bool, float]:
        cost = summary.at_attainment[goal][name]
        bound = name not in reading.contestants
        return bound, cost is None, cost or summary.policies[name].gpu_hours.mean or 0.0

    rows = []
    for name in sorted(summary.policies, key=place):
        score = summary.policies[name]
        learned = name in reading.learned
        cells = [
            f"**{name}, one policy, untuned**" if learned else name,
            percent(score.attainment_ratio),
            number(score.gpu_hours.mean),
            *(number(summary.at_attainment[level][name]) for level in levels),
            number(score.scale_events_per_hour.mean, 0),
        ]
        rows.append(cells)
    if summary.perfect:
        least = [number(summary.perfect[level].mean) for level in levels]
        rows.append(["*perfect information, proven bound*", "", "", *least, ""])
    head = ["policy", "in time", "GPU-h as it ran", *(at(level) for level in levels), "changes/h"]
    return markdown(head, rows)


def references(summary: Summary) -> str:
    """Return the learned policy against each reference, level by level."""
    levels = sorted(summary.at_attainment, key=float)
    head = ["the learned policy against", "asked", *(at(level) for level in levels)]
    rows = []
    for kind, (title, goal) in GOALS.items():
        found = [row for row in summary.rows if row.kind == kind]
        if kind == "default":
            rows += [
                [f"{title}: {percent_of(row.attainment)}", goal, change(row.relative), *[""] * 9]
                for row in found
            ]
        elif found:
            cells = {f"{row.attainment:g}": named(row) for row in found}
            rows.append([title, goal, *(cells.get(level, NONE) for level in levels)])
    for row in summary.rows:
        if row.kind == "bursts" and row.relative.mean is not None:
            title = f"late requests under steps, at most +5 % cost, {row.against}"
            rows.append([title, f"{MINUS}70 %", change(row.relative), *[""] * 9])
    return markdown(head, [cells[: len(head)] for cells in rows])


def named(row: Row) -> str:
    """Return a difference, with the rival where several stand behind one title."""
    said = change(row.relative)
    chosen = row.kind.startswith("tuned") and said != NONE
    return f"{said} {row.against.removesuffix('-tuned')}" if chosen else said


def families(reading: Reading) -> str:
    """Return each family at the objective: attainment, and the cost against each reference."""
    summary = reading.summary
    by_kind = {
        row.kind: row
        for row in summary.rows
        if row.attainment is not None and abs(row.attainment - reading.target) < 1e-9
    }
    kinds = [kind for kind in BY_FAMILY if kind in by_kind]
    rows = []
    for family, scores in summary.families.items():
        hours = reading.windows(family)
        told = f"{family} ({len(hours)} x {sum(hours) / len(hours):.2g} h)"
        cells = [change(by_kind[kind].families[family], loud=True) for kind in kinds]
        rows.append([told, percent(scores[reading.focus].attainment_ratio), *cells])
    head = ["family", "in time, as it ran", *(by_kind[kind].against for kind in kinds)]
    return markdown(head, rows)


def trainings(summary: Summary) -> str:
    """Return what each training did by itself."""
    levels = sorted(summary.at_attainment, key=float)
    rows = [
        [
            str(row.seeds.get("training", "")),
            percent(row.attainment_ratio),
            number(row.gpu_hours.mean),
            *(number(row.at_attainment[level].mean) for level in levels),
        ]
        for row in summary.trainings
    ]
    return markdown(["training", "in time, as it ran", "GPU-h", *map(at, levels)], rows)


def change(metric: Metric, *, loud: bool = False) -> str:
    """Return a relative difference with its interval; where asked, bold where it is surely more."""
    if metric.mean is None:
        return NONE
    low, high = metric.ci95
    value = f"{signed(metric.mean, 1)} %"
    if low is None or high is None:
        return value
    value = f"**{value}**" if loud and low > 0.0 else value
    return f"{value} ({signed(low)} to {signed(high)})"


def signed(share: float, digits: int = 0) -> str:
    """Return percent with a sign that is as wide as a plus."""
    text = f"{100.0 * share:+.{digits}f}"
    return text.lstrip("+-") if float(text) == 0.0 else text.replace("-", MINUS)


def percent(metric: Metric) -> str:
    """Return an attainment."""
    return percent_of(metric.mean)


def percent_of(share: float | None) -> str:
    """Return a share in percent."""
    return NONE if share is None else f"{100.0 * share:.2f} %"


def number(value: float | None, digits: int = 2) -> str:
    """Return a number, or a dash where there is none."""
    return NONE if value is None else f"{value:.{digits}f}"


def at(level: str) -> str:
    """Return the head of a column of costs."""
    return f"at {100.0 * float(level):.4g} %"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = (f"| {' | '.join(cells)} |" for cells in (head, *rows))
    first, *others = lines
    return "\n".join([first, f"|{'---|' * len(head)}", *others])


if __name__ == "__main__":
    main()
