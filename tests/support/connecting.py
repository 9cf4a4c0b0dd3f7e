"""The operator's own connection to a test's API server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gpupilot_operator.kube import Connection


@contextmanager
def connected(kubeconfig: Path, **given: Any) -> Iterator[Connection]:
    """Connect as a kubeconfig says; who connects may write unless it is said otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(kubeconfig))
        connection = Connection(**({"may_write": lambda: True} | given))
    try:
        yield connection
    finally:
        connection.close()
