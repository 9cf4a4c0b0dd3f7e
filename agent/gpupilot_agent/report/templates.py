"""The pages of this package as templates: one skeleton, one style."""

from __future__ import annotations

import jinja2
from markupsafe import Markup

_PAGES = jinja2.PackageLoader("gpupilot_agent", "report")


def template(name: str) -> jinja2.Template:
    """Return a page of this package to be filled in."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, loader=_PAGES
    )
    environment.filters["unbroken"] = _unbroken
    return environment.get_template(name)


def page_style() -> Markup:
    """Return the rules that all pages share; colours are the page's own variables."""
    environment = jinja2.Environment(autoescape=True, loader=_PAGES)
    return Markup(_PAGES.get_source(environment, "page.css")[0])


def _unbroken(text: str) -> str:
    """Return the text with numbers kept on one line with their percent sign."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")
