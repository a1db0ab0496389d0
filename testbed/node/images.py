"""What runs for an image: there is no container engine, a name maps to a program on this machine."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from testbed.errors import TestbedError, UsageError
from testbed.kernel import features
from testbed.node import nginx
from testbed.node.process import Mount

Object = dict[str, Any]


class ImageError(TestbedError):
    """The image cannot run here."""


@dataclass(frozen=True)
class Program:
    """What is started for a container.

    listens  ports, `("tcp", 80)`, that it will have open when it is up; empty where that is not known
    files    written into the Pod's directory before the start, by name
    notice   what the user should know about the choice, for an Event
    unit     a program of the machine's init that runs already: the container stands for it
    """

    argv: tuple[str, ...]
    listens: tuple[tuple[str, int], ...] = ()
    files: Mapping[str, str] | None = None
    mounts: tuple[Mount, ...] = ()
    stop_signal: str = "SIGTERM"
    notice: str = ""
    unit: str = ""


def _echo(container: Object, _: Path) -> Program:
    words = [str(word) for word in container.get("args") or _port_flags(container)]
    return Program(("testbed", "echo", *words), _flagged(words))


def _nginx(container: Object, directory: Path) -> Program:
    if not shutil.which("nginx"):
        raise ImageError("image nginx needs nginx on this machine; install nginx-light")
    args = [str(word) for word in container.get("args") or ()]
    argv: tuple[str, ...] = ("nginx", "-g", "daemon off;", *args)
    files: dict[str, str] | None = None
    listens: nginx.Listens = ()
    if not nginx.brings_all(container):
        file = f"{container['name']}.nginx.conf"
        text, listens = nginx.configuration(container, directory)
        argv, files = ("nginx", "-c", str(directory / file), *args), {file: text}
    return Program(
        argv,
        listens=listens,
        files=files,
        mounts=(Mount("tmpfs", "/var/lib/nginx", kind="tmpfs"),),
        stop_signal="SIGQUIT",
    )


def _dns(container: Object, _: Path) -> Program:
    words = [str(word) for word in container.get("args") or ()]
    return Program(("testbed", "dns", *words), (("tcp", 53), ("udp", 53)))


def _ingress(container: Object, _: Path) -> Program:
    words = [str(word) for word in container.get("args") or ()]
    mounts = (Mount("tmpfs", "/var/lib/nginx", kind="tmpfs"),)
    return Program(("testbed", "ingress", *words), (("tcp", 80), ("tcp", 443)), mounts=mounts)


def _unit(name: str) -> Program:
    return Program((name,), unit=name)


def _agnhost(container: Object, _: Path) -> Program:
    return Program(("testbed", "agnhost", *(str(word) for word in container.get("args") or ("pause",))))


def _pause(_: Object, __: Path) -> Program:
    return Program(("testbed", "agnhost", "pause"))


def _curl(container: Object, _: Path) -> Program:
    return Program(("curl", *(str(word) for word in container.get("args") or ())))


def _busybox(container: Object, _: Path) -> Program:
    if not shutil.which("busybox"):
        raise ImageError("image busybox needs busybox on this machine; install it")
    return Program(tuple(str(word) for word in container.get("args") or ("sh",)))


def _stand_in(container: Object, directory: Path) -> Program:
    words = _port_flags(container)
    notice = (
        f"image {container['image']!r} maps to no program on this machine: "
        f"the built-in echo stands in, {' '.join(words)}; map it with --image GLOB=PATH"
    )
    return Program(("testbed", "echo", *words), _flagged(words), notice=notice)


IMAGES: tuple[tuple[str, Callable[[Object, Path], Program]], ...] = (
    ("testbed/echo", _echo),
    ("testbed/dns", _dns),
    ("testbed/ingress", _ingress),
    ("nginx", _nginx),
    ("nginx-*", _nginx),
    ("*nginxhttps", _nginx),
    ("*agnhost*", _agnhost),
    ("pause", _pause),
    ("busybox", _busybox),
    ("alpine", _busybox),
    ("curlimages/curl", _curl),
)
"""Globs over the image's name without registry and tag, first match wins; anything else gets the stand-in."""


UNITS = "testbed/kube-*"
"""Images of components that the machine's init runs, whatever the Pod says how."""

ASKING = ("busybox", "*agnhost*", "curl*", "*/curl", "alpine")
"""Images whose programs are the user's to choose."""


def parse_mapping(text: str) -> tuple[str, str]:
    """`GLOB=PATH` of --image. Raises UsageError."""
    glob, equals, path = text.rpartition("=")
    if not equals or not glob or not path:
        raise UsageError(f"--image {text!r} is not GLOB=PATH")
    return glob, path


def resolve(container: Object, directory: Path, mapped: Sequence[tuple[str, str]] = ()) -> Program:
    """The program for a container of a Pod whose files are in `directory`. Raises ImageError.

    `command` replaces the program; an image that the user mapped gets `args` appended to its path.
    """
    image = str(container.get("image") or "")
    if fnmatchcase(plain_name(image), UNITS):
        return _unit(plain_name(image).removeprefix("testbed/"))
    if container.get("command"):
        words = [str(word) for word in (*container["command"], *(container.get("args") or ()))]
        if words[0] in ("/agnhost", "agnhost"):
            words[:1] = ["testbed", "agnhost"]
        return Program(tuple(words), _flagged(words[2:]) if words[:2] == ["testbed", "echo"] else ())
    for glob, path in mapped:
        if fnmatchcase(image, glob) or fnmatchcase(plain_name(image), glob):
            if not shutil.which(path):
                raise ImageError(f"image {image!r} is mapped to {path}, which is not a program here")
            return Program((path, *(container.get("args") or ())))
    for glob, program in IMAGES:
        if fnmatchcase(plain_name(image), glob):
            return program(container, directory)
    return _stand_in(container, directory)


def may_ask_the_api(container: Object, mapped: Sequence[tuple[str, str]]) -> bool:
    """Whether the program may look for its service account: ours, and nginx, never do."""
    name = plain_name(str(container.get("image") or ""))
    known = any(fnmatchcase(name, glob) for glob, _ in mapped) or any(
        fnmatchcase(name, glob) for glob in ASKING
    )
    return not fnmatchcase(name, UNITS) and (bool(container.get("command")) or known)


def plain_name(image: str) -> str:
    """`docker.io/library/nginx:1.25@sha256:…` -> `nginx`; `testbed/echo:1` -> `testbed/echo`."""
    name = image.partition("@")[0]
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        name = rest
    return name.removeprefix("library/").partition(":")[0]


def _port_flags(container: Object) -> list[str]:
    """A flag for each port that the container declares; SCTP is left out where the kernel has none."""
    spoken = ("tcp", "udp", "sctp") if features.has("sctp") else ("tcp", "udp")
    flags = []
    for port in container.get("ports") or ():
        protocol = port.get("protocol", "TCP").lower()
        if protocol in spoken:
            flags.append(f"--{protocol}={port['containerPort']}")
    return flags


def _flagged(words: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """The ports that echo's flags name; an `--http` is a `--tcp`."""
    found = []
    joined = " ".join(words).replace("--http", "--tcp").replace("=", " ").split()
    for flag, value in itertools.pairwise(joined):
        if flag in ("--tcp", "--udp") and value.isdigit():
            found.append((flag[2:], int(value)))
    return tuple(found) if words else (("tcp", 8080),)
