"""From the folder of a training to ``learning.html``: curves, the policy's map, card and hashes."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from gpupilot_agent.report import learning_words as words
from gpupilot_agent.report.canvas import inline, style
from gpupilot_agent.report.figure_learning import LOOKS, curves_figure, moves_figure, trade_figure
from gpupilot_agent.report.figure_map import map_figure
from gpupilot_agent.report.learning_map import PolicyMap, policy_map
from gpupilot_agent.report.learning_reading import Learning, read_learning
from gpupilot_agent.report.look import css
from gpupilot_agent.report.templates import page_style, template
from gpupilot_envs.atomic import write_text

REPORT = "learning.html"


def write_learning_report(folder: Path) -> Path:
    """Write ``learning.html`` into the folder of a training and return its path.

    The page needs no network and no file beside it.

    Args:
        folder: What ``gpupilot train`` wrote, with one seed or with several.

    Raises:
        InputInvalid: The folder holds no finished training.
        BundleRefused: A policy is damaged or of another version.
        OutputRefused: The page cannot be written.
    """
    learning = read_learning(folder)
    found = policy_map(learning.best.bundle, learning.best.sample)
    write_text(folder / REPORT, _html(learning, found, _pictures(learning, found)))
    return folder / REPORT


def _pictures(learning: Learning, found: PolicyMap) -> dict[str, Markup]:
    with style():
        figures = {
            "curves": curves_figure(learning),
            "trade": trade_figure(learning),
            "moves": moves_figure(learning),
            "map": map_figure(found),
        }
        return {
            name: Markup(inline(figure, name, LOOKS.values())) for name, figure in figures.items()
        }


def _html(learning: Learning, found: PolicyMap, pictures: dict[str, Markup]) -> str:
    light, dark = css(LOOKS.values())
    return template("learning.html").render(
        headline=words.headline(learning),
        style=page_style(),
        light=Markup(light),
        dark=Markup(dark),
        facts=words.facts(learning),
        findings=words.findings(learning, found),
        pictures=pictures,
        several=len(learning.seeds) > 1,
        seed=learning.best.seed,
        tables={
            "seeds": Markup(words.seeds_table(learning)),
            "slices": Markup(words.slices_table(learning.best)),
            "regrets": Markup(words.regrets_table(learning.best)),
            "card": Markup(words.card_table(learning.best)),
            "config": Markup(words.config_table(learning)),
            "hashes": Markup(words.hashes_table(learning)),
        },
        limits=words.limits(learning),
    )
