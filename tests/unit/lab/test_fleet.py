"""What a user can get wrong with a fleet: one line each, with the remedy."""

from __future__ import annotations

import multiprocessing
import socket
import time
from pathlib import Path

import pytest

from testbed.errors import TestbedError, UsageError
from testbed.lab import fleet
from testbed.lab.bootstrap import kubeconfig

ADDRESSES = (("Hostname", "one"), ("InternalIP", "192.0.2.1"), ("InternalIP", "2001:db8::1"))
GOOD = "[control_plane]\none\n[nodes]\ntwo\n"


@pytest.fixture(autouse=True)
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(fleet, "ROOM", tmp_path / "room")
    monkeypatch.setattr(fleet, "VAGRANT", tmp_path / "vagrant")
    monkeypatch.setattr(fleet, "KUBECONFIG", tmp_path / "room/admin.kubeconfig")
    return tmp_path


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("vagrant@192.0.2.1: Permission denied (publickey).", "ansible_ssh_private_key_file"),
        ("ssh: connect to host 192.0.2.1 port 22: Connection timed out", "is it up"),
        ("ssh: connect to host 192.0.2.1 port 22: Connection refused", "is it up"),
        ("", "is it up"),
        ("ssh: Could not resolve hostname nowhere", "ansible_host"),
        ("Task failed: SSH password was requested, but none specified", "ansible_ssh_private_key_file"),
        ("Host key verification failed.", "ssh-keygen -R one"),
        ("Timeout (12s) waiting for privilege escalation prompt:", "sudoers"),
    ],
)
def test_what_ssh_says_becomes_what_to_do(said: str, remedy: str) -> None:
    error = fleet.unreachable("one", said)
    assert str(error).startswith("one: ")
    assert remedy in str(error)
    assert "\n" not in str(error)
    assert error.exit_code == 2


def test_an_old_system_is_used_wrongly_and_a_failure_is_not() -> None:
    old = fleet._failed("one", "Refuse", {"msg": "needs Debian 12, or newer; this is Debian 11"})
    assert isinstance(old, UsageError)
    broken = fleet._failed("one", "Start them", {"msg": "non-zero", "stderr": "a\nno such unit\n"})
    assert not isinstance(broken, UsageError)
    assert str(broken) == "one: Start them: no such unit"


def test_without_machines_it_says_how_to_get_some(room: Path) -> None:
    with pytest.raises(UsageError, match="vagrant up"):
        fleet.inventory(None)
    with pytest.raises(UsageError, match="no inventory"):
        fleet.inventory(room / "nowhere.ini")
    (room / "vagrant").write_text(GOOD)
    assert fleet.inventory(None) == room / "vagrant"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[nodes]\ntwo\n", "0 in control_plane, 1 in nodes"),
        ("[control_plane]\none\ntwo\n[nodes]\nthree\n", "2 in control_plane, 1 in nodes"),
        ("[control_plane]\none\n", "1 in control_plane, 0 in nodes"),
    ],
)
def test_an_inventory_has_one_control_plane_and_nodes(room: Path, text: str, told: str) -> None:
    (room / "machines.ini").write_text(text)
    with pytest.raises(UsageError, match=told):
        fleet.machines(room / "machines.ini")


def test_an_inventory_is_read_by_groups(room: Path) -> None:
    (room / "machines.ini").write_text(GOOD)
    assert fleet.machines(room / "machines.ini") == {"control_plane": ["one"], "nodes": ["two"]}


def hold(room: Path, ready: object, done: object) -> None:
    fleet.ROOM = room
    with fleet.locked():
        ready.set()  # type: ignore[attr-defined]
        done.wait(60)  # type: ignore[attr-defined]


def test_two_runs_at_once_are_refused() -> None:
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=hold, args=(fleet.ROOM, ready, done))
    other.start()
    try:
        assert ready.wait(60)
        with pytest.raises(UsageError, match="another run"), fleet.locked():
            pass
    finally:
        done.set()
        other.join()
    with fleet.locked():
        pass


def test_without_a_fleet_there_is_none() -> None:
    assert not fleet.is_up()
    assert fleet.standing() == ([], "")
    with pytest.raises(UsageError, match="there is no fleet"):
        fleet.members()


def test_a_silent_api_server_is_no_fleet() -> None:
    remember("http://127.0.0.1:9")
    with pytest.raises(TestbedError, match=r"does not answer: 127\.0\.0\.1:9: Connection refused; is its"):
        fleet.members()
    assert not fleet.is_up()


def test_a_machine_that_is_gone_is_found_out_soon() -> None:
    """Its address takes a SYN and says nothing, as a listener does whose queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        remember(f"http://{address[0]}:{address[1]}")
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(address)
        began = time.monotonic()
        nodes, why = fleet.standing()
        took = time.monotonic() - began
        for one in waiting:
            one.close()
    assert nodes == []
    assert f"does not answer: nothing at 127.0.0.1:{address[1]} in 2 s" in why
    assert took < 3.0


def remember(server: str) -> None:
    """This checkout has had a fleet whose API server was there."""
    fleet.ROOM.mkdir()
    fleet.KUBECONFIG.write_text(kubeconfig(server, b"", "a.b"))


def test_a_node_has_the_address_of_its_primary_family() -> None:
    addresses = [{"type": kind, "address": text} for kind, text in ADDRESSES]
    labels = {"node-role.kubernetes.io/control-plane": ""}
    node = {"metadata": {"name": "one", "labels": labels}, "spec": {}, "status": {"addresses": addresses}}
    member = fleet._member(node)
    assert (member.address, member.control_plane, member.ready) == ("192.0.2.1", True, False)
