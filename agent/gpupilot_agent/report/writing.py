"""From a result folder to ``report.html`` and its pictures."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure

from gpupilot_agent.report import page, tables
from gpupilot_agent.report.canvas import Picture, render, style
from gpupilot_agent.report.figure_cost import cost_figure, trace_figure
from gpupilot_agent.report.figure_frontier import frontier_figure
from gpupilot_agent.report.figure_trace import panel_figure
from gpupilot_agent.report.findings import findings, headline
from gpupilot_agent.report.look import Look, css, looks
from gpupilot_agent.report.reading import Reading
from gpupilot_agent.report.series import read_strips
from gpupilot_agent.report.templates import page_style, template
from gpupilot_agent.results import read_summary
from gpupilot_envs.atomic import write_bytes, write_text

REPORT = "report.html"


def write_report(result_dir: Path) -> Path:
    """Write ``report.html`` and the pictures of a comparison; return the path of the report.

    The page needs no network and no file beside it. Pictures: ``overview.png``,
    ``frontier.png``, ``traces.png`` and one ``trace-NAME.png`` per trace.

    Args:
        result_dir: Folder that :func:`gpupilot_agent.comparison.compare` wrote.

    Raises:
        InputInvalid: The folder holds no readable ``summary.json``.
        OutputRefused: A file cannot be written.
    """
    reading = Reading(summary=read_summary(result_dir / "summary.json"))
    drawn = looks(reading.roles)
    with style():
        shared = _shared(reading, drawn)
        panels = _panels(reading, drawn, result_dir)
    for picture in (*shared.values(), *panels.values()):
        write_bytes(result_dir / f"{picture.name}.png", picture.png)
    write_text(result_dir / REPORT, _html(reading, drawn, shared, panels))
    return result_dir / REPORT


def write_compact(result_dir: Path, target: Path) -> None:
    """Write the report without the pictures of single traces: small enough to pass on.

    Args:
        result_dir: Folder that :func:`gpupilot_agent.comparison.compare` wrote.
        target: The page to write.

    Raises:
        InputInvalid: The folder holds no readable ``summary.json``.
        OutputRefused: The file cannot be written.
    """
    reading = Reading(summary=read_summary(result_dir / "summary.json"))
    drawn = looks(reading.roles)
    with style():
        shared = _shared(reading, drawn)
    write_text(target, _html(reading, drawn, shared, {}))


def _shared(reading: Reading, drawn: dict[str, Look]) -> dict[str, Picture]:
    figures: dict[str, tuple[str, Figure]] = {
        "cost": ("overview", cost_figure(reading, drawn)),
        "frontier": ("frontier", frontier_figure(reading, drawn)),
        "traces": ("traces", trace_figure(reading, drawn)),
    }
    return {
        place: render(figure, name, drawn.values()) for place, (name, figure) in figures.items()
    }


def _panels(reading: Reading, drawn: dict[str, Look], result_dir: Path) -> dict[str, Picture]:
    pictures = {}
    for trace, described in reading.summary.config["traces"].items():
        strips = {
            name: read_strips(
                result_dir / "series" / f"{name}.parquet",
                trace,
                reading.summary.config["seeds"][0],
                described["windows"],
            )
            for name in reading.roles
        }
        figure = panel_figure(reading, drawn, trace, strips)
        pictures[trace] = render(figure, f"trace-{trace}", drawn.values())
    return pictures


def _html(
    reading: Reading,
    drawn: dict[str, Look],
    shared: dict[str, Picture],
    panels: dict[str, Picture],
) -> str:
    light, dark = css(drawn.values())
    return template("comparison.html").render(
        headline=headline(reading),
        style=page_style(),
        light=Markup(light),
        dark=Markup(dark),
        service=reading.summary.config["profile"]["name"],
        facts=page.facts(reading),
        findings=findings(reading),
        focus=reading.focus,
        learned=bool(reading.summary.rows),
        pictures={place: Markup(picture.svg) for place, picture in shared.items()},
        traces=[
            {
                "name": trace,
                "note": page.trace_note(reading, trace),
                "picture": Markup(picture.svg),
            }
            for trace, picture in panels.items()
        ],
        tables={
            "overall": Markup(tables.overall(reading)),
            "levels": Markup(tables.levels(reading)),
            "traces": Markup(tables.by_trace(reading)),
            "references": Markup(tables.references(reading)),
            "references_by_family": Markup(tables.references_by_family(reading)),
            "families": Markup(tables.families(reading)),
            "trainings": Markup(tables.trainings(reading)),
            "settings": Markup(tables.settings(reading)),
            "hashes": Markup(tables.hashes(reading)),
        },
        method=page.method(reading),
        limits=page.limits(reading),
        command=page.command(reading),
    )
