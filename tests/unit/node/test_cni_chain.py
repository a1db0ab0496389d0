from __future__ import annotations

import asyncio
import json
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import pytest

from testbed.errors import TestbedError, UsageError
from testbed.node.cni import CniError, Network, Sandbox, configure
from testbed.node.ipam import Addresses
from testbed.node.runtime import Finished, Process, Runtime

POD = Sandbox("id", "/run/netns/pod-id", "K8S_POD_NAME=p")


class Recorded(Runtime):
    """Answers as told, and keeps what was asked."""

    def __init__(self, answers: list[tuple[int, Any]]) -> None:
        super().__init__("/nonexistent")
        self.answers = answers
        self.asked: list[tuple[str, str, dict[str, Any]]] = []

    async def run(self, process: Process, stdin: bytes = b"", timeout: float = 10.0) -> Finished:
        command = (process.env or {})["CNI_COMMAND"]
        self.asked.append((command, process.argv[-1], json.loads(stdin)))
        code, answer = self.answers.pop(0)
        return Finished(code, json.dumps(answer).encode() if answer else b"", b"")


def network(tmp_path: Path, runtime: Runtime, *types: str) -> Network:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "other").touch()
    plugins = [{"type": name} for name in types]
    document = {"cniVersion": "1.0.0", "name": "net", "plugins": plugins}
    (tmp_path / "10-net.conflist").write_text(json.dumps(document))
    return Network(tmp_path, [programs], runtime)


@pytest.mark.feature("A1")
def test_each_plugin_gets_the_result_of_the_one_before(tmp_path: Path) -> None:
    runtime = Recorded([(0, {"ips": [1]}), (0, {"ips": [2]})])
    made = asyncio.run(network(tmp_path, runtime, "testbed-bridge", "other").add(POD))
    assert made == {"ips": [2]}
    assert [(command, program) for command, program, _ in runtime.asked] == [
        ("ADD", "cni"),
        ("ADD", str(tmp_path / "bin" / "other")),
    ]
    assert runtime.asked[0][2] == {"type": "testbed-bridge", "cniVersion": "1.0.0", "name": "net"}
    assert runtime.asked[1][2]["prevResult"] == {"ips": [1]}


def test_a_failed_chain_is_undone_in_reverse_and_told_in_the_plugins_words(tmp_path: Path) -> None:
    runtime = Recorded([(0, {"ips": []}), (1, {"code": 100, "msg": "no more"}), (0, None), (0, None)])
    with pytest.raises(CniError, match="other failed to ADD: no more"):
        asyncio.run(network(tmp_path, runtime, "testbed-bridge", "other").add(POD))
    assert [command for command, _, _ in runtime.asked] == ["ADD", "ADD", "DEL", "DEL"]
    assert runtime.asked[2][1].endswith("other")


def test_a_missing_plugin_or_configuration_is_said(tmp_path: Path) -> None:
    with pytest.raises(CniError, match="'gone' is not in"):
        asyncio.run(network(tmp_path, Recorded([]), "gone").add(POD))
    (tmp_path / "10-net.conflist").unlink()
    with pytest.raises(CniError, match=r"put a \.conflist into"):
        asyncio.run(Network(tmp_path, tmp_path, Recorded([])).add(POD))


def test_our_own_configuration_is_written_only_where_there_is_none(tmp_path: Path) -> None:
    configure(tmp_path, [IPv4Network("10.244.1.0/24")])
    (file,) = tmp_path.iterdir()
    first = file.read_text()
    plugin = json.loads(first)["plugins"][0]
    assert (plugin["type"], plugin["ipam"]["ranges"]) == ("testbed-bridge", [[{"subnet": "10.244.1.0/24"}]])
    configure(tmp_path, [IPv4Network("10.244.2.0/24")])
    assert [each.read_text() for each in tmp_path.iterdir()] == [first]


def test_a_conf_list_of_the_users_gets_the_nodes_ranges_where_it_names_none(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text('{"name": "mine", "type": "bridge", "ipam": {"type": "host-local"}}')
    configure(tmp_path / "net.d", [IPv4Network("10.244.1.0/24")], str(file))
    document = json.loads((tmp_path / "net.d" / "10-mine.conflist").read_text())
    assert document["plugins"][0]["ipam"]["ranges"] == [[{"subnet": "10.244.1.0/24"}]]
    file.write_text('{"plugins": [{"type": "bridge"}]}')
    with pytest.raises(UsageError, match="name"):
        configure(tmp_path / "other", [IPv4Network("10.244.1.0/24")], str(file))


def test_host_ports_go_to_the_plugins_that_can(tmp_path: Path) -> None:
    runtime = Recorded([(0, {"ips": [1]}), (0, None)])
    one = network(tmp_path, runtime, "testbed-bridge", "other")
    file = tmp_path / "10-net.conflist"
    document = json.loads(file.read_text())
    document["plugins"][1]["capabilities"] = {"portMappings": True}
    file.write_text(json.dumps(document))
    ports = ({"hostPort": 80, "containerPort": 8080, "protocol": "tcp", "hostIP": ""},)
    asyncio.run(one.add(Sandbox("id", "/run/netns/pod-id", ports=ports)))
    given = [config.get("runtimeConfig") for _, _, config in runtime.asked]
    assert given == [None, {"portMappings": list(ports)}]


def test_addresses_go_round_and_come_back(tmp_path: Path) -> None:
    addresses = Addresses(tmp_path, [IPv4Network("10.0.0.0/29")])
    given = [addresses.reserve(name, "eth0") for name in "abcde"]
    assert given == [[IPv4Address(f"10.0.0.{n}")] for n in range(2, 7)]
    assert addresses.reserve("b", "eth0") == given[1]
    with pytest.raises(TestbedError, match="no address is left"):
        addresses.reserve("f", "eth0")
    addresses.release("b", "eth0")
    addresses.release("b", "eth0")
    assert addresses.reserve("f", "eth0") == given[1]
    assert addresses.holder(given[1][0]) == "f"


def test_an_address_given_back_is_not_the_next_one_given(tmp_path: Path) -> None:
    addresses = Addresses(tmp_path, [IPv4Network("10.0.0.0/29")])
    first = addresses.reserve("a", "eth0")
    addresses.release("a", "eth0")
    assert addresses.reserve("b", "eth0") != first


def test_each_range_gives_an_address_or_none_does(tmp_path: Path) -> None:
    addresses = Addresses(tmp_path, [IPv6Network("fd00:10:244:1::/64"), IPv4Network("10.0.0.0/30")])
    given = [IPv6Address("fd00:10:244:1::2"), IPv4Address("10.0.0.2")]
    assert addresses.reserve("a", "eth0") == given
    with pytest.raises(TestbedError, match=r"no address is left in 10\.0\.0\.0/30"):
        addresses.reserve("b", "eth0")
    assert [addresses.holder(one) for one in given] == ["a", "a"]
    assert addresses.holder(IPv6Address("fd00:10:244:1::3")) == ""
