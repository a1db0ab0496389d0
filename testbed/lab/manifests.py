"""/etc/kubernetes/manifests on the control plane, where its components are looked up on any cluster.

The control plane's kubelet shows them as static Pods.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from testbed.lab.machine import Machine
from testbed.lab.units import MANIFESTS
from testbed.node.process import Process


def write(machine: Machine, units: Iterable[Process]) -> None:
    """A file for each unit. They tell how it runs; init runs it, so a change of the file changes nothing."""
    directory = machine.root / MANIFESTS
    directory.mkdir(parents=True, exist_ok=True)
    for unit in units:
        text = yaml.safe_dump(manifest(unit), sort_keys=False, width=1000)
        (directory / f"{unit.id}.yaml").write_text(text)


def manifest(unit: Process) -> dict[str, Any]:
    """The static Pod that the unit would be."""
    container = {
        "command": [unit.id, *unit.argv[2:]],
        "image": f"testbed/{unit.id}",
        "name": unit.id,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "labels": {"component": unit.id, "tier": "control-plane"},
            "name": unit.id,
            "namespace": "kube-system",
        },
        "spec": {
            "containers": [container],
            "hostNetwork": True,
            "priorityClassName": "system-node-critical",
        },
    }
