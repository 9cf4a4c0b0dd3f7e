"""A fingerprint of the code that decides a result, so that no result outlives its code.

Of one module and all it imports from this project, wherever in a module the import stands.
Comments, docstrings and layout do not count.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path

PACKAGES = ("gpupilot_envs", "gpupilot_agent")


@cache
def fingerprint(module: str) -> str:
    """Return the SHA-256 of a module of this project and of everything it stands on."""
    return closure_sha256(module, {name: Path(str(resources.files(name))) for name in PACKAGES})


def closure_sha256(module: str, packages: Mapping[str, Path]) -> str:
    """Return the SHA-256 of a module and what it imports, directly or not, from ``packages``.

    Args:
        module: Dotted name.
        packages: Folder of each top-level package that counts.
    """
    found: dict[str, str] = {}
    left = [module]
    while left:
        name = left.pop()
        source = _source(name, packages)
        if source is None or name in found:
            continue
        tree = ast.parse(source.read_bytes())
        # importing a module runs the packages round it too
        left += [name.rpartition(".")[0], *_imports(tree)]
        found[name] = hashlib.sha256(ast.dump(_Undocumented().visit(tree)).encode()).hexdigest()
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()


def _source(module: str, packages: Mapping[str, Path]) -> Path | None:
    top, *rest = module.split(".")
    if top not in packages:
        return None
    here = packages[top].joinpath(*rest)
    candidates = (here.with_name(f"{here.name}.py"), here / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def _imports(tree: ast.Module) -> Iterator[str]:
    """Yield every imported name that may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


class _Undocumented(ast.NodeTransformer):
    """Drops strings that stand alone: docstrings, of attributes too."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if text else node
