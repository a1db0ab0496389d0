"""What a control plane on a machine of its own starts with: authority, certificates, kubeconfigs, a token."""

from __future__ import annotations

import secrets
from pathlib import Path

import yaml

from testbed.api import pki
from testbed.model.families import Network
from testbed.model.topology import API_PORT

GROUP = "system:bootstrappers"
IDENTITIES = (
    ("kube-controller-manager", "system:kube-controller-manager", ()),
    ("kube-proxy", "system:kube-proxy", ("system:node-proxier",)),
    ("kube-dns", "system:kube-dns", ()),
    ("admin", "kubernetes-admin", ("system:masters",)),
)
"""Kubeconfigs: name, user, groups. The last one is there when all are."""


def issue(directory: Path, address: str, name: str, services: Network) -> list[str]:
    """Write what is missing in `directory` (/etc/kubernetes). The names of the files made."""
    made: list[str] = []
    server = f"https://{address}:{API_PORT}"
    authority = pki.ensure_authority(directory / "pki")
    hosts = pki.api_server_hosts(str(services[1]), address, name)
    if not (directory / "pki/apiserver.crt").exists():
        pki.issue_server(authority, "kube-apiserver", hosts).write(directory / "pki", "apiserver")
        client = pki.issue_client(authority, "kube-apiserver-kubelet-client", ["system:masters"])
        client.write(directory / "pki", "apiserver-kubelet-client")
        made += ["pki/apiserver.crt", "pki/apiserver-kubelet-client.crt"]
    if not (directory / "bootstrap.kubeconfig").exists():
        _bootstrap(directory, server, authority.pem)
        made += ["bootstrap-tokens.csv", "bootstrap.kubeconfig"]
    for file, user, groups in IDENTITIES:
        path = directory / f"{file}.kubeconfig"
        if not path.exists():
            pair = pki.issue_client(authority, user, list(groups))
            pki.write_kubeconfig(path, server, authority.pem, pair.certificate, pair.key, user=user)
            made.append(path.name)
    return made


def _bootstrap(directory: Path, server: str, authority: bytes) -> None:
    """A token that is good for asking for a certificate and nothing else, and a kubeconfig that has it."""
    name, secret = secrets.token_hex(3), secrets.token_hex(8)
    token, user = f"{name}.{secret}", f"system:bootstrap:{name}"
    pki.write_private(directory / "bootstrap-tokens.csv", f'{token},{user},{name},"{GROUP}"\n'.encode())
    pki.write_private(directory / "bootstrap.kubeconfig", token_kubeconfig(server, authority, token).encode())


def token_kubeconfig(server: str, authority: bytes, token: str) -> str:
    """A kubeconfig whose user proves itself by a bearer token."""
    import base64

    cluster = {"server": server, "certificate-authority-data": base64.b64encode(authority).decode()}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "testbed", "cluster": cluster}],
        "users": [{"name": "bootstrap", "user": {"token": token}}],
        "contexts": [{"name": "bootstrap", "context": {"cluster": "testbed", "user": "bootstrap"}}],
        "current-context": "bootstrap",
    }
    return yaml.safe_dump(document, sort_keys=False)
