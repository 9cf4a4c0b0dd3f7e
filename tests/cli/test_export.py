"""``gpupilot export`` and ``gpupilot card``: files for others, and what a policy says of itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from gpupilot_agent import bundle as bundles
from gpupilot_agent.bundle import Bundle
from gpupilot_agent.signature import digest_of
from gpupilot_envs.actions import SIZES
from gpupilot_envs.controller import Controller
from gpupilot_envs.observation import FIELDS

Shell = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a training: a policy that always prefers the first of everything."""
    weight = np.zeros((len(FIELDS), sum(SIZES)), dtype=np.float32)
    bundle = Bundle(
        networks=(((weight, np.zeros(sum(SIZES), dtype=np.float32)),),),
        controller=Controller(),
        config={"profiles": ["mobilenetv4-edge"]},
        seeds={"training": 3},
        trace_hashes={"train/a": "0" * 64, "train/b": "1" * 64, "validation/c": "2" * 64},
        commit="abc",
        card={"frames": 12_345, "saving_at_equal_attainment": 0.05, "world": "fleet"},
    )
    bundles.save(bundle, tmp_path / "mine" / "policy.npz")
    return tmp_path / "mine"


def _keys(folder: Path) -> tuple[Path, Path]:
    key = ed25519.Ed25519PrivateKey.generate()
    private, public = folder / "key.pem", folder / "key.pub"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return private, public


def test_an_onnx_model_is_written(shell: Shell, folder: Path) -> None:
    out = folder / "policy.onnx"
    ended = shell("export", folder, "--onnx", out)
    assert (ended.code, ended.out.strip()) == (0, str(out))
    assert out.stat().st_size > 1000


def test_digest_and_signature_are_written_and_asked_for(shell: Shell, folder: Path) -> None:
    private, public = _keys(folder.parent)
    ended = shell("export", folder, "--digest", "--sign", private)
    digest, signature = ended.out.split()
    assert digest == digest_of((folder / "policy.npz").read_bytes())
    assert Path(signature).stat().st_size == 64
    asked = ("--bundle-digest", digest, "--bundle-key", public)
    assert shell("card", folder, *asked).code == 0
    refused = shell("card", folder, "--bundle-digest", "sha256:" + "0" * 64)
    assert refused.code == 2
    assert refused.err.count("\n") == 1
    assert digest in refused.err


def test_nothing_to_write_is_refused(shell: Shell, folder: Path) -> None:
    ended = shell("export", folder)
    assert ended.code == 2
    assert "--onnx" in ended.err


def test_a_missing_policy_is_refused(shell: Shell, tmp_path: Path) -> None:
    ended = shell("card", tmp_path / "none.npz")
    assert ended.code == 2
    assert "none.npz" in ended.err


def test_the_card_of_a_training(shell: Shell, folder: Path) -> None:
    ended = shell("card", folder)
    assert ended.code == 0
    for said in ("12,345", "2 for train, 1 for validation", "+5.00 %", "Not measured yet"):
        assert said in ended.out
    document = json.loads(shell("card", folder, "--json").out)
    assert document["commit"] == "abc"
    assert document["card"]["frames"] == 12_345
