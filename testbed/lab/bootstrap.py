"""The token with which a kubelet that the cluster does not know yet asks for its certificate."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path

import yaml

from testbed.client import pki

TOKENS, KUBECONFIG = "bootstrap-tokens.csv", "bootstrap.kubeconfig"
GROUP = "system:bootstrappers"


def issue(directory: Path, server: str, authority: bytes) -> None:
    """A token that is good for asking for a certificate and nothing else, and a kubeconfig that has it."""
    name, secret = secrets.token_hex(3), secrets.token_hex(8)
    token, user = f"{name}.{secret}", f"system:bootstrap:{name}"
    pki.write_private(directory / TOKENS, f'{token},{user},{name},"{GROUP}"\n'.encode())
    pki.write_private(directory / KUBECONFIG, kubeconfig(server, authority, token).encode())


def kubeconfig(server: str, authority: bytes, token: str) -> str:
    """One whose user proves itself by a bearer token."""
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
