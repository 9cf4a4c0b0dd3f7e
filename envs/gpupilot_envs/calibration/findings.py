"""What calibration says of one parameter: its value and error, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """What a parameter was read from, for the picture.

    Attributes:
        x_name: What lies along the x axis, with its unit.
        y_name: What lies along the y axis, with its unit.
        x: Shape ``(n,)``.
        y: Shape ``(n,)``.
        fitted_x: Of the fitted curve, ascending, shape ``(m,)``; empty when there is none.
        fitted_y: Shape ``(m,)``.
    """

    x_name: str
    y_name: str
    x: Floats
    y: Floats
    fitted_x: Floats = field(default_factory=lambda: np.empty(0))
    fitted_y: Floats = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One parameter of the profile.

    Attributes:
        parameter: Its path in the profile.
        values: What was found, by field below that path; empty when it cannot be told.
        error_ratio: How far off it may be, relative; what kind of error the source says.
        source: What it was read from.
        refusal: Why it cannot be told; the base profile's value is kept then.
        remarks: What the reader should know about it.
        points: What it was read from.
    """

    parameter: str
    values: Mapping[str, object] = field(default_factory=dict)
    error_ratio: float | None = None
    source: str = ""
    refusal: str | None = None
    remarks: tuple[str, ...] = ()
    points: Points | None = None

    @property
    def known(self) -> bool:
        """Whether a value was found."""
        return self.refusal is None

    def sentence(self) -> str:
        """Return the finding in one sentence."""
        if self.refusal is not None:
            return f"{self.parameter}: as in base; {self.refusal}"
        off = "" if self.error_ratio is None else f", ±{100 * self.error_ratio:.1f} %"
        return f"{self.parameter}: {'; '.join((f'{self.source}{off}', *self.remarks))}"


def refused(parameter: str, why: str, points: Points | None = None) -> Finding:
    """Return the finding that nothing could be found."""
    return Finding(parameter=parameter, refusal=why, points=points)
