"""What each mode would have the kernel hold for N Services, rendered by the mode itself, as files.

The instruction clock's guest is small: no API server, no agent. It only loads these.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

from testbed.bench.objects import NAMESPACE, PORT, service_name
from testbed.kernel.ruleset import Wanted
from testbed.kernel.xtables import jump_edits, table_edits, transaction
from testbed.model.service import Endpoint, Protocol, Route, ServicePort, Snapshot
from testbed.model.topology import DEFAULT_CLUSTER_CIDR, DEFAULT_SERVICE_CIDR
from testbed.proxy.modes import mode_class
from testbed.proxy.options import ProxyOptions

FIRST_ADDRESS = 256
"""Where in the Service range the benchmark's Services begin: 10.96.1.0."""


def snapshot(services: int, backend: str) -> Snapshot:
    """`services` Services with one endpoint each, `backend`, as a node would see them."""
    route = Route((Endpoint(backend, PORT),))
    ports = {}
    for index in range(services):
        name = service_name(index)
        one = ServicePort(NAMESPACE, name, "http", Protocol.TCP, cluster_ip(index), PORT, cluster=route)
        ports[one.name, one.protocol.value] = one
    return Snapshot(ports)


def cluster_ip(index: int) -> str:
    return str(DEFAULT_SERVICE_CIDR[FIRST_ADDRESS + index])


def restore_text(wanted: Wanted) -> str:
    """The input of iptables-restore for a namespace that has no rules yet."""
    blocks = []
    for table, chains in wanted.tables.items():
        jumps = [jump_edits(chain, (), rules, ()) for chain, rules in wanted.jumps.get(table, {}).items()]
        blocks.append(transaction(table, [*table_edits({}, chains), *jumps]))
    return "".join(blocks)


def _text(state: object) -> bytes:
    assert isinstance(state, Wanted)
    return restore_text(state).encode()


FORMS: Mapping[str, tuple[str, Callable[[object], bytes]]] = {
    "iptables-legacy": ("iptables", _text),
    "iptables-nft": ("iptables", _text),
    "nftables": ("nftables", pickle.dumps),
    "ipvs": ("ipvs", pickle.dumps),
    "userspace": ("userspace", pickle.dumps),
    "userspace-haproxy": ("userspace-haproxy", pickle.dumps),
}
"""Column → the mode that renders it, and how that is written down: as the input of iptables-restore, or as it
is, for the mode's own way into the kernel."""


def write(column: str, services: int, backend: str, file: Path) -> None:
    """Leave the rules of `column` at `services` Services in `file`, in the form that the guest loads."""
    mode, form = FORMS[column]
    options = ProxyOptions(cluster_cidr=str(DEFAULT_CLUSTER_CIDR))
    file.write_bytes(form(mode_class(mode)(options).render(snapshot(services, backend))))
