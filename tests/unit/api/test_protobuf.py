"""Protobuf bodies: what is known is decoded, the rest refused; nothing crashes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.api import protobuf
from testbed.api.status import StatusError


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return bytes([number << 3, value])
    return bytes([number << 3 | 2, len(value)]) + value


def enveloped(version: bytes, kind: bytes, raw: bytes) -> bytes:
    return b"k8s\x00" + field(1, field(1, version) + field(2, kind)) + field(2, raw)


NAMESPACE = field(
    1, field(1, b"x") + field(11, field(1, b"k") + field(2, b"v")) + field(8, b"") + field(3, b"")
)


def test_a_namespace_is_decoded() -> None:
    expected = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x", "labels": {"k": "v"}}}
    assert protobuf.decode(enveloped(b"v1", b"Namespace", NAMESPACE)) == expected


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", 400),
        (b"{}", 400),
        (enveloped(b"v1", b"Namespace", NAMESPACE)[:-3], 400),
        (enveloped(b"v1", b"Pod", b""), 415),
        (enveloped(b"v1", b"Namespace", field(1, field(15, b"unknown"))), 415),
        (enveloped(b"v1", b"Namespace", field(1, 5)), 400),
    ],
)
def test_what_is_not_known_is_refused(body: bytes, code: int) -> None:
    with pytest.raises(StatusError) as refusal:
        protobuf.decode(body)
    assert refusal.value.code == code


@given(st.binary(max_size=60), st.sampled_from([b"Namespace", b"Service", b"Deployment"]), st.booleans())
def test_no_bytes_crash_the_decoder(raw: bytes, kind: bytes, whole: bool) -> None:
    version = b"apps/v1" if kind == b"Deployment" else b"v1"
    try:
        decoded = protobuf.decode(enveloped(version, kind, raw) if whole else b"k8s\x00" + raw)
    except StatusError as refusal:
        decoded = {"refused": refusal.code in (400, 415)}
    assert decoded.get("refused", True)
