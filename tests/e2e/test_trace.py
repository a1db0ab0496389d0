"""`testbed trace` and `testbed capture` on a cluster whose nodes run different modes.

Its iptables is the legacy one, which is followed by its counters; nftables mode is by nftrace.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live import TESTBED, Kubectl, running, until
from scapy.layers.inet import TCP
from scapy.utils import rdpcap

NAME = "e2e-trace"

CLUSTER = """\
iptables: legacy
nodes:
- name: node01
  proxyMode: iptables
- name: node02
  proxyMode: nftables
- name: node03
  proxyMode: userspace
"""

WEB = """\
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  nodeName: node01
  containers: [{name: echo, image: testbed/echo, ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
"""


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    directory = tmp_path_factory.mktemp("trace")
    (directory / "cluster.yaml").write_text(CLUSTER)
    with running(NAME, directory, "-f", str(directory / "cluster.yaml")) as cluster:
        kubectl = Kubectl(cluster)
        kubectl("apply", "-f", "-", manifest=WEB)
        kubectl("wait", "pod/web", "--for=condition=Ready", "--timeout=60s")
        until(lambda: trace("node/node03", "svc/default/web")[0] == 0, "the rules are in")
        yield kubectl


def trace(*words: str) -> tuple[int, dict[str, Any]]:
    argv = [*TESTBED, "trace", "--name", NAME, "-o", "json", *words]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, timeout=60, check=False)
    return done.returncode, json.loads(done.stdout)


def rules(found: dict[str, Any], node: str) -> str:
    (way,) = (way for way in found["nodes"] if way["node"] == node)
    return "\n".join(f"{place}: {rule}" for place, rule in way["rules"]) + "\n".join(way["connections"])


@pytest.mark.feature("D9")
def test_each_mode_shows_the_rules_that_the_packet_met(kubectl: Kubectl) -> None:
    shown = {
        "node01": r"KUBE-SERVICES: .*KUBE-SVC-\w+(.|\n)*KUBE-SEP-\w+: .*10\.244\.\d+\.\d+:8080",
        "node02": r"kube-proxy (.|\n)*vmap(.|\n)*dnat(.|\n)*destination translated to 10\.244",
        "node03": r"KUBE-PORTALS-HOST: (.|\n)*destination translated to 172\.30\.0\.13",
    }
    for node, pattern in shown.items():
        code, found = trace(f"node/{node}", "svc/default/web:80")
        assert (code, found["result"]) == (0, "answered")
        assert re.search(pattern, rules(found, node)), rules(found, node)
    code, found = trace("client", "node01:30080")
    assert code == 0
    assert re.search(r"KUBE-NODEPORTS: .*30080", rules(found, "node01"))
    tables = subprocess.run(
        [*TESTBED, "exec", "--name", NAME, "node/node02", "--", "nft", "list", "tables"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    assert "testbed" not in tables, "nothing of it is left"


@pytest.mark.feature("D9")
def test_no_answer_is_exit_code_1_and_nonsense_is_2(kubectl: Kubectl) -> None:
    code, found = trace("pod/default/web", "10.96.77.77:80", "--protocol", "udp")
    assert (code, found["result"]) == (1, "silence")
    for words in (["client", "nowhere"], ["pods/x", "10.96.0.1:443"], ["client", "10.96.0.1"]):
        argv = [*TESTBED, "trace", "--name", NAME, *words]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2, done
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.feature("D10")
def test_capture_writes_what_passes_a_pod(kubectl: Kubectl, tmp_path: Path) -> None:
    file = tmp_path / "web.pcap"
    argv = [
        *TESTBED,
        "capture",
        "--name",
        NAME,
        "pod/default/web",
        "-w",
        str(file),
        "--filter",
        "tcp port 8080",
    ]
    with subprocess.Popen(argv) as capture:
        until(lambda: file.exists() and file.stat().st_size >= 24, "the file has its header")
        assert trace("node/node02", "svc/default/web:80")[0] == 0
        until(lambda: file.stat().st_size > 24, "the packets are in the file")
        capture.send_signal(signal.SIGTERM)
        assert capture.wait(timeout=30) == 0
    ports = {(packet[TCP].sport, packet[TCP].dport) for packet in rdpcap(str(file))}
    assert {to for _, to in ports} >= {8080}
