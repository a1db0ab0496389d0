"""Proxy modes between machines: `vagrant up && pytest benchmarks/fleet`.

All nodes run one mode, then the next: a figure is between the same machines in every mode, and direct is
taken by turns with each. The probes run in Pods, started through the API; backends are on other machines.
"""

import json
import subprocess
import time

import pytest

from testbed.lab import fleet, fleet_ssh
from testbed.proxy.modes import NAMES

MODES = [mode for mode in ("iptables", "ipvs", "nftables", "userspace") if mode in NAMES]
NODE_PORT = 30080
DEADLINE = 240.0
SAMPLES = 40


def kubectl(*words, manifest=None):
    done = subprocess.run(
        ["kubectl", f"--kubeconfig={fleet.KUBECONFIG}", *words],
        input=manifest,
        capture_output=True,
        text=True,
        timeout=DEADLINE + 60,
        check=False,
    )
    assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr.strip()}"
    return done.stdout


def pod(name, node, image):
    container = {"name": "main", "image": image, "ports": [{"containerPort": 80}]}
    spec = {"nodeName": node, "containers": [container], "tolerations": [{"operator": "Exists"}]}
    labels = {"app": image.partition("/")[0]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {**spec, "terminationGracePeriodSeconds": 0},
    }


@pytest.fixture(scope="module")
def nodes():
    """The nodes that are Ready, by name; those that are lost are named and left out."""
    if not fleet.is_up():
        pytest.exit("there is no fleet: `vagrant up`, or `testbed fleet up --inventory FILE`", returncode=2)
    held = fleet.members()
    for one in held:
        print(f"{one.name}: kernel {one.kernel}, {'Ready' if one.ready else 'LOST: ' + one.why}")
    return {one.name: one for one in held if one.ready}


@pytest.fixture(scope="module")
def machines(nodes):
    found = fleet_ssh.machines(fleet.inventory(None))
    chosen = [machine for name, machine in found.items() if name in nodes]
    yield chosen
    for machine in chosen:
        machine.own_proxy()


@pytest.fixture(scope="module")
def scene(nodes):
    """A client on each node, a backend on each, one Service of all; gone at the end."""
    objects = [pod(f"client-{name}", name, "testbed/echo") for name in nodes]
    objects += [pod(f"backend-{name}", name, "nginx") for name in nodes]
    ports = [{"port": 80, "nodePort": NODE_PORT}]
    spec = {"type": "NodePort", "selector": {"app": "nginx"}, "ports": ports}
    objects.append({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec})
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    kubectl("apply", "-f", "-", manifest=text)
    kubectl("wait", "--for=condition=Ready", f"--timeout={DEADLINE:g}s", "pod", "--all")
    listed = json.loads(kubectl("get", "pods,services", "-o", "json"))["items"]
    addresses = {
        one["metadata"]["name"]: one["status"].get("podIP") for one in listed if one["kind"] == "Pod"
    }
    service = next(one for one in listed if one["metadata"]["name"] == "web")
    yield addresses, service["spec"]["clusterIP"]
    kubectl("delete", "--wait=false", "-f", "-", manifest=text)


def probe(client, targets, count):
    words = [word for name, (host, port) in targets.items() for word in ("--target", f"{name}={host}:{port}")]
    told = kubectl("exec", client, "--", "testbed", "fleet", "probe", f"--count={count}", *words)
    return json.loads(told)


@pytest.mark.feature("D2")
def test_every_node_is_ready_on_its_own_kernel(nodes):
    assert len(nodes) >= 2
    assert all(one.kernel for one in nodes.values())


def test_a_pod_on_every_node_reaches_the_pods_of_every_node(nodes, scene):
    addresses, _ = scene
    for name in nodes:
        found = probe(f"client-{name}", {other: (addresses[f"backend-{other}"], 80) for other in nodes}, 1)
        assert all(isinstance(one, list) for samples in found.values() for one in samples), found


@pytest.mark.parametrize("mode", MODES)
def test_services_work_between_machines(mode, nodes, machines, scene, recorded, benchmark):
    """Cluster IP and node port of every node from a Pod of every node; first packet of new connections."""
    addresses, cluster_ip = scene
    for machine in machines:
        machine.set_proxy(mode)
    names = list(nodes)
    for name in names:
        other = names[(names.index(name) + 1) % len(names)]
        targets = {
            "direct": (addresses[f"backend-{other}"], 80),
            "service": (cluster_ip, 80),
            "node port": (nodes[other].address, NODE_PORT),
        }
        started = time.monotonic()
        taken = probe(f"client-{name}", targets, SAMPLES)
        lost = [one for samples in taken.values() for one in samples if not isinstance(one, list)]
        assert not lost, f"{mode} on {name}: {len(lost)} connections failed: {lost[0]}"
        benchmark.extra_info[name] = {
            "kernel": nodes[name].kernel,
            "seconds": round(time.monotonic() - started, 1),
            "first byte, µs": {what: [first for _, first in samples] for what, samples in taken.items()},
        }
    recorded([first for _, first in taken["service"]])
