"""How policies look: one colour and one marker per policy, told apart without colour too.

Figures are drawn once. In the page every colour is a CSS variable, so that the same picture
serves light, dark and print; in a PNG it is the light value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from gpupilot_agent.generalist import NAME as GENERALIST

Role = Literal["learned", "tuned", "default", "bound"]

PAPER = "#fffffe"
INK = "#1b1f24"
MUTED = "#667080"
HAIRLINE = "#d5dae1"
DEMAND = "#dfe4ea"
LATE = "#c62f2a"

_DARK = {
    PAPER: "#14171c",
    INK: "#e7eaee",
    MUTED: "#98a2b0",
    HAIRLINE: "#333a44",
    DEMAND: "#2b323b",
    LATE: "#ff6b5e",
}

_LEARNED = ("#b4007a", "#ff6ac8")
_BOUND = ("#5d6774", "#a7b1be")
_FAMILIES = {
    "static": ("#8a6d1f", "#d9b64a"),
    "hpa": ("#0b62c4", "#6cb2ff"),
    "keda": ("#00806b", "#36cdb2"),
    "kpa": ("#b4530a", "#ff9d52"),
    "queueing": ("#3f7d20", "#8cd068"),
    "predictive": ("#6a3fc0", "#b79bff"),
}
_SPARE = (
    ("#006d8f", "#4fc4e8"),
    ("#8f2f55", "#f08db0"),
    ("#545f00", "#c2cc4a"),
    ("#7a4a2b", "#d3a17c"),
    ("#2f4f8f", "#93b1f0"),
)
_MARKERS = {"static": "s", "hpa": "o", "keda": "v", "kpa": "^", "queueing": "D", "predictive": "P"}
_SPARE_MARKERS = ("X", "h", "<", ">", "p", "8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How one policy is drawn.

    Attributes:
        colour: Light colour, ``#rrggbb``.
        dark: Dark colour.
        marker: Matplotlib marker, the same for all variants of a family.
        filled: Whether the marker is filled: learned and tuned policies are, defaults are not.
        line: Matplotlib line style: bounds are dashed.
        width: Line width in points: the learned policy stands out.
    """

    colour: str
    dark: str
    marker: str
    filled: bool
    line: str | tuple[float, tuple[float, float]]
    width: float


def looks(roles: dict[str, tuple[str, Role]]) -> dict[str, Look]:
    """Return the look of every policy.

    Args:
        roles: Family and role by the policy's name, in the order of the tables.
    """
    families = list(dict.fromkeys(family for family, role in roles.values() if role != "bound"))
    unknown = [family for family in families if family not in _FAMILIES]
    return {name: _look(family, role, unknown) for name, (family, role) in roles.items()}


def _look(family: str, role: Role, unknown: list[str]) -> Look:
    if role == "learned":
        shipped = family == GENERALIST
        return Look(
            colour=_LEARNED[0],
            dark=_LEARNED[1],
            marker="P" if shipped else "*",
            filled=True,
            line=(0.0, (6.0, 1.5)) if shipped else "-",
            width=2.4,
        )
    if role == "bound":
        line, marker = (":", "|") if family == "oracle" else ("--", "_")
        return Look(
            colour=_BOUND[0], dark=_BOUND[1], marker=marker, filled=False, line=line, width=1.4
        )
    spare = unknown.index(family) if family in unknown else 0
    colour, dark = _FAMILIES.get(family, _SPARE[spare % len(_SPARE)])
    marker = _MARKERS.get(family, _SPARE_MARKERS[spare % len(_SPARE_MARKERS)])
    tuned = role == "tuned"
    return Look(
        colour=colour,
        dark=dark,
        marker=marker,
        filled=tuned,
        line="-" if tuned else (0.0, (4.0, 1.5)),
        width=1.5 if tuned else 1.1,
    )


def css(drawn: Iterable[Look]) -> tuple[str, str]:
    """Return the CSS variables of the page and of all policies, for light and for dark."""
    pairs = dict([*_DARK.items(), _LEARNED]) | {look.colour: look.dark for look in drawn}
    light = "".join(f"{_variable(colour)}:{colour};" for colour in pairs)
    dark = "".join(f"{_variable(colour)}:{shade};" for colour, shade in pairs.items())
    return light, dark


def themed(svg: str, drawn: Iterable[Look]) -> str:
    """Return the picture with every known colour replaced by its CSS variable."""
    known = [*_DARK, *(look.colour for look in drawn)]
    pattern = re.compile("|".join(re.escape(colour) for colour in known), re.IGNORECASE)
    return pattern.sub(lambda match: f"var({_variable(match.group().lower())})", svg)


def _variable(colour: str) -> str:
    return f"--c-{colour[1:]}"
