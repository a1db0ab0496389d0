"""What the testbed promises, row by row, and which tests hold it.

A test names its rows: `@pytest.mark.feature("A4", "B7")`; a module does so for all its tests in `pytestmark`.
`make features` writes docs/features.md from that.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "features.md"
DIRECTORIES = ("tests", "benchmarks")
MARKER = "pytest.mark.feature"

ROWS = {
    "Services and Pods": {
        "A1": "A Pod is a network namespace with an address of its own, made by a CNI plugin; its containers "
        "share localhost",
        "A2": "Pods reach each other on all nodes without translation: the receiver sees who sent",
        "A3": "A Pod that dies is replaced under a new address; the Service keeps its own and answers",
        "A4": "ClusterIP: from the Service range, reached from every Pod and node; nothing listens on it",
        "A5": "NodePort on every node, from its range, chosen or given out, reached from outside",
        "A6": "LoadBalancer: an address from a pool, told in the status a moment later, reached from outside",
        "A7": "ExternalName: a CNAME and no rules",
        "A8": "externalIPs",
        "A9": "Headless Services: no address, no rules; DNS names the Pods, or the hand-written endpoints",
        "A10": "Services without a selector, with hand-written Endpoints or EndpointSlices",
        "A11": "Several ports in one Service, which then need names",
        "A12": "targetPort by number and by name, a name resolved in each Pod",
        "A13": "A cluster IP of the user's choice; one that is malformed, out of range or taken is refused",
        "A14": "Ranges of Pods and Services that overlap are refused",
        "A15": "All proxy modes; a live node is switched from one to another, nothing is left of the first",
        "A16": "iptables mode writes the chains that everybody knows, named and commented as kube-proxy does",
        "A17": "IPVS with each of its schedulers; what was changed by hand is repaired",
        "A18": "userspace mode: a port for each Service, a rule that leads there, round robin",
        "A19": "Environment variables of the Services that are older than the Pod",
        "A20": "DNS by the Kubernetes specification, and a resolv.conf that finds short names",
        "A21": "The agents' logs, on the node and by kubectl, name the proxier and the Services",
        "A22": "The API server's command line and manifest show the ranges; kube-proxy is a DaemonSet",
        "A23": "kubectl as it is, for all that one does in a day",
        "A24": "nginx with TLS from a Secret, through the node port, with the right certificate",
        "A25": "Ingress: host and path rules, TLS from a Secret, served by nginx in a Pod",
    },
    "What service proxies do besides": {
        "B1": "UDP and SCTP as well as TCP; one port for two protocols",
        "B2": "Session affinity with its timeout, switched on and off while in use",
        "B3": "Internal and external traffic policy; the client's address kept with Local; health checks",
        "B4": "Source ranges of load balancers; their addresses from inside; ipMode Proxy",
        "B5": "Endpoints on their way out as the last resort; publishNotReadyAddresses; readiness by probes",
        "B6": "No endpoint: refused at once; none on this node under policy Local: dropped",
        "B7": "A Pod reaches itself through its Service",
        "B8": "Masquerading where it must be and nowhere else; the mark does not leak",
        "B9": "IPv6 and dual stack",
        "B10": "Topology: trafficDistribution and hints",
        "B11": "Connection tracking forgets UDP flows to endpoints that went",
        "B12": "Services of another proxy, and headless ones, are left alone",
        "B13": "Health and metrics under kube-proxy's names",
        "B14": "One changed Service touches its own rules only",
        "B15": "IPVS: established connections outlive the removal of their endpoint",
    },
    "The API": {
        "C1": "Clients that know nothing of the testbed: kubectl, the official Python client, client-go",
        "C2": "All verbs, patches, selectors, watches, conflicts, finalizers, owners, dry runs, subresources",
        "C3": "The kinds that such a cluster needs",
        "C4": "Discovery, OpenAPI, tables",
        "C5": "Validation in Kubernetes' own words",
        "C6": "The state survives a kill; no acknowledged write is lost; watches resume",
        "C7": "TLS from the cluster's own authority, tokens, client certificates, RBAC",
    },
    "The testbed": {
        "D1": "One command up, one down; nothing left; the machine as it was",
        "D2": "The same on machines provisioned by Ansible",
        "D3": "What this kernel lacks runs in a small VM, and says so",
        "D4": "The correctness matrix: captured packets against an oracle that knows no mode",
        "D5": "A proxy of one's own in the agents' place",
        "D6": "Benchmarks of the modes, interleaved, with confidence intervals",
        "D7": "A clock of instructions that repeats",
        "D8": "Results as JSON, tables and one page; two runs compared",
        "D9": "The way of a packet, rule by rule",
        "D10": "Captures of nodes and Pods, also when a test fails",
        "D11": "Faults on purpose, and what survives them",
    },
}


def row_names() -> list[str]:
    return [name for rows in ROWS.values() for name in rows]


def held(root: Path = ROOT) -> dict[str, list[str]]:
    """For each row the tests that name it, `tests/…/test_x.py::test_y`, or the file if all of it does."""
    found: dict[str, list[str]] = {}
    files = sorted(file for directory in DIRECTORIES for file in (root / directory).rglob("test_*.py"))
    for file in files:
        for test, rows in marked(ast.parse(file.read_text())):
            where = f"{file.relative_to(root)}{test and '::'}{test}"
            for row in rows:
                found.setdefault(row, []).append(where)
    return found


def marked(tree: ast.Module) -> Iterator[tuple[str, list[str]]]:
    """(test, rows); "" for the whole module."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, [row for mark in node.decorator_list for row in _rows(mark)]
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            yield "", _rows(node.value)


def _rows(expression: ast.expr) -> list[str]:
    calls = [each for each in ast.walk(expression) if isinstance(each, ast.Call)]
    marks = [call for call in calls if ast.unparse(call.func) == MARKER]
    return [ast.literal_eval(argument) for mark in marks for argument in mark.args]


def document() -> str:
    """docs/features.md."""
    tests = held()
    parts = [
        "# What holds, and which test shows it",
        "Written by `make features` from the markers of the tests; `pytest FILE::TEST` runs one of them.",
    ]
    for title, rows in ROWS.items():
        lines = ["| | what must hold | tests |", "|---|---|---|"]
        for name, words in rows.items():
            links = "<br>".join(_link(each) for each in tests.get(name, []))
            lines.append(f"| {name} | {words} | {links or '–'} |")
        parts += [f"## {title}", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _link(test: str) -> str:
    file, _, name = test.partition("::")
    return f"[{name or Path(file).name}](../{file})"


if __name__ == "__main__":
    DOCUMENT.write_text(document())
