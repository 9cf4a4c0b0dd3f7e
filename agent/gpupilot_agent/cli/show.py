"""Results on standard output: JSON for machines, a small table for people."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence


def as_json(document: object) -> None:
    """Write one JSON document; NaN and infinities become ``null`` because JSON has none."""
    json.dump(_finite(document), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table: the first column names, the others hold numbers."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    grid = Table()
    for index, name in enumerate(columns):
        first = index == 0
        grid.add_column(name, justify="left" if first else "right", no_wrap=first, overflow="fold")
    for row in rows:
        grid.add_row(*row)
    console.print(title, highlight=False, markup=False, soft_wrap=True)
    console.print(grid)


def line(text: str) -> None:
    """Write one line of plain text."""
    sys.stdout.write(f"{text}\n")


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
