"""nginx's configuration for the sites. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from testbed.ingress.routes import ANY_HOST, Route, Site

OWN = "default"
"""The name of the certificate that stands in where a site has none."""

FRAME = """\
daemon off;
user www-data;
worker_processes 2;
worker_shutdown_timeout 60s;
pid {directory}/nginx.pid;
error_log stderr;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    server_tokens off;
    server_names_hash_bucket_size 128;
    client_max_body_size 0;
    proxy_http_version 1.1;
    proxy_connect_timeout 5s;
    proxy_next_upstream error timeout;
    proxy_set_header Host $http_host;
    proxy_set_header X-Real-IP $remote_addr;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Host $http_host;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $connection_upgrade;
    map $http_upgrade $connection_upgrade {{ default upgrade; "" close; }}
{body}
}}
"""
"""A request to a Service is a connection of its own, so that the node's rules choose a backend for each."""

SERVER = """\
    server {{
        listen 80{default};
        listen [::]:80{default};
        listen 443 ssl{default};
        listen [::]:443 ssl{default};
        server_name {name};
        ssl_certificate {certificate}.crt;
        ssl_certificate_key {certificate}.key;
{locations}
    }}"""


def configuration(sites: Sequence[Site], certificates: Mapping[str, str], directory: Path) -> str:
    """`certificates`: the name below `directory` of the pair of files for each Secret that holds one."""
    upstreams: dict[tuple[str, ...], str] = {}
    servers = [_server(site, directory / certificates.get(site.secret, OWN), upstreams) for site in sites]
    groups = [_upstream(name, members) for members, name in upstreams.items()]
    return FRAME.format(directory=directory, body="\n".join([*groups, *servers]))


def _upstream(name: str, members: Sequence[str]) -> str:
    return f"    upstream {name} {{ {' '.join(f'server {each};' for each in members)} }}"


def _server(site: Site, certificate: Path, upstreams: dict[tuple[str, ...], str]) -> str:
    def action(servers: tuple[str, ...] | None) -> str:
        if servers is None:
            return "return 404;"
        if not servers:
            return "return 503;"
        return f"proxy_pass http://{upstreams.setdefault(servers, f'service{len(upstreams)}')};"

    places = {match: action(route.servers) for route in _ordered(site.routes) for match in _matches(route)}
    places.setdefault("/", action(site.default))
    return SERVER.format(
        default=" default_server" if site.host == ANY_HOST else "",
        name=_server_name(site.host),
        certificate=certificate,
        locations="\n".join(f"        location {match} {{ {do} }}" for match, do in places.items()),
    )


def _ordered(routes: Sequence[Route]) -> list[Route]:
    """Exact ones last: they have their path also where a prefix names it."""
    return sorted(routes, key=lambda route: route.exact)


def _matches(route: Route) -> list[str]:
    """nginx's locations. A prefix `/a` is /a itself and what is below /a/, and not /ab."""
    if route.exact:
        return [f"= {_quoted(route.path)}"]
    if route.path == "/":
        return ["/"]
    return [f"= {_quoted(route.path)}", _quoted(f"{route.path}/")]


def _quoted(path: str) -> str:
    """As a word of nginx's; a path that is none of plain letters is put in quotes."""
    if re.fullmatch(r"[\w/.~%+@:=-]+", path):
        return path
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _server_name(host: str) -> str:
    """A wildcard stands for one label, which nginx's own would not."""
    if host.startswith("*."):
        return f'"~^[^.]+{re.escape(host[1:])}$"'
    return host or "_"
