"""What libvirt leaves in the host's rules is taken out again, and nothing else: in a namespace of its own."""

from pathlib import Path

import pytest

from testbed.kernel import sysctl
from testbed.kernel.netns import Worker, scratch
from testbed.vm import provider

OWN = (
    "iptables -t nat -N MINE",
    "iptables -t nat -A POSTROUTING -s 192.0.2.0/24 -j MINE",
    "iptables -A INPUT -p tcp --dport 22 -j ACCEPT",
)
LEFT = (
    "iptables -N LIBVIRT_INP",
    "iptables -N LIBVIRT_FWI",
    "iptables -A INPUT -j LIBVIRT_INP",
    "iptables -A FORWARD -j LIBVIRT_FWI",
    "iptables -A LIBVIRT_INP -j LIBVIRT_FWI",
    "iptables -t mangle -N LIBVIRT_PRT",
    "iptables -t mangle -A POSTROUTING -j LIBVIRT_PRT",
    "ip6tables -N LIBVIRT_INP",
    "ip6tables -A INPUT -j LIBVIRT_INP",
)


def run(*commands: str) -> None:
    for command in commands:
        provider._run(command.split())


def come_and_go(room: Path, own: tuple[str, ...], left: tuple[str, ...]) -> tuple[list[str], bool, str, str]:
    """(what could not be put back, whether the rules are as before, forwarding, the configuration)."""
    provider.ROOM, provider.CONFIGURATION = room / "provider", room / "qemu.conf"
    provider.ROOM.mkdir()
    provider.CONFIGURATION.write_text("# as it came\n")
    run(*own)
    sysctl.put("net.ipv4.ip_forward", 0)
    before = [provider._rules(save) for save in provider.SAVES] + provider._nft_tables()
    provider._note()
    assert "cgroup_controllers" in provider.CONFIGURATION.read_text()
    run(*left)
    sysctl.put("net.ipv4.ip_forward", 1)
    told = provider._put_back()
    after = [provider._rules(save) for save in provider.SAVES] + provider._nft_tables()
    return told, before == after, sysctl.get("net.ipv4.ip_forward"), provider.CONFIGURATION.read_text()


@pytest.mark.parametrize("own", [(), OWN])
def test_the_host_is_as_before(tmp_path: Path, own: tuple[str, ...]) -> None:
    with scratch() as netns, Worker(netns) as host:
        told, same, forwarding, configuration = host.call(come_and_go, tmp_path, own, LEFT)
    assert told == []
    assert same
    assert forwarding == "0"
    assert configuration == "# as it came\n"


def test_what_it_cannot_put_back_it_says(tmp_path: Path) -> None:
    with scratch() as netns, Worker(netns) as host:
        told, same, _, _ = host.call(come_and_go, tmp_path, (), ("iptables -A INPUT -s 192.0.2.1 -j DROP",))
    assert not same
    assert told == ["iptables-save prints other rules than before"]
