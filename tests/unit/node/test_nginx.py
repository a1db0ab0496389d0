from __future__ import annotations

from pathlib import Path
from typing import Any

from testbed.node.images import resolve
from testbed.node.nginx import configuration
from testbed.node.volumes import place, write


def container(path: str = "") -> dict[str, Any]:
    mounts = [{"name": "v", "mountPath": path}] if path else []
    return {"name": "c", "image": "nginx", "volumeMounts": mounts}


def test_tls_is_served_when_certificate_and_key_are_mounted(tmp_path: Path) -> None:
    volume = place(tmp_path, "v")
    volume.mkdir(parents=True)
    assert configuration(container("/etc/nginx/ssl"), tmp_path)[1] == (("tcp", 80),)
    write(volume, {"nginx.crt": (b"c", 0o644), "nginx.key": (b"k", 0o600)})
    text, listens = configuration(container("/etc/nginx/ssl/"), tmp_path)
    assert listens == (("tcp", 80), ("tcp", 443))
    assert "listen 443 ssl;" in text
    assert "ssl_certificate_key /etc/nginx/ssl/nginx.key;" in text
    assert configuration(container(), tmp_path)[1] == (("tcp", 80),)


def test_mounted_servers_take_the_place_of_the_default_one(tmp_path: Path) -> None:
    text, listens = configuration(container("/etc/nginx/conf.d"), tmp_path)
    assert "include /etc/nginx/conf.d/*.conf;" in text
    assert ("listen" in text, listens) == (False, ())


def test_a_whole_configuration_is_left_alone(tmp_path: Path) -> None:
    program = resolve(container("/etc/nginx/nginx.conf"), tmp_path)
    assert (program.argv, program.files) == (("nginx", "-g", "daemon off;"), None)
