"""The fingerprint changes with the code that decides a result, and with nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gpupilot_agent.comparison.fingerprint import closure_sha256, fingerprint

Change = Callable[[Path], object]


def package(folder: Path) -> dict[str, Path]:
    """Write a package of which ``start`` needs ``near``, that needs ``deep.far``."""
    (folder / "deep").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "deep" / "__init__.py").write_text("")
    (folder / "start.py").write_text("import numpy\n\nfrom pack import near\n")
    (folder / "near.py").write_text(
        "def f():\n    from pack.deep.far import LIMIT\n    return LIMIT\n"
    )
    (folder / "deep" / "far.py").write_text('"""Far."""\n\nLIMIT = 1\n')
    (folder / "apart.py").write_text("X = 1\n")
    return {"pack": folder}


def rewritten(name: str, text: str) -> Change:
    return lambda folder: (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        (rewritten("deep/far.py", '"""Far."""\n\nLIMIT = 2\n'), True),
        (rewritten("deep/__init__.py", "import pack.apart\n"), True),
        (rewritten("deep/far.py", '"""Farther away."""\n\n\n# why\nLIMIT   =   1\n'), False),
        (rewritten("apart.py", "X = 2\n"), False),
        (rewritten("new.py", "X = 2\n"), False),
    ],
)
def test_only_code_that_is_stood_on_counts(tmp_path: Path, change: Change, differs: bool) -> None:
    packages = package(tmp_path / "pack")
    before = closure_sha256("pack.start", packages)
    change(tmp_path / "pack")
    assert (closure_sha256("pack.start", packages) != before) == differs


def test_results_of_a_comparison_stand_on_world_and_policies() -> None:
    whole = fingerprint("gpupilot_agent.comparison.tasks")
    parts = {
        fingerprint(f"gpupilot_{name}")
        for name in ("envs.serving.replica", "envs.decision", "agent.learned")
    }
    assert len(parts | {whole}) == 4
