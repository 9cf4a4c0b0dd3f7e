"""Whether a bundle is the one that was meant: a pinned digest and a detached signature.

The digest is the SHA-256 of the file, as ``sha256sum`` prints it. The signature is Ed25519
(RFC 8032) over the bytes of the file, 64 bytes in a file beside it, as ``openssl pkeyutl -sign
-rawin`` writes it. What is checked is what is read: the bytes are loaded once.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gpupilot_agent import bundle as bundles
from gpupilot_agent.bundle import Bundle
from gpupilot_envs.atomic import write_bytes, write_text
from gpupilot_envs.errors import BundleRefused, ExtraMissing, InputInvalid

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

DIGEST_SUFFIX = ".sha256"
SIGNATURE_SUFFIX = ".sig"
_PUBLIC_KEY = "a PEM file with an Ed25519 public key"
_PRIVATE_KEY = "a PEM file with an Ed25519 private key without a password"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What a bundle must prove before it is read.

    A digest in a file ``<bundle>.sha256`` beside the bundle is checked too where there is one.

    Attributes:
        digest: ``sha256:`` and 64 hexadecimal digits the file must have; ``None`` asks for none.
        public_key: File with the Ed25519 key (PEM) that must have signed ``<bundle>.sig``;
            ``None`` asks for no signature.
    """

    digest: str | None = None
    public_key: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what is no digest.

        Raises:
            InputInvalid: Not ``sha256:`` and 64 hexadecimal digits.
        """
        if self.digest is not None and not _DIGEST.fullmatch(self.digest):
            raise InputInvalid("digest", self.digest, "sha256: and 64 hexadecimal digits")


def load_trusted(path: Path, trust: Trust) -> Bundle:
    """Read a bundle that proves to be the one meant.

    Raises:
        BundleRefused: Another digest or signature than asked for, or what :func:`bundle.load`
            refuses.
        ExtraMissing: A signature is asked for and ``cryptography`` is not installed.
        InputInvalid: The key is none.
    """
    data = bundles.content(path)
    wanted = [trust.digest, _beside(path)]
    for digest in wanted:
        if digest is not None and digest != digest_of(data):
            raise BundleRefused(f"{path} has the digest {digest_of(data)}, expected {digest}")
    if trust.public_key is not None:
        _check_signature(path, data, _public_key(trust.public_key))
    return bundles.parse(data, path)


def digest_of(data: bytes) -> str:
    """Return ``sha256:`` and the hexadecimal digest of a file's content."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def write_digest(path: Path) -> str:
    """Write the digest beside a bundle, as ``sha256sum --check`` reads it, and return it.

    Raises:
        BundleRefused: The bundle cannot be read.
        OutputRefused: The disk is full or the path cannot be written.
    """
    digest = digest_of(bundles.content(path))
    line = f"{digest.removeprefix('sha256:')}  {path.name}\n"
    write_text(path.with_name(path.name + DIGEST_SUFFIX), line)
    return digest


def sign(path: Path, private_key: Path) -> Path:
    """Write the signature beside a bundle and return where.

    Raises:
        BundleRefused: The bundle cannot be read.
        ExtraMissing: ``cryptography`` is not installed.
        InputInvalid: The key is none.
        OutputRefused: The disk is full or the path cannot be written.
    """
    target = path.with_name(path.name + SIGNATURE_SUFFIX)
    write_bytes(target, _private_key(private_key).sign(bundles.content(path)))
    return target


def _beside(path: Path) -> str | None:
    """Return the digest in the file beside the bundle, ``None`` where there is none."""
    beside = path.with_name(path.name + DIGEST_SUFFIX)
    if not beside.exists():
        return None
    digest = "sha256:" + beside.read_text(encoding="utf-8", errors="replace").partition(" ")[0]
    if not _DIGEST.fullmatch(digest):
        raise BundleRefused(f"{beside} does not hold a digest as sha256sum prints it")
    return digest


def _check_signature(path: Path, data: bytes, key: Ed25519PublicKey) -> None:
    from cryptography.exceptions import InvalidSignature

    beside = path.with_name(path.name + SIGNATURE_SUFFIX)
    try:
        key.verify(beside.read_bytes(), data)
    except OSError as error:
        reason = error.strerror or str(error)
        raise BundleRefused(f"{path} has no signature: {beside}: {reason}") from error
    except InvalidSignature as error:
        raise BundleRefused(f"{beside} is not a signature of {path} by this key") from error


def _public_key(path: Path) -> Ed25519PublicKey:
    _need_cryptography()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputInvalid("key", str(path), _PUBLIC_KEY) from error
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise InputInvalid("key", str(path), _PUBLIC_KEY)
    return key


def _private_key(path: Path) -> Ed25519PrivateKey:
    _need_cryptography()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise InputInvalid("key", str(path), _PRIVATE_KEY) from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise InputInvalid("key", str(path), _PRIVATE_KEY)
    return key


def _need_cryptography() -> None:
    try:
        import cryptography  # noqa: F401
    except ModuleNotFoundError as error:
        raise ExtraMissing("signing a bundle or checking its signature", "signing") from error
