"""Approves and signs what kubelets ask for: the way from a bootstrap token to a certificate.

The rules are those of kube-controller-manager's approver (pkg/controller/certificates/approver) and of the
two signers; a request by anybody else waits for `kubectl certificate approve`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from testbed.api.certificates import request_of
from testbed.client.pki import Authority, sign
from testbed.controllers.base import Controller, Object, World
from testbed.model.conditions import timestamp
from testbed.model.resources import CERTIFICATE_SIGNING_REQUESTS

CLIENT, SERVING = "kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kubelet-serving"
NODES, BOOTSTRAPPERS = "system:nodes", "system:bootstrappers"
PREFIX = "system:node:"


@dataclass(frozen=True)
class Signer:
    """A purpose of certificates. `usage`: the one of `spec.usages` that names it."""

    purpose: x509.ObjectIdentifier
    usage: str


SIGNERS: Mapping[str, Signer] = {
    CLIENT: Signer(ExtendedKeyUsageOID.CLIENT_AUTH, "client auth"),
    SERVING: Signer(ExtendedKeyUsageOID.SERVER_AUTH, "server auth"),
}
HARMLESS = {"digital signature", "key encipherment"}


def approvable(spec: Object) -> bool:
    """Whether a request may be granted without asking a person: a node, asking for itself."""
    signer = SIGNERS.get(spec["signerName"])
    if signer is None or set(spec["usages"]) - HARMLESS != {signer.usage}:
        return False
    request = request_of(spec)
    names = [str(each.value) for each in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    groups = [str(each.value) for each in request.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    if groups != [NODES] or len(names) != 1 or not names[0].startswith(PREFIX):
        return False
    own = spec["username"] == names[0]
    dns, others = _hosts(request)
    if spec["signerName"] == CLIENT:
        return (own or BOOTSTRAPPERS in spec["groups"]) and not dns and not others
    return own and set(dns) <= {names[0].removeprefix(PREFIX)} and bool(dns or others)


def _hosts(request: x509.CertificateSigningRequest) -> tuple[list[str], list[str]]:
    """The DNS names and the other names that the certificate is to be for."""
    try:
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return [], []
    dns = names.get_values_for_type(x509.DNSName)
    return dns, [str(name.value) for name in names if not isinstance(name, x509.DNSName)]


class Certificates(Controller):
    name = "certificates"

    def __init__(self, world: World, authority: Authority) -> None:
        super().__init__(world)
        self._authority = authority
        self.watch(CERTIFICATE_SIGNING_REQUESTS)

    async def sync(self, key: str) -> None:
        request = self.world.informer(CERTIFICATE_SIGNING_REQUESTS).store.get(key)
        if request is None or (request.get("status") or {}).get("certificate"):
            return
        signer = SIGNERS.get(request["spec"]["signerName"])
        held = {each["type"] for each in (request.get("status") or {}).get("conditions") or ()}
        if signer is None or held & {"Denied", "Failed"}:
            return
        if "Approved" not in held:
            if not approvable(request["spec"]):
                return
            request = await self._write(key, {"conditions": [_approval()]}, "approval")
        certificate = sign(self._authority, request_of(request["spec"]), signer.purpose)
        await self._write(key, {"certificate": base64.b64encode(certificate).decode()}, "status")

    async def _write(self, key: str, status: Object, part: str) -> Object:
        written = await self.client.patch(
            CERTIFICATE_SIGNING_REQUESTS, key, None, {"status": status}, subresource=part
        )
        await self.world.catch_up(CERTIFICATE_SIGNING_REQUESTS, [written])
        return written


def _approval() -> Object:
    now = timestamp()
    return {
        "type": "Approved",
        "status": "True",
        "reason": "AutoApproved",
        "message": "Auto approving kubelet certificate: a node asks for itself.",
        "lastUpdateTime": now,
        "lastTransitionTime": now,
    }
