"""The command lines of the components, and the machines they run on: wiring as data."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from testbed.errors import UsageError
from testbed.lab import bootstrap
from testbed.model.families import listed
from testbed.model.topology import API_PORT, ClusterSpec, NodeSpec
from testbed.node.process import Process

LOG_DIRECTORY = "/var/log"
NO_PROXY = "none"
PROXY = "kube-proxy"
MANIFESTS = "etc/kubernetes/manifests"
BEATS_IN_GRACE = 4
"""Heartbeats that a node must miss in a row to count as lost, as with Kubernetes' own defaults."""


def apiserver(spec: ClusterSpec, state: Path, listen_fd: int) -> Process:
    """The API server: on the control plane's address, and on the host's loopback by an inherited socket."""
    pki = state / "pki"
    flags = {
        "advertise-address": spec.control_plane.address,
        "bind-address": spec.control_plane.address,
        "secure-port": API_PORT,
        "service-cluster-ip-range": listed(spec.service_cidrs),
        "service-node-port-range": spec.node_ports,
        "cluster-cidr": listed(spec.cluster_cidrs),
        "authorization-mode": "Node,RBAC",
        "token-auth-file": state / bootstrap.TOKENS,
        "client-ca-file": pki / "ca.crt",
        "tls-cert-file": pki / "apiserver.crt",
        "tls-private-key-file": pki / "apiserver.key",
        "kubelet-client-certificate": pki / "apiserver-kubelet-client.crt",
        "kubelet-client-key": pki / "apiserver-kubelet-client.key",
        "service-account-key-file": pki / "sa.pub",
        "service-account-signing-key-file": pki / "sa.key",
        "db": state / "apiserver.db",
        "listen-fd": listen_fd,
    }
    return _unit("kube-apiserver", ["testbed", "apiserver", *_flags(flags)], fds=(listen_fd,))


def controller_manager(spec: ClusterSpec, state: Path) -> Process:
    flags = {
        "kubeconfig": state / "kube-controller-manager.kubeconfig",
        "cluster-cidr": listed(spec.cluster_cidrs),
        "service-cluster-ip-range": listed(spec.service_cidrs),
        "node-monitor-grace-period": f"{spec.node_grace:g}s",
        "cluster-signing-cert-file": state / "pki/ca.crt",
        "cluster-signing-key-file": state / "pki/ca.key",
    }
    return _unit("kube-controller-manager", ["testbed", "controller-manager", *_flags(flags)])


def kubelet(spec: ClusterSpec, node: NodeSpec, state: Path) -> Process:
    flags: dict[str, object] = {
        "kubeconfig": state / f"kubelet-{node.name}.kubeconfig",
        "hostname-override": node.name,
        "node-ip": listed(node.addresses),
        "pod-cidr": listed(node.pod_cidrs),
        "cluster-dns": spec.dns_address,
        "cluster-domain": "cluster.local",
        "node-status-update-frequency": f"{spec.node_grace / BEATS_IN_GRACE:g}s",
        "client-ca-file": state / "pki/ca.crt",
        "tls-cert-file": state / f"pki/kubelet-{node.name}.crt",
        "tls-private-key-file": state / f"pki/kubelet-{node.name}.key",
    }
    words = ["testbed", "kubelet", *_flags(flags)]
    if node == spec.control_plane:
        words.append("--register-with-taints=node-role.kubernetes.io/control-plane:NoSchedule")
        words.append("--node-labels=node-role.kubernetes.io/control-plane=")
        words.append(f"--pod-manifest-path=/{MANIFESTS}")
    if node.labels:
        words.append("--node-labels=" + ",".join(f"{key}={value}" for key, value in node.labels.items()))
    if spec.cni_conf:
        words.append(f"--cni-conf={spec.cni_conf}")
    words += [f"--image={glob}={path}" for glob, path in spec.images.items()]
    return _unit("kubelet", words)


def kube_proxy(
    spec: ClusterSpec,
    node: NodeSpec,
    state: Path,
    mode: str,
    command: str = "",
    environment: Mapping[str, str] | None = None,
) -> Process:
    """The proxy agent in `mode`, or the user's `command` with {kubeconfig}, {node}, {mode} filled in.

    `environment` is added to this process's own, for the agent.
    """
    kubeconfig = state / "kube-proxy.kubeconfig"
    if command:
        try:
            filled = command.format(kubeconfig=kubeconfig, node=node.name, mode=mode)
        except (KeyError, IndexError, ValueError) as error:
            raise UsageError(
                f"proxy command {command!r}: {error}; "
                "{kubeconfig}, {node} and {mode} are filled in, other braces are written {{ and }}"
            ) from None
        return _unit(PROXY, ["/bin/sh", "-c", f"exec {filled}"])
    flags = {
        "kubeconfig": kubeconfig,
        "hostname-override": node.name,
        "proxy-mode": mode,
        "cluster-cidr": listed(spec.cluster_cidrs),
        "ipvs-scheduler": spec.ipvs_scheduler,
    }
    agent = _unit(PROXY, ["testbed", "kube-proxy", *_flags(flags)])
    return replace(agent, env={**os.environ, **environment}) if environment else agent


def _flags(flags: Mapping[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in flags.items()]


def _unit(name: str, argv: list[str], fds: tuple[int, ...] = ()) -> Process:
    return Process(name, tuple(argv), log=f"{LOG_DIRECTORY}/{name}.log", fds=fds, restart=True)
