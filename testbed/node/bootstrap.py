"""TLS bootstrapping: from a kubeconfig with a token to one with the node's own certificate.

As a kubelet does it with any Kubernetes API server (reference/access-authn-authz/kubelet-tls-bootstrapping):
the key is made here and never leaves; a CertificateSigningRequest is sent, and its certificate waited for.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from testbed.client import ApiError, Client
from testbed.client.pki import Pair, general_name, key_pem, write_kubeconfig
from testbed.errors import TestbedError
from testbed.model.resources import CERTIFICATE_SIGNING_REQUESTS

log = logging.getLogger(__name__)
Object = dict[str, Any]

CLIENT = ("kubernetes.io/kube-apiserver-client-kubelet", "client auth")
SERVING = ("kubernetes.io/kubelet-serving", "server auth")
POLL = 0.2
APPROVAL_SECONDS = 60.0
LONGEST_DELAY = 10.0


async def join(token_kubeconfig: str, kubeconfig: Path, node: str) -> None:
    """Write `kubeconfig` unless it is there. Tries until the API server gives a certificate."""
    if kubeconfig.exists():
        return
    log.info("asking for a certificate with the token of %s", token_kubeconfig)
    async with Client.from_kubeconfig(token_kubeconfig, "kubelet") as client:
        pair = await _patiently(client, node, CLIENT, ())
        kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        access = client.access
        write_kubeconfig(
            kubeconfig,
            access.server,
            access.authority.encode(),
            pair.certificate,
            pair.key,
            user=f"system:node:{node}",
        )


async def serving(kubeconfig: Path, directory: Path, hosts: Sequence[str]) -> tuple[Path, Path]:
    """The certificate and key of the kubelet's own port in `directory`, asked for when missing.

    `hosts`: the node's name, then its addresses.
    """
    certificate, key = directory / "kubelet.crt", directory / "kubelet.key"
    if not (certificate.exists() and key.exists()):
        async with Client.from_kubeconfig(kubeconfig, "kubelet") as client:
            pair = await _patiently(client, hosts[0], SERVING, hosts)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        pair.write(directory, "kubelet")
    return certificate, key


async def _patiently(client: Client, node: str, signer: tuple[str, str], hosts: Sequence[str]) -> Pair:
    delay = 0.5
    while True:
        try:
            return await _ask(client, node, signer, hosts)
        except (ApiError, TestbedError) as error:
            log.warning("no certificate for %s yet: %s; again in %.1f s", node, error, delay)
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY)


async def _ask(client: Client, node: str, signer: tuple[str, str], hosts: Sequence[str]) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    asked = await client.create(CERTIFICATE_SIGNING_REQUESTS, _request(key, node, signer, hosts))
    name, deadline = asked["metadata"]["name"], asyncio.get_running_loop().time() + APPROVAL_SECONDS
    while True:
        held = (await client.get(CERTIFICATE_SIGNING_REQUESTS, name)).get("status") or {}
        if held.get("certificate"):
            return Pair(base64.b64decode(held["certificate"]), key_pem(key))
        for condition in held.get("conditions") or ():
            if condition["type"] in ("Denied", "Failed"):
                raise TestbedError(f"request {name} was {condition['type']}: {condition.get('message', '')}")
        if asyncio.get_running_loop().time() > deadline:
            raise TestbedError(f"nobody approved request {name}: `kubectl certificate approve {name}`")
        await asyncio.sleep(POLL)


def _request(
    key: ec.EllipticCurvePrivateKey, node: str, signer: tuple[str, str], hosts: Sequence[str]
) -> Object:
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{node}"),
        ]
    )
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if hosts:
        names = x509.SubjectAlternativeName([general_name(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"generateName": "csr-"},
        "spec": {
            "request": base64.b64encode(pem).decode(),
            "signerName": signer[0],
            "usages": ["digital signature", signer[1]],
        },
    }
