"""From a CLUSTER.yaml to the ranges of each family."""

from pathlib import Path

import pytest

from testbed.lab.spec import load, resolve
from testbed.model.families import listed


@pytest.mark.parametrize(
    ("text", "pods", "services"),
    [
        ("", "10.244.0.0/16,fd00:10:244::/56", "10.96.0.0/12,fd00:10:96::/112"),
        ("clusterCIDR: 10.1.0.0/16", "10.1.0.0/16", "10.96.0.0/12"),
        ("serviceClusterIPRange: fd00:1::/112", "fd00:10:244::/56", "fd00:1::/112"),
        (
            "clusterCIDR: ['fd00:2::/56', 10.1.0.0/16]",
            "fd00:2::/56,10.1.0.0/16",
            "fd00:10:96::/112,10.96.0.0/12",
        ),
    ],
)
@pytest.mark.feature("B9")
def test_what_is_left_out_has_the_families_of_what_is_given(
    tmp_path: Path, text: str, pods: str, services: str
) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(f"name: x\n{text}\n")
    spec = resolve(load(str(file)), ("iptables",))
    assert (listed(spec.cluster_cidrs), listed(spec.service_cidrs)) == (pods, services)
