"""The network built with numpy and onnx alone is MobileNetV4 conv small, and can be served."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from gpupilot_agent.mobilenet.accuracy import from_file
from gpupilot_agent.mobilenet.architecture import build, inspected
from gpupilot_agent.mobilenet.weights import ensure
from gpupilot_agent.triton import repository
from gpupilot_envs.embedded import DEFAULT, find_profile
from gpupilot_envs.errors import StackFailed

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return build(0)


def test_it_has_the_operators_of_the_exported_network(model: onnx.ModelProto) -> None:
    """As timm's export counts them with normalisation folded in."""
    assert Counter(node.op_type for node in model.graph.node) == {
        "Conv": 46,
        "Relu": 30,
        "Add": 10,
        "GlobalAveragePool": 1,
        "Flatten": 1,
        "Gemm": 1,
    }
    assert sum(int(np.prod(weight.dims)) for weight in model.graph.initializer) == 3_761_480


def test_a_seed_names_the_bytes(model: onnx.ModelProto) -> None:
    same, other = build(0), build(1)
    assert same.SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)
    assert other.SerializeToString(deterministic=True) != model.SerializeToString(
        deterministic=True
    )


def test_pictures_of_a_batch_do_not_mix(tmp_path: Path) -> None:
    path, card = ensure("seeded", tmp_path)
    classify = from_file(path)
    pictures = np.random.default_rng(0).normal(size=(3, 3, 224, 224)).astype(np.float32)
    together = classify(pictures)
    alone = np.concatenate([classify(pictures[index : index + 1]) for index in range(3)])
    assert card.kind == "seeded"
    assert together.shape == (3, 1000)
    assert np.isfinite(together).all()
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-3)
    assert np.abs(together[0] - together[1]).max() > 0.01


def test_it_is_built_once(tmp_path: Path) -> None:
    path, card = ensure("seeded", tmp_path, seed=3)
    made = path.stat().st_mtime_ns
    assert ensure("seeded", tmp_path, seed=3) == (path, card)
    assert path.stat().st_mtime_ns == made
    path.write_bytes(b"damaged")
    assert ensure("seeded", tmp_path, seed=3) == (path, card)


def test_another_network_is_told_apart(tmp_path: Path, model: onnx.ModelProto) -> None:
    shorter = onnx.ModelProto()
    shorter.CopyFrom(model)
    del shorter.graph.node[[node.op_type for node in shorter.graph.node].index("Conv")]
    path = tmp_path / "model.onnx"
    onnx.save(shorter, path)
    with pytest.raises(StackFailed, match="45 convolutions"):
        inspected(path)
    path.write_bytes(b"<html>sign in</html>")
    with pytest.raises(StackFailed, match="no ONNX file"):
        inspected(path)


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_the_repositories_in_the_tree_are_what_the_command_writes(device: str) -> None:
    service = find_profile(DEFAULT)
    write = {"cpu": repository.cpu_config, "gpu": repository.gpu_config}[device]
    text = write(service.batching, instances=service.instances_per_replica).text()
    tracked = ROOT / "deploy" / "triton" / device / repository.MODEL / "config.pbtxt"
    assert tracked.read_text(encoding="utf-8") == text
