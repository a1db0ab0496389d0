"""The cluster's authority, serving certificates and kubeconfigs, one identity a component."""

from __future__ import annotations

from testbed.client import pki
from testbed.lab import bootstrap
from testbed.lab.cluster import ADMIN_KUBECONFIG, INSIDE_KUBECONFIG
from testbed.lab.state import State
from testbed.model.families import bracketed
from testbed.model.topology import API_PORT, ClusterSpec

DNS_KUBECONFIG = "kube-dns.kubeconfig"
INGRESS_KUBECONFIG = "ingress.kubeconfig"


def issue(state: State, spec: ClusterSpec, api_port: int) -> None:
    """Write `pki/` and the kubeconfigs of every component into the state directory."""
    directory = state.path / "pki"
    authority = pki.ensure_authority(directory)
    addresses = [str(each[1]) for each in spec.service_cidrs] + list(map(str, spec.control_plane.addresses))
    hosts = pki.api_server_hosts(*addresses, spec.control_plane.name)
    pki.issue_server(authority, "kube-apiserver", hosts).write(directory, "apiserver")
    pki.issue_client(authority, "kube-apiserver-kubelet-client", ["system:masters"]).write(
        directory, "apiserver-kubelet-client"
    )
    place = bracketed(str(spec.control_plane.address))
    inside, outside = f"https://{place}:{API_PORT}", f"https://127.0.0.1:{api_port}"
    identities = [
        (ADMIN_KUBECONFIG, outside, "kubernetes-admin", ["system:masters"]),
        (INSIDE_KUBECONFIG, inside, "kubernetes-admin", ["system:masters"]),
        ("kube-controller-manager.kubeconfig", inside, "system:kube-controller-manager", []),
        ("kube-proxy.kubeconfig", inside, "system:kube-proxy", ["system:node-proxier"]),
        (DNS_KUBECONFIG, inside, "system:kube-dns", []),
        (INGRESS_KUBECONFIG, inside, "system:ingress", []),
    ]
    bootstrap.issue(state.path, inside, authority.pem)
    for node in spec.nodes:
        user = f"system:node:{node.name}"
        identities.append((f"kubelet-{node.name}.kubeconfig", inside, user, ["system:nodes"]))
        serving = pki.issue_server(authority, user, [node.name, *map(str, node.addresses)])
        serving.write(directory, f"kubelet-{node.name}")
    for name, server, user, groups in identities:
        pair = pki.issue_client(authority, user, groups)
        pki.write_kubeconfig(
            state.path / name,
            server,
            authority.pem,
            pair.certificate,
            pair.key,
            cluster=spec.name,
            user=user,
        )
