"""The ONNX model answers as the arrays do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from gpupilot_agent.bundle import Bundle
from gpupilot_agent.onnx_export import export
from gpupilot_envs.actions import SIZES
from gpupilot_envs.observation import FIELDS, HIGH, LOW


def _masks(n: int) -> np.ndarray:
    """Return masks that forbid a third of the choices and never the first of an axis."""
    masks = np.random.default_rng(n).random((n, sum(SIZES))) > 1 / 3
    masks[:, np.cumsum((0, *SIZES[:-1]))] = True
    return masks


@pytest.mark.parametrize("networks", [1, 3])
def test_onnxruntime_gives_the_same_logits_and_actions(
    make_bundle: Callable[[int], Bundle], tmp_path: Path, networks: int
) -> None:
    first, *others = [make_bundle(seed) for seed in range(networks)]
    bundle = replace(first, networks=(*first.networks, *(b.networks[0] for b in others)))
    path = tmp_path / "policy.onnx"
    export(bundle, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for n in (1, 500):
        seen = np.random.default_rng(n).uniform(LOW, HIGH, (n, len(FIELDS))).astype(np.float32)
        masks = _masks(n)
        logits, action = session.run(["logits", "action"], {"observation": seen, "mask": masks})
        assert logits == pytest.approx(bundle.logits(seen), rel=1e-5, abs=1e-5)
        assert (action == bundle.act(seen, masks)).all()


def test_the_model_says_what_it_is(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "policy.onnx"
    export(bundle, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    told = session.get_modelmeta().custom_metadata_map
    assert told["sha256"] == bundle.sha256
    assert told["schema"] == bundle.schema
    assert json.loads(told["actions"]) == bundle.actions
    assert len(json.loads(told["fields"])) == len(FIELDS)


def test_without_the_package_a_sentence_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['onnx'] = None\n"
        "from gpupilot_agent.onnx_export import model_of\nmodel_of(None)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'gpupilot[onnx]'" in done.stderr
