"""Who gets a certificate without a person being asked: a node, asking for itself."""

import base64
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from testbed.api.certificates import errors, request_of
from testbed.client import pki
from testbed.controllers.certificates import CLIENT, SERVING, approvable
from testbed.node import bootstrap

TOKEN = {"username": "system:bootstrap:abcdef", "groups": ["system:bootstrappers"]}
NODE = {"username": "system:node:node01", "groups": ["system:nodes"]}
OTHER = {"username": "system:node:node02", "groups": ["system:nodes"]}
HOSTS = ("node01", "192.0.2.11")


def asked(signer: str, node: str = "node01", hosts: tuple[str, ...] = (), **spec: object) -> dict:
    usage = {CLIENT: "client auth", SERVING: "server auth"}.get(signer, "client auth")
    key = ec.generate_private_key(ec.SECP256R1())
    return bootstrap._request(key, node, (signer, usage), hosts)["spec"] | spec


@pytest.mark.parametrize(
    ("spec", "granted"),
    [
        (asked(CLIENT, **TOKEN), True),
        (asked(CLIENT, **NODE), True),
        (asked(CLIENT, **OTHER), False),
        (asked(CLIENT, username="jane", groups=["system:authenticated"]), False),
        (asked(CLIENT, hosts=HOSTS, **TOKEN), False),
        (asked(CLIENT, usages=["client auth", "server auth"], **TOKEN), False),
        (asked(SERVING, hosts=HOSTS, **NODE), True),
        (asked(SERVING, hosts=HOSTS, **OTHER), False),
        (asked(SERVING, hosts=HOSTS, **TOKEN), False),
        (asked(SERVING, hosts=("kubernetes.default",), **NODE), False),
        (asked(SERVING, **NODE), False),
        (asked("example.com/mine", **NODE), False),
    ],
)
def test_a_node_asks_for_itself_only(spec: dict, granted: bool) -> None:
    assert approvable(spec) is granted


def test_what_is_signed_is_what_was_asked_for(tmp_path: Path) -> None:
    spec = asked(SERVING, hosts=HOSTS, **NODE)
    authority = pki.ensure_authority(tmp_path)
    signed = x509.load_pem_x509_certificate(
        pki.sign(authority, request_of(spec), ExtendedKeyUsageOID.SERVER_AUTH)
    )
    signed.verify_directly_issued_by(authority.certificate)
    names = signed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert tuple(str(name.value) for name in names) == HOSTS
    assert signed.subject.rfc4514_string() == "CN=system:node:node01,O=system:nodes"


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (asked(CLIENT, request=base64.b64encode(b"no request").decode()), "spec.request"),
        (asked(CLIENT, request="no base64!"), "spec.request"),
        (asked(CLIENT, signerName=""), "spec.signerName"),
        (asked(CLIENT, usages=[]), "spec.usages"),
    ],
)
def test_what_is_no_request_is_refused_by_its_field(spec: dict, field: str) -> None:
    (error,) = errors({"spec": spec}, None)
    assert error.field == field


def test_what_was_approved_cannot_change() -> None:
    old, new = asked(CLIENT, **TOKEN), asked(CLIENT, "node02", **TOKEN)
    (error,) = errors({"spec": new}, {"spec": old})
    assert "immutable" in error.message
