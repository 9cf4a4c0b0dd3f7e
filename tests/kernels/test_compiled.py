"""An edit to a kernel is never ignored, wherever it is called from."""

import subprocess
import sys
from pathlib import Path

INNER = (
    "from gpupilot_envs.compiled import compiled\n\n@compiled\ndef inner(x):\n    return x + {}\n"
)
OUTER = (
    "from gpupilot_envs.compiled import compiled\nfrom sample.inner import inner\n\n"
    "@compiled\ndef outer(x):\n    return inner(x)\n"
)


def _answer(root: Path) -> int:
    code = "from sample.outer import outer; print(outer(1))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=root, check=True, capture_output=True, text=True
    )
    return int(run.stdout)


def test_an_edit_in_a_called_module_reaches_its_cached_caller(tmp_path: Path) -> None:
    package = tmp_path / "sample"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "outer.py").write_text(OUTER)
    (package / "inner.py").write_text(INNER.format(1))
    assert _answer(tmp_path) == 2

    (package / "inner.py").write_text(INNER.format(10))

    assert _answer(tmp_path) == 11


def test_machine_code_is_kept_between_runs_and_not_beyond_an_edit(tmp_path: Path) -> None:
    package = tmp_path / "sample"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "outer.py").write_text(OUTER)
    (package / "inner.py").write_text(INNER.format(1))
    _answer(tmp_path)
    kept = set(package.rglob("*.nbc"))
    _answer(tmp_path)
    assert kept
    assert set(package.rglob("*.nbc")) == kept

    (package / "inner.py").write_text(INNER.format(2))
    _answer(tmp_path)

    assert not kept & set(package.rglob("*.nbc"))
