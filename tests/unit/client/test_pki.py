"""Certificates: who they name, whom they convince, and who can read the keys."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest

from testbed.client import kubeconfig, pki
from testbed.errors import UsageError


@pytest.mark.feature("C7")
def test_client_and_server_convince_each_other(tmp_path: Path) -> None:
    """A handshake with what `write_kubeconfig` wrote; the server sees the user and the groups."""
    authority = pki.ensure_authority(tmp_path / "pki")
    server = pki.issue_server(authority, "kube-apiserver", pki.api_server_hosts("10.96.0.1"))
    certificate, key = server.write(tmp_path, "server")
    client = pki.issue_client(authority, "system:node:n", ["system:nodes", "other"])
    config = pki.write_kubeconfig(
        tmp_path / "c", "https://localhost:1", authority.pem, client.certificate, client.key, namespace="x"
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(tmp_path / "pki" / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    seen: list[object] = []

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with context.wrap_socket(connection, server_side=True) as channel:
            seen.append(channel.getpeercert())
            channel.sendall(b"x")

    access = kubeconfig.load(config)
    assert access.server == "https://localhost:1"
    assert access.tls
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        with (
            socket.create_connection(listener.getsockname()) as plain,
            access.tls.wrap_socket(plain, server_hostname="kubernetes.default.svc") as channel,
        ):
            assert channel.recv(1) == b"x"
        thread.join()
    (certificate_seen,) = seen
    assert isinstance(certificate_seen, dict)
    names = [pair for (pair,) in certificate_seen["subject"]]
    assert ("commonName", "system:node:n") in names
    assert {value for name, value in names if name == "organizationName"} == {"system:nodes", "other"}


def test_an_authority_is_made_once(tmp_path: Path) -> None:
    first, second = pki.ensure_authority(tmp_path / "pki"), pki.ensure_authority(tmp_path / "pki")
    assert first.pem == second.pem
    assert sorted(path.name for path in (tmp_path / "pki").iterdir()) == [
        "ca.crt",
        "ca.key",
        "sa.key",
        "sa.pub",
    ]


def test_only_the_owner_reads_what_is_secret(tmp_path: Path) -> None:
    authority = pki.ensure_authority(tmp_path / "pki")
    pair = pki.issue_client(authority, "admin", ["system:masters"])
    pair.write(tmp_path / "pki", "admin")
    pki.write_kubeconfig(
        tmp_path / "pki" / "kubeconfig", "https://x", authority.pem, pair.certificate, pair.key
    )
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "pki").iterdir()} == {0o600}


@pytest.mark.parametrize("text", ["", "{", "clusters: []", "current-context: x\ncontexts: []"])
def test_an_unusable_kubeconfig_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "c").write_text(text)
    with pytest.raises(UsageError) as refusal:
        kubeconfig.load(tmp_path / "c")
    assert len(str(refusal.value).splitlines()) == 1
    with pytest.raises(UsageError, match="No such file"):
        kubeconfig.load(tmp_path / "none")
