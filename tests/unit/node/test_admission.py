from __future__ import annotations

from typing import Any

import pytest

from testbed.node.admission import refusal


def pod(*ports: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "c", "ports": list(ports)}], **spec}}


WEB = {"containerPort": 8080, "hostPort": 80}


@pytest.mark.parametrize(
    ("other", "refused"),
    [
        (pod(WEB), True),
        (pod({**WEB, "hostIP": "172.30.0.11"}), True),
        (pod({"containerPort": 80}, hostNetwork=True), True),
        (pod({**WEB, "protocol": "UDP"}), False),
        (pod({**WEB, "hostPort": 81}), False),
        (pod({"containerPort": 80}), False),
    ],
)
def test_a_port_of_the_node_is_one_pods(other: dict[str, Any], refused: bool) -> None:
    told = refusal(pod(WEB), [pod(), other])
    assert (told is not None) == refused
    assert told is None or told[0] == "NodePorts"


def test_two_addresses_have_a_port_each() -> None:
    assert refusal(pod({**WEB, "hostIP": "10.0.0.1"}), [pod({**WEB, "hostIP": "10.0.0.2"})]) is None
