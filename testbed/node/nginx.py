"""The configuration of image `nginx`, from what the Pod mounts where that image looks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from testbed.node.volumes import place

Object = dict[str, Any]
Listens = tuple[tuple[str, int], ...]

MAIN = "/etc/nginx/nginx.conf"
SERVERS = "/etc/nginx/conf.d"
TLS = "/etc/nginx/ssl"
CERTIFICATE, KEY = "nginx.crt", "nginx.key"

FRAME = """\
# made by the node agent
daemon off;
user www-data;
worker_processes 1;
pid /var/lib/nginx/nginx.pid;
error_log stderr;
events {{ worker_connections 1024; }}
http {{
    include /etc/nginx/mime.types;
    access_log off;
    keepalive_requests 100000000;
    {servers}
}}
"""

DEFAULT_SERVER = """server {{
        {listen}
        root /usr/share/nginx/html;
        index index.html;
    }}"""


def brings_all(container: Object) -> bool:
    """Whether the Pod mounts a whole configuration."""
    return any(mount["mountPath"].rstrip("/") in (MAIN, "/etc/nginx") for mount in _mounts(container))


def configuration(container: Object, directory: Path) -> tuple[str, Listens]:
    """The file, and the ports it has nginx listen on; none when only the mounted files tell.

    Files in conf.d take the place of the default server, as in the image. That server speaks TLS too when
    a certificate and its key are mounted. `directory` is the Pod's, its volumes filled.
    """
    if any(mount["mountPath"].startswith(SERVERS) for mount in _mounts(container)):
        return FRAME.format(servers=f"include {SERVERS}/*.conf;"), ()
    listen, listens = ["listen 80;", "listen [::]:80;"], [("tcp", 80)]
    if _has_certificate(container, directory):
        listen += ["listen 443 ssl;", "listen [::]:443 ssl;", f"ssl_certificate {TLS}/{CERTIFICATE};"]
        listen.append(f"ssl_certificate_key {TLS}/{KEY};")
        listens.append(("tcp", 443))
    server = DEFAULT_SERVER.format(listen="\n        ".join(listen))
    return FRAME.format(servers=server), tuple(listens)


def _has_certificate(container: Object, directory: Path) -> bool:
    volumes = [m["name"] for m in _mounts(container) if m["mountPath"].rstrip("/") == TLS]
    return any(
        all((place(directory, name) / file).exists() for file in (CERTIFICATE, KEY)) for name in volumes
    )


def _mounts(container: Object) -> list[Object]:
    return container.get("volumeMounts") or []
