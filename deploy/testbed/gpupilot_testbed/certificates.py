"""Certificates of one cluster: an authority of its own, and what it signs.

Kubernetes reads who somebody is from the certificate: the common name is the user, each
organisation a group (https://kubernetes.io/docs/reference/access-authn-authz/authentication/).
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = datetime.timedelta(days=30)
CLOCK_SKEW = datetime.timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A certificate and its key, as files.

    Attributes:
        certificate: PEM.
        key: PEM, readable by its owner alone.
    """

    certificate: Path
    key: Path


class Authority:
    """Signs certificates into a folder; its own lies there as ``<name>.crt``."""

    def __init__(self, folder: Path, name: str) -> None:
        """Make the authority's key and certificate."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        draft = _draft(self._name, self._name, self._key.public_key())
        draft = draft.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.certificate = _write_certificate(folder / f"{name}.crt", self._sign(draft))

    def issue(
        self, file: str, user: str, *, groups: tuple[str, ...] = (), hosts: tuple[str, ...] = ()
    ) -> Pair:
        """Return a signed certificate, good for a client and, with hosts, for a server.

        Args:
            file: Stem of the two files.
            user: Common name.
            groups: Organisations.
            hosts: Names and addresses it serves under.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in groups]
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, user))
        draft = _draft(x509.Name(attributes), self._name, key.public_key())
        uses = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if hosts:
            uses.append(ExtendedKeyUsageOID.SERVER_AUTH)
            alternatives = x509.SubjectAlternativeName([_host(each) for each in hosts])
            draft = draft.add_extension(alternatives, critical=False)
        draft = draft.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        return Pair(
            certificate=_write_certificate(self._folder / f"{file}.crt", self._sign(draft)),
            key=write_key(self._folder / f"{file}.key", key),
        )

    def _sign(self, draft: x509.CertificateBuilder) -> x509.Certificate:
        return draft.sign(self._key, hashes.SHA256())


def service_account_key(folder: Path) -> Path:
    """Return a new key that signs the tokens of service accounts; its public half is in it."""
    return write_key(folder / "service-accounts.key", ec.generate_private_key(ec.SECP256R1()))


def write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> Path:
    """Write a private key, unencrypted, for its owner alone.

    SEC 1, because the API server reads PKCS #8 keys of elliptic curves for TLS only.
    """
    plain = serialization.NoEncryption()
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, plain
    )
    path.touch(mode=0o600)
    path.write_bytes(text)
    return path


def _draft(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + LIFETIME)
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write_certificate(path: Path, certificate: x509.Certificate) -> Path:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path
