"""Predicted against measured as a table, a page, a document and a picture."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from gpupilot_agent.report.canvas import Picture, render, sheet, style
from gpupilot_agent.report.look import INK, LATE, MUTED
from gpupilot_envs.atomic import write_bytes, write_text
from gpupilot_envs.fidelity.comparison import LIMITS, Cell, RunFidelity
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.serving.speed import contention

FORMAT = "gpupilot/fidelity-v1"
COLUMNS = ("number", "measured", "95 % of it", "predicted", "error", "limit", "verdict")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """How a number is written.

    Attributes:
        words: Its name for people.
        scale: Factor from the stored unit.
        digits: Behind the point.
        suffix: Unit.
    """

    words: str
    scale: float = 1.0
    digits: int = 2
    suffix: str = ""

    def plain(self, value: float) -> str:
        """Return a value without its unit."""
        return f"{self.scale * value:.{self.digits}f}"

    def text(self, value: float) -> str:
        """Return a value with its unit."""
        return f"{self.plain(value)}{self.suffix}"


def _milliseconds(words: str) -> Unit:
    return Unit(words=words, scale=1000.0, digits=1, suffix=" ms")


UNITS: Mapping[str, Unit] = {
    "throughput_rps": Unit(words="throughput", digits=1, suffix="/s"),
    "latency_mean_s": _milliseconds("mean"),
    "latency_p50_s": _milliseconds("p50"),
    "latency_p95_s": _milliseconds("p95"),
    "latency_p99_s": _milliseconds("p99"),
    "attainment_ratio": Unit(words="in time", scale=100.0, suffix=" %"),
    "batch_mean": Unit(words="mean batch"),
    "growth_ratio": Unit(words="growth", scale=1000.0, digits=1, suffix=" ms/s"),
}
PANELS = (
    ("latency_p50_s", "latency_p95_s", "latency_p99_s"),
    ("throughput_rps",),
    ("batch_mean",),
    ("attainment_ratio",),
)
"""Numbers drawn together."""


def title(run: RunFidelity) -> str:
    """Return how a run is called in tables."""
    return f"{run.card.flavour}/{run.card.name}"


def heading(run: RunFidelity) -> str:
    """Return what a run was, in one line."""
    card = run.card
    batching = (
        f"batches up to {card.batching.max_batch}" if card.batching.enabled else "no batching"
    )
    return (
        f"{title(run)}: load {run.load_ratio:.2f}, {card.replicas} x {card.instances} instances, "
        f"{batching}, {run.requests} requests"
    )


def rows(run: RunFidelity) -> list[tuple[str, ...]]:
    """Return one row for each number of a run."""
    return [_row(cell) for cell in run.cells]


def verdict(runs: Sequence[RunFidelity]) -> str:
    """Return in one sentence how many numbers were within their limits."""
    judged = [cell for run in runs for cell in run.cells if cell.limit is not None]
    kept = sum(cell.passed for cell in judged)
    whole = sum(run.passed for run in runs)
    return (
        f"{kept} of {len(judged)} numbers within their limits, "
        f"{whole} of {len(runs)} runs in all of theirs"
    )


def document(runs: Sequence[RunFidelity], profiles: Mapping[str, str]) -> dict[str, Any]:
    """Return everything as JSON holds it, in the units the names state.

    Args:
        runs: What was compared.
        profiles: Profile each run was predicted from, by the run's title.
    """
    return {
        "format": FORMAT,
        "passed": all(run.passed for run in runs),
        "verdict": verdict(runs),
        "runs": [
            {
                "run": title(run),
                "profile": profiles[title(run)],
                "load_ratio": run.load_ratio,
                "requests": run.requests,
                "passed": run.passed,
                "numbers": {cell.name: _cell(cell) for cell in run.cells},
            }
            for run in runs
        ],
    }


def markdown(runs: Sequence[RunFidelity]) -> str:
    """Return the page: a table of errors, one row for each run, and the numbers behind it."""
    names = list(LIMITS)
    head = ["run", "load", *(UNITS[name].words for name in names)]
    flavours = sorted({run.card.flavour for run in runs})
    lines = [
        f"- {flavour}: {verdict([run for run in runs if run.card.flavour == flavour])}"
        for flavour in flavours
    ]
    lines += ["", _line(head), _line(["---"] * len(head))]
    lines.append(_line(["limit", "", *(_limit(name) for name in names)]))
    for run in runs:
        cells = {cell.name: cell for cell in run.cells}
        errors = [_error_text(cells[name]) if name in cells else "" for name in names]
        lines.append(_line([title(run), f"{run.load_ratio:.2f}", *errors]))
    for run in runs:
        table = [_line(COLUMNS), _line(["---"] * len(COLUMNS)), *map(_line, rows(run))]
        lines += ["", f"**{heading(run)}**", "", *table]
    return "\n".join(lines) + "\n"


def recovered(played: ServiceProfile, found: ServiceProfile) -> str:
    """Return the table of what an emulated GPU played and what calibration found of it.

    Args:
        played: What the model slept by.
        found: What calibration made of the recordings; it holds the server's own work too.
    """
    true_ms, found_ms = (1000.0 * profile.batch_latency_s() for profile in (played, found))
    pairs = [
        (f"batch of {size}, ms", true_ms[size], found_ms[size]) for size in range(1, len(true_ms))
    ]
    pairs.append(("noise", played.noise_cv, found.noise_cv))
    slower = (contention(profile)[2] for profile in (played, found))
    pairs.append(("slowdown of two at once", *slower))
    lines = [_line(("parameter", "played", "found", "difference")), _line(["---"] * 4)]
    lines += [_line((name, f"{a:.3g}", f"{b:.4g}", f"{b - a:+.3f}")) for name, a, b in pairs]
    return "\n".join(lines) + "\n"


def picture(runs: Sequence[RunFidelity]) -> Picture:
    """Return predicted over measured, a panel for each kind of number, limits as lines."""
    with style():
        figure, axes = sheet(2.9, ncols=len(PANELS))
        for place, names in zip(axes, PANELS, strict=True):
            _panel(place, runs, names)
        return render(figure, "fidelity", ())


def write(folder: Path, runs: Sequence[RunFidelity], profiles: Mapping[str, str]) -> None:
    """Write ``fidelity.json``, ``fidelity.md`` and ``fidelity.png``.

    Raises:
        OutputRefused: A file cannot be written.
    """
    text = json.dumps(document(runs, profiles), indent=2) + "\n"
    write_text(folder / "fidelity.json", text)
    write_text(folder / "fidelity.md", markdown(runs))
    write_bytes(folder / "fidelity.png", picture(runs).png)


def _row(cell: Cell) -> tuple[str, ...]:
    unit = UNITS[cell.name]
    interval = ""
    if cell.low is not None and cell.high is not None:
        interval = f"{unit.plain(cell.low)} to {unit.plain(cell.high)}"
    return (
        unit.words,
        unit.text(cell.measured),
        interval,
        unit.text(cell.predicted),
        _error_text(cell, mark=False),
        _limit(cell.name) if cell.limit is not None else "",
        "" if cell.limit is None else "kept" if cell.passed else "MISSED",
    )


def _error_text(cell: Cell, *, mark: bool = True) -> str:
    points = " pp" if LIMITS[cell.name].absolute else " %"
    text = f"{100.0 * cell.error:+.1f}{points}"
    if not mark:
        return text
    return f"({text})" if cell.limit is None else text if cell.passed else f"**{text}**"


def _limit(name: str) -> str:
    limit = LIMITS[name]
    return f"{100.0 * limit.most:g}{' pp' if limit.absolute else ' %'}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> dict[str, Any]:
    names = ("measured", "low", "high", "predicted", "spread", "error", "limit", "passed")
    return {name: getattr(cell, name) for name in names}


def _panel(axes: Axes, runs: Sequence[RunFidelity], names: Sequence[str]) -> None:
    """Draw some numbers of all runs where they are judged: a cross where one misses its limit."""
    shown = [
        cell for run in runs for cell in run.cells if cell.name in names and cell.limit is not None
    ]
    unit = UNITS[names[0]]
    for passed, marker, colour in ((True, "o", MUTED), (False, "x", LATE)):
        kept = [cell for cell in shown if cell.passed is passed]
        was = [unit.scale * cell.measured for cell in kept]
        said = [unit.scale * cell.predicted for cell in kept]
        axes.plot(was, said, linestyle="none", marker=marker, markersize=4.5, color=colour)
    ends = [unit.scale * value for cell in shown for value in (cell.measured, cell.predicted)]
    if ends:
        axes.plot([min(ends), max(ends)], [min(ends), max(ends)], color=INK, linewidth=0.8)
    if unit.suffix == " ms":
        axes.set_xscale("log")
        axes.set_yscale("log")
    words = ", ".join(UNITS[name].words for name in names)
    axes.set_title(", ".join(filter(None, (words, unit.suffix.strip()))), color=INK)
    axes.set_xlabel("measured")
    axes.set_ylabel("predicted")
