"""CertificateSigningRequests: how a machine that has a token comes to a certificate (TLS bootstrapping)."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from cryptography import x509

from testbed.api.cells import Column, at
from testbed.api.columns import AGE, NAME
from testbed.api.rules import Errors
from testbed.api.status import invalid_value, required

Object = dict[str, Any]

OUTCOMES = ("Approved", "Denied", "Failed")


def request_of(spec: Object) -> x509.CertificateSigningRequest:
    """The PKCS#10 request in `spec.request`. Raises ValueError."""
    try:
        return x509.load_pem_x509_csr(base64.b64decode(spec.get("request") or "", validate=True))
    except (binascii.Error, TypeError):
        raise ValueError("it is not base64") from None


def errors(obj: Object, old: Object | None) -> Errors:
    """Nothing of the spec may change: what was approved is what is signed."""
    spec = obj.get("spec") or {}
    found: Errors = []
    if old and old["spec"] != spec:
        return [invalid_value("spec", "", "field is immutable")]
    if not spec.get("signerName"):
        found.append(required("spec.signerName"))
    if not spec.get("usages"):
        found.append(required("spec.usages"))
    try:
        if not request_of(spec).is_signature_valid:
            found.append(invalid_value("spec.request", "", "its signature is not that of its own key"))
    except ValueError:
        found.append(invalid_value("spec.request", "", "PEM block type must be CERTIFICATE REQUEST"))
    return found


def _condition(obj: Object) -> str:
    """Approved,Issued as kubectl prints it."""
    status = obj.get("status") or {}
    held = [each["type"] for each in status.get("conditions") or ()]
    words = [word for word in OUTCOMES if word in held] or ["Pending"]
    return ",".join([*words, "Issued"] if status.get("certificate") else words)


COLUMNS = (
    NAME,
    AGE,
    Column("SignerName", at("spec.signerName")),
    Column("Requestor", at("spec.username")),
    Column("Condition", _condition),
)
