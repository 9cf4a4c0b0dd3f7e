"""Print what an extra of a project needs, a requirement a line, to install it without the project.

Usage: ``python needs.py PYPROJECT EXTRA``. A layer made so changes with the requirements alone.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def needs(project: Mapping[str, Any], extra: str) -> Iterator[str]:
    """Yield what an extra needs; one that names another extra of the project needs its needs."""
    for line in project["optional-dependencies"][extra]:
        other = re.fullmatch(rf"{project['name']}\[(\w+)\]", line)
        if other is None:
            yield line
        else:
            yield from needs(project, other[1])


if __name__ == "__main__":
    read = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["project"]
    sys.stdout.write("\n".join([*read["dependencies"], *needs(read, sys.argv[2])]) + "\n")
