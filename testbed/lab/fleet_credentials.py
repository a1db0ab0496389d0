"""What a control plane on a machine of its own starts with: authority, certificates, kubeconfigs, a token."""

from __future__ import annotations

from pathlib import Path

from testbed.client import pki
from testbed.lab import bootstrap
from testbed.model.families import Network
from testbed.model.topology import API_PORT

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
    if not (directory / bootstrap.KUBECONFIG).exists():
        bootstrap.issue(directory, server, authority.pem)
        made += [bootstrap.TOKENS, bootstrap.KUBECONFIG]
    for file, user, groups in IDENTITIES:
        path = directory / f"{file}.kubeconfig"
        if not path.exists():
            pair = pki.issue_client(authority, user, list(groups))
            pki.write_kubeconfig(path, server, authority.pem, pair.certificate, pair.key, user=user)
            made.append(path.name)
    return made
