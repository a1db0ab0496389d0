"""Before a mode's speed between machines means anything: Pods and Services reach each other on every machine.

For machines whose names the matrix of `testbed verify` does not know; `pytest benchmarks/fleet` for any. All
nodes run one mode, then the next. Every call is made in a Pod of the node that it is about.
"""

import asyncio
import contextlib

import pytest

from testbed.bench import agents, objects, prober, waiting
from testbed.bench.columns import DEFAULT
from testbed.bench.writing import own_namespace, ready_pods
from testbed.client import Client
from testbed.lab import fleet, fleet_agents
from testbed.lab.distant import Distant
from testbed.model.resources import CONFIG_MAPS, PODS, SERVICES

NAMESPACE = "testbed-check"
DEADLINE = 100.0
PATIENCE = 180.0
TRIES = 10
LABELS = {"app": "backend"}


@pytest.fixture(autouse=True)
def on_the_fleet(record_property):
    record_property("environment", "fleet")


@pytest.fixture(scope="module")
def nodes():
    """The nodes that are Ready, by name."""
    if not fleet.is_up():
        pytest.exit("there is no fleet: `vagrant up`, or `testbed fleet up --inventory FILE`", returncode=2)
    return {one.name: one for one in fleet.members() if one.ready}


@pytest.fixture(scope="module")
def switched(nodes):
    """The agents of all nodes, as they were at the end."""
    with fleet_agents.borrowed(tuple(nodes), print) as found:
        yield found


@pytest.fixture(scope="module")
def scene(nodes):
    """A client and a backend on each node, one Service of all backends; gone at the end."""
    with own_namespace(fleet.KUBECONFIG, NAMESPACE), contextlib.ExitStack() as stack:
        pods, service = asyncio.run(set_up(nodes))
        places = {
            name: stack.enter_context(Distant(fleet.KUBECONFIG, pods[f"client-{name}"], patience=PATIENCE))
            for name in nodes
        }
        backends = [(pods[f"backend-{name}"]["status"]["podIP"], objects.PORT) for name in nodes]
        yield places, backends, service["spec"]


async def set_up(nodes):
    wanted = [objects.pod(f"client-{name}", name, "testbed/echo") for name in nodes]
    wanted += [labelled(objects.pod(f"backend-{name}", name, "nginx")) for name in nodes]
    service = objects.service("backends", type_="NodePort")
    service["spec"]["selector"] = LABELS
    async with Client.from_kubeconfig(fleet.KUBECONFIG) as client:
        await client.create(CONFIG_MAPS, objects.inside(NAMESPACE, objects.config_map()))
        for pod in wanted:
            await client.create(PODS, objects.inside(NAMESPACE, pod))
        made = await client.create(SERVICES, objects.inside(NAMESPACE, service))
        return await ready_pods(client, [pod["metadata"]["name"] for pod in wanted], NAMESPACE), made


def labelled(pod):
    pod["metadata"]["labels"] = LABELS
    return pod


def on_all(places, function, *args):
    """What a call returns in each place, by node; under way in all at once."""
    started = {name: place.start(function, *args) for name, place in places.items()}
    return {name: pending.result() for name, pending in started.items()}


@pytest.mark.feature("D2")
def test_every_node_is_ready_on_its_own_kernel(nodes):
    assert len(nodes) >= 2
    assert all(one.kernel for one in nodes.values())


def test_a_pod_on_every_node_reaches_the_pods_of_every_node(nodes, scene):
    places, backends, _ = scene
    assert on_all(places, waiting.silent, backends, DEADLINE) == {name: [] for name in nodes}


def test_services_work_between_machines(proxy_mode, nodes, switched, scene):
    """The cluster IP, and the node port of every node, from a Pod of every node, again and again."""
    places, _, spec = scene
    switched.set_proxy(proxy_mode)
    addresses = [one.address for one in nodes.values()]
    assert next(iter(places.values())).call(agents.in_charge, addresses, proxy_mode, DEADLINE) == []
    targets = [(spec["clusterIP"], objects.PORT)]
    targets += [(address, spec["ports"][0]["nodePort"]) for address in addresses]
    assert on_all(places, waiting.silent, targets, DEADLINE) == {name: [] for name in nodes}
    taken = on_all(places, prober.new_connections, targets * TRIES)
    assert [one for samples in taken.values() for one in samples if isinstance(one, str)] == []


def pytest_generate_tests(metafunc):
    if "proxy_mode" in metafunc.fixturenames:
        modes = metafunc.config.option.modes
        metafunc.parametrize("proxy_mode", modes.split(",") if modes else DEFAULT)
