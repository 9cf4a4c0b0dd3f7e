"""The report of a calibration: every parameter, its error, and what it was read from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup
from matplotlib.axes import Axes

from gpupilot_agent.report.canvas import Picture, render, sheet, style
from gpupilot_agent.report.look import INK, LATE, MUTED, css
from gpupilot_agent.report.templates import page_style, template
from gpupilot_envs.atomic import write_bytes, write_text
from gpupilot_envs.calibration.findings import Finding, Points
from gpupilot_envs.calibration.fitting import Calibration, as_document

FORMAT = "gpupilot/fit-v1"


def write_fit_report(base: Path, found: Calibration) -> None:
    """Write ``base`` with the endings ``.json``, ``.html`` and ``.png``.

    Raises:
        OutputRefused: A file cannot be written.
    """
    document = {"format": FORMAT, "findings": as_document(found.findings)}
    write_text(base.with_name(f"{base.name}.json"), json.dumps(document, indent=2) + "\n")
    picture = _picture(found.findings)
    if picture is not None:
        write_bytes(base.with_name(f"{base.name}.png"), picture.png)
    page = _page(found, picture)
    write_text(base.with_name(f"{base.name}.html"), page)


def _page(found: Calibration, picture: Picture | None) -> str:
    light, dark = css(())
    return template("fit.html").render(
        headline=_headline(found),
        name="no profile" if found.profile is None else found.profile.name,
        style=page_style(),
        light=Markup(light),
        dark=Markup(dark),
        facts=(),
        rows=[_row(finding) for finding in found.findings],
        picture=None if picture is None else Markup(picture.svg),
    )


def _headline(found: Calibration) -> str:
    if found.profile is None:
        return "The time of a batch cannot be told, so there is no profile."
    known, all_ = sum(finding.known for finding in found.findings), len(found.findings)
    rest = "" if known == all_ else "; the rest is as in the base profile"
    return f"{known} of {all_} parameters were found{rest}."


def _row(finding: Finding) -> tuple[str, ...]:
    values = ", ".join(f"{key} {_text(value)}".strip() for key, value in finding.values.items())
    error = "" if finding.error_ratio is None else f"±{100 * finding.error_ratio:.1f} %"
    said = finding.refusal or "; ".join((finding.source, *finding.remarks))
    return finding.parameter, values or "as in base", error, said


def _text(value: object) -> str:
    """Return a number, or a curve as one ``x: y`` after another."""
    if isinstance(value, Sequence):
        return ", ".join(f"{x:g}: {y:.4g}" for x, y in value)
    return str(value)


def _picture(findings: Sequence[Finding]) -> Picture | None:
    drawn = [(f.parameter, f.points) for f in findings if f.points is not None]
    if not drawn:
        return None
    with style():
        figure, axes = sheet(3.0, ncols=len(drawn), squeeze=False)
        for place, (parameter, points) in zip(axes[0], drawn, strict=True):
            _draw(place, parameter, points)
        return render(figure, "fit", ())


def _draw(axes: Axes, parameter: str, points: Points) -> None:
    axes.plot(points.x, points.y, linestyle="none", marker="o", markersize=3.0, color=MUTED)
    axes.plot(points.fitted_x, points.fitted_y, color=LATE, linewidth=1.4)
    axes.set_title(parameter, color=INK)
    axes.set_xlabel(points.x_name)
    axes.set_ylabel(points.y_name)
    axes.set_ylim(bottom=min(0.0, float(points.y.min())))
