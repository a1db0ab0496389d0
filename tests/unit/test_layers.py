"""Imports run downwards only: cli, what drives, components, the client, the kernel, the model."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import testbed

PACKAGE = Path(testbed.__file__).parent

LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"cli"}),
    frozenset({"bench", "lab", "packets", "vm"}),
    frozenset({"node", "proxy", "controllers", "dns", "ingress", "api"}),
    frozenset({"client"}),
    frozenset({"kernel"}),
    frozenset({"model"}),
    frozenset({"errors"}),
)
"""From top to bottom. A package may import those below it, itself, and neighbours in its own row."""

FORBIDDEN = {("api", "kernel"), ("proxy", "api"), ("api", "proxy")}
"""The API server knows no kernel; the proxy works with any API server, so it knows only the protocol."""

FORKED = {("node/spawn.py", "cli")}
"""The one upward step: init forks the project's own components, which are verbs of the command line."""


def imports() -> Iterator[tuple[str, str]]:
    """(file below the package, package it imports), for every import of the project's own."""
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                parts = name.split(".")
                if parts[0] == "testbed" and len(parts) > 1:
                    yield str(file.relative_to(PACKAGE)), parts[1]


def row(package: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if package in layer)


def upward(file: str, imported: str) -> bool:
    package = file.split("/")[0].removesuffix(".py")
    if package in ("__init__", "errors"):
        return imported != package
    return row(imported) < row(package) or (package, imported) in FORBIDDEN


def test_imports_run_downwards() -> None:
    found = sorted({(file, to) for file, to in imports() if upward(file, to)} - FORKED)
    assert found == []


@pytest.mark.parametrize(
    ("file", "imported"),
    [
        ("model/a.py", "kernel"),
        ("client/a.py", "api"),
        ("api/a.py", "kernel"),
        ("proxy/a.py", "api"),
        ("kernel/a.py", "lab"),
        ("lab/a.py", "cli"),
    ],
)
def test_the_rule_sees_a_step_upwards(file: str, imported: str) -> None:
    assert upward(file, imported)


def test_every_package_has_a_row() -> None:
    packages = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert packages <= frozenset().union(*LAYERS)
