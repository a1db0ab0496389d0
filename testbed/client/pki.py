"""The cluster's own certificate authority, the certificates it issues, and kubeconfigs. All ECDSA P-256.

Names follow Kubernetes: a client certificate's common name is the user, its organisations are the groups.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

LIFETIME = timedelta(days=3650)
BACKDATED = timedelta(days=1)
"""A certificate is valid from a day ago: the clock of a VM may be behind."""


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes

    def write(self, directory: Path, name: str) -> tuple[Path, Path]:
        """Write `name.crt` and `name.key` (0600). The two paths."""
        certificate, key = directory / f"{name}.crt", directory / f"{name}.key"
        write_private(certificate, self.certificate)
        write_private(key, self.key)
        return certificate, key


@dataclass(frozen=True)
class Authority:
    """A certificate authority that can sign. `directory` holds ca.crt, ca.key, sa.key and sa.pub."""

    directory: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        """The authority's certificate, PEM: what clients trust."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def ensure_authority(directory: Path) -> Authority:
    """The authority in `directory`, made with a service-account key pair where there is none yet."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (directory / "ca.key").exists():
        _self_signed().write(directory, "ca")
    if not (directory / "sa.key").exists():
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        write_private(directory / "sa.pub", public)
        write_private(directory / "sa.key", key_pem(key))
    return read_authority(directory / "ca.crt", directory / "ca.key")


def read_authority(certificate: Path, key: Path) -> Authority:
    """The authority in two PEM files. Raises OSError, and ValueError for what is no EC key or certificate."""
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{key} is not an EC key")
    return Authority(certificate.parent, x509.load_pem_x509_certificate(certificate.read_bytes()), loaded)


def issue_client(authority: Authority, user: str, groups: Sequence[str] = ()) -> Pair:
    """A client certificate for `user` in `groups`: ("system:node:node01", ["system:nodes"])."""
    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    names.append(x509.NameAttribute(NameOID.COMMON_NAME, user))
    return _issue(authority, x509.Name(names), ExtendedKeyUsageOID.CLIENT_AUTH, ())


def sign(
    authority: Authority, request: x509.CertificateSigningRequest, purpose: x509.ObjectIdentifier
) -> bytes:
    """A certificate, PEM, for the key, subject and hosts of a request that somebody has approved."""
    try:
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = [str(name.value) for name in names]
    except x509.ExtensionNotFound:
        hosts = []
    key = request.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey), "the approver looks at the key"
    certificate = _certificate(authority, request.subject, purpose, hosts, key)
    return certificate.public_bytes(serialization.Encoding.PEM)


def issue_server(authority: Authority, name: str, hosts: Iterable[str] = ()) -> Pair:
    """A serving certificate for the DNS names and IP addresses in `hosts`, and `name` as common name."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return _issue(authority, subject, ExtendedKeyUsageOID.SERVER_AUTH, hosts)


def api_server_hosts(service_address: str, *addresses: str) -> list[str]:
    """All names under which Pods and users reach the API server, for `issue_server`."""
    names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ]
    return [*names, "localhost", "127.0.0.1", service_address, *addresses]


def write_kubeconfig(
    path: Path,
    server: str,
    ca: bytes,
    cert: bytes,
    key: bytes,
    *,
    cluster: str = "testbed",
    user: str = "admin",
    namespace: str = "",
) -> Path:
    """A kubeconfig (0600) with all it needs inside. `server`: "https://172.30.0.10:6443". Returns `path`."""
    context = {"cluster": cluster, "user": user} | ({"namespace": namespace} if namespace else {})
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": cluster, "cluster": {"server": server, "certificate-authority-data": _base64(ca)}}
        ],
        "users": [
            {
                "name": user,
                "user": {"client-certificate-data": _base64(cert), "client-key-data": _base64(key)},
            }
        ],
        "contexts": [{"name": f"{user}@{cluster}", "context": context}],
        "current-context": f"{user}@{cluster}",
    }
    write_private(path, yaml.safe_dump(document, sort_keys=False).encode())
    return path


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, in one step: a reader sees the old content or the new."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    scratch.rename(path)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _builder(subject: x509.Name, issuer: x509.Name, key: PublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _self_signed() -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "testbed-ca")])
    certificate = (
        _builder(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate.public_bytes(serialization.Encoding.PEM), key_pem(key))


def _issue(
    authority: Authority, subject: x509.Name, purpose: x509.ObjectIdentifier, hosts: Iterable[str]
) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certificate(authority, subject, purpose, hosts, key.public_key())
    return Pair(certificate.public_bytes(serialization.Encoding.PEM), key_pem(key))


def _certificate(
    authority: Authority,
    subject: x509.Name,
    purpose: x509.ObjectIdentifier,
    hosts: Iterable[str],
    key: PublicKey,
) -> x509.Certificate:
    builder = (
        _builder(subject, authority.certificate.subject, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
        )
    )
    names = [general_name(host) for host in dict.fromkeys(hosts)]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(authority.key, hashes.SHA256())


def general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
