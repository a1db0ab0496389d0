"""What a kernel can do, found by trying; the generic kernel of the VM can do all of it."""

import subprocess

import pytest

from testbed.errors import UsageError
from testbed.kernel import features


def test_a_feature_is_tried_without_a_trace() -> None:
    before = subprocess.run(["ip", "-o", "link"], capture_output=True, check=True).stdout
    assert features.missing(["root", "netns", "veth", "bridge"]) == []
    assert subprocess.run(["ip", "-o", "link"], capture_output=True, check=True).stdout == before


def test_an_unknown_feature_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown kernel feature 'ipvs': one of root, netns, veth"):
        features.has("ipvs")


@pytest.mark.needs("ip_vs", "dummy", "sctp", "netem")
def test_the_kernel_has_everything() -> None:
    assert features.missing(features.FEATURES) == []


@pytest.mark.needs("ip_vs", "dummy", "sctp", "netem")
def test_modules_load_on_demand() -> None:
    lines = "ip link add name t0 type wireguard && ip link del t0"
    assert subprocess.run(["unshare", "--net", "sh", "-c", lines], check=False).returncode == 0
