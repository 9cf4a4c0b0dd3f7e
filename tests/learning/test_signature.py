"""A bundle that is not the one meant is refused before it is read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from gpupilot_agent import bundle as bundles
from gpupilot_agent.bundle import Bundle
from gpupilot_agent.signature import Trust, digest_of, load_trusted, sign, write_digest
from gpupilot_envs.errors import BundleRefused, InputInvalid


@pytest.fixture
def path(bundle: Bundle, tmp_path: Path) -> Path:
    bundles.save(bundle, tmp_path / "policy.npz")
    return tmp_path / "policy.npz"


def _keys(folder: Path, name: str) -> tuple[Path, Path]:
    """Write a fresh pair of keys and return the private and the public one."""
    key = ed25519.Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
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


def _change_one_byte(path: Path) -> None:
    """Change a byte of a time stamp: the archive stays whole and the policy the same."""
    changed = bytearray(path.read_bytes())
    changed[10] ^= 1
    path.write_bytes(changed)
    bundles.load(path)


def test_the_pinned_digest_lets_the_file_in(path: Path, bundle: Bundle) -> None:
    digest = digest_of(path.read_bytes())
    assert load_trusted(path, Trust(digest=digest)).sha256 == bundle.sha256


def test_one_changed_byte_is_not_the_pinned_file(path: Path) -> None:
    digest = digest_of(path.read_bytes())
    _change_one_byte(path)
    with pytest.raises(BundleRefused, match=digest):
        load_trusted(path, Trust(digest=digest))


@pytest.mark.parametrize("digest", ["", "sha256:12", "md5:" + "0" * 32, "0" * 64])
def test_what_is_no_digest_is_refused(digest: str) -> None:
    with pytest.raises(InputInvalid, match="64 hexadecimal digits"):
        Trust(digest=digest)


def test_a_digest_beside_the_bundle_is_checked(path: Path) -> None:
    write_digest(path)
    load_trusted(path, Trust())
    _change_one_byte(path)
    with pytest.raises(BundleRefused, match="expected sha256:"):
        load_trusted(path, Trust())


def test_the_digest_beside_the_bundle_is_what_sha256sum_reads(path: Path) -> None:
    digest = write_digest(path)
    line = path.with_name("policy.npz.sha256").read_text(encoding="utf-8")
    assert line == f"{digest.removeprefix('sha256:')}  policy.npz\n"


def test_nonsense_beside_the_bundle_is_refused(path: Path) -> None:
    path.with_name("policy.npz.sha256").write_bytes(b"\xff nonsense")
    with pytest.raises(BundleRefused, match="sha256sum"):
        load_trusted(path, Trust())


def test_a_signature_by_the_key_lets_the_file_in(path: Path, bundle: Bundle) -> None:
    private, public = _keys(path.parent, "ours")
    assert sign(path, private) == path.with_name("policy.npz.sig")
    assert load_trusted(path, Trust(public_key=public)).sha256 == bundle.sha256


def test_another_file_key_or_signature_is_refused(path: Path) -> None:
    private, public = _keys(path.parent, "ours")
    _, theirs = _keys(path.parent, "theirs")
    with pytest.raises(BundleRefused, match="has no signature"):
        load_trusted(path, Trust(public_key=public))
    signature = sign(path, private)
    with pytest.raises(BundleRefused, match="is not a signature"):
        load_trusted(path, Trust(public_key=theirs))
    whole = signature.read_bytes()
    signature.write_bytes(whole[:-1])
    with pytest.raises(BundleRefused, match="is not a signature"):
        load_trusted(path, Trust(public_key=public))
    signature.write_bytes(whole)
    _change_one_byte(path)
    with pytest.raises(BundleRefused, match="is not a signature"):
        load_trusted(path, Trust(public_key=public))


def test_what_is_no_ed25519_key_is_refused(path: Path) -> None:
    other = path.with_name("other.pub")
    curve = ec.generate_private_key(ec.SECP256R1()).public_key()
    other.write_bytes(
        curve.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    text = path.with_name("text.pub")
    text.write_text("no key", encoding="utf-8")
    for wrong in (other, text, path.with_name("missing.pub")):
        with pytest.raises(InputInvalid, match="Ed25519 public key"):
            load_trusted(path, Trust(public_key=wrong))
    with pytest.raises(InputInvalid, match="Ed25519 private key"):
        sign(path, other)


def test_without_the_package_a_sentence_says_what_to_install(path: Path) -> None:
    code = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from pathlib import Path; from gpupilot_agent.signature import Trust, load_trusted\n"
        f"load_trusted(Path({str(path)!r}), Trust(public_key=Path('key.pub')))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "ExtraMissing: " in done.stderr
    assert "pip install 'gpupilot[signing]'" in done.stderr
