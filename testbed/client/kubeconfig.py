"""Reading a kubeconfig: where the API server is and how to prove who we are."""

from __future__ import annotations

import base64
import binascii
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from testbed.errors import UsageError


@dataclass(frozen=True)
class Access:
    """Where to connect and with what. `tls` is None for plain HTTP."""

    server: str
    tls: ssl.SSLContext | None
    token: str = ""
    authority: str = ""
    """The certificates that the server is checked by, PEM."""


def load(path: str | Path) -> Access:
    """The current context of the kubeconfig at `path`. Raises UsageError if it is unusable."""
    file = Path(path)
    try:
        document = yaml.safe_load(file.read_text())
        context = _named(document, "contexts", str(document["current-context"]))["context"]
        cluster = _named(document, "clusters", str(context["cluster"]))["cluster"]
        user = _named(document, "users", str(context["user"]))["user"] or {}
        server = str(cluster["server"]).rstrip("/")
        authority = _content(cluster, "certificate-authority", file.parent).decode()
        tls = _tls(authority, cluster, user, file.parent) if server.startswith("https:") else None
    except (OSError, yaml.YAMLError, KeyError, TypeError, binascii.Error, ssl.SSLError) as error:
        raise UsageError(f"kubeconfig {file}: {str(error).splitlines()[0]}; give a readable one") from None
    return Access(server, tls, str(user.get("token") or ""), authority)


def _named(document: Mapping[str, Any], section: str, name: str) -> dict[str, Any]:
    for entry in document[section]:
        if entry["name"] == name:
            return dict(entry)
    raise KeyError(f"no {name!r} among its {section}")


def _content(section: Mapping[str, Any], key: str, folder: Path) -> bytes:
    """The bytes of `KEY-data`, or of the file that `KEY` names."""
    if section.get(f"{key}-data"):
        return base64.b64decode(section[f"{key}-data"])
    return (folder / section[key]).read_bytes() if section.get(key) else b""


def _tls(authority: str, cluster: Mapping[str, Any], user: Mapping[str, Any], folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority or None)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    certificate, key = _content(user, "client-certificate", folder), _content(user, "client-key", folder)
    if certificate:
        _load_pair(context, certificate, key)
    return context


def _load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """OpenSSL reads a pair from files only; a memory file keeps the key off the disk."""
    descriptor = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, certificate + b"\n" + key)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
