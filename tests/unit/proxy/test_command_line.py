"""The flags of `testbed kube-proxy`: what they mean, and the line a user gets for a wrong one."""

from __future__ import annotations

import pytest

from testbed.cli.kube_proxy import options
from testbed.cli.main import main, parser
from testbed.errors import UsageError
from testbed.model.duration import seconds
from testbed.proxy.options import ProxyOptions


@pytest.mark.parametrize(
    ("text", "value"), [("30s", 30), ("500ms", 0.5), ("1m30s", 90), ("1h", 3600), ("0s", 0), ("1.5s", 1.5)]
)
def test_durations(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["30", "s", "1d", "30s ", "-1s", ""])
def test_wrong_durations(text: str) -> None:
    with pytest.raises(UsageError, match="is not a duration"):
        seconds(text)


def test_flags() -> None:
    words = (
        "kube-proxy --proxy-mode ipvs --hostname-override node01 --cluster-cidr 10.244.0.0/16 "
        "--masquerade-all --nodeport-addresses 172.30.0.0/24,127.0.0.0/8 --ipvs-scheduler wlc "
        "--ipvs-sync-period 1m "
        "--ipvs-min-sync-period 1s --iptables-sync-period 5s"
    )
    assert options(parser("kube-proxy").parse_args(words.split()[1:])) == ProxyOptions(
        "node01", "10.244.0.0/16", True, ("172.30.0.0/24", "127.0.0.0/8"), "wlc", 60, 1
    )


@pytest.mark.feature("B9")
def test_each_family_has_its_own_ranges() -> None:
    words = "--cluster-cidr fd00:10:244::/56,10.244.0.0/16 --nodeport-addresses 172.30.0.0/24,fd00:172::/32"
    read = options(parser("kube-proxy").parse_args(words.split()))
    four, six = read.of_family(4), read.of_family(6)
    assert (four.cluster_cidr, six.cluster_cidr) == ("10.244.0.0/16", "fd00:10:244::/56")
    assert (four.nodeport_addresses, six.nodeport_addresses) == (("172.30.0.0/24",), ("fd00:172::/32",))
    one = options(parser("kube-proxy").parse_args(["--nodeport-addresses", "172.30.0.0/24"])).of_family(6)
    assert (one.cluster_cidr, one.nodeport_addresses) == ("", ()), "node ports answer everywhere there"


def test_ipvs_flags() -> None:
    words = (
        "kube-proxy --ipvs-tcp-timeout 15m --ipvs-tcpfin-timeout 10s --ipvs-udp-timeout 1m --ipvs-strict-arp "
        "--ipvs-exclude-cidrs 192.0.2.0/24,2001:db8::/64"
    )
    read = options(parser("kube-proxy").parse_args(words.split()[1:]))
    assert (read.ipvs_tcp_timeout, read.ipvs_tcpfin_timeout, read.ipvs_udp_timeout) == (900, 10, 60)
    assert read.ipvs_strict_arp
    assert read.ipvs_exclude_cidrs == ("192.0.2.0/24", "2001:db8::/64")


def test_command_lines_of_kube_proxy_are_taken() -> None:
    words = "kube-proxy --proxy-mode iptables --conntrack-max-per-core=0 --v=2 --kube-api-qps 50"
    assert options(parser("kube-proxy").parse_args(words.split()[1:])).sync_period == 30


@pytest.mark.parametrize(
    ("mode", "period"), [("iptables", 5), ("userspace", 5), ("ipvs", 60), ("nftables", 7)]
)
def test_each_mode_has_its_own_sync_period(mode: str, period: float) -> None:
    words = f"kube-proxy --proxy-mode {mode} --iptables-sync-period 5s --ipvs-sync-period 1m"
    words += " --nftables-sync-period 7s"
    assert options(parser("kube-proxy").parse_args(words.split()[1:])).sync_period == period


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (
            "--proxy-mode magic",
            "--proxy-mode 'magic' is unknown; choose one of iptables, ipvs, nftables, userspace",
        ),
        ("--proxy-mode iptables", "--kubeconfig is needed; `testbed kubeconfig` prints a running cluster's"),
        (
            "--kubeconfig x --cluster-cidr 10.0.0.1/8",
            "--cluster-cidr '10.0.0.1/8' is not a network in CIDR form: 10.0.0.1/8 has host bits set",
        ),
        (
            "--kubeconfig x --iptables-sync-period 5",
            "'5' is not a duration; write it like 40s, 500ms or 1m30s",
        ),
        (
            "--kubeconfig x --proxy-mode ipvs --ipvs-scheduler best",
            "--ipvs-scheduler 'best' is unknown; choose one",
        ),
    ],
)
def test_wrong_use_is_one_line(capsys: pytest.CaptureFixture[str], flags: str, line: str) -> None:
    assert main(["kube-proxy", *flags.split()]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"testbed kube-proxy: {line}")
