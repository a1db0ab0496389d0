"""The matrix with its senders and captures in Pods, called through the API, as on a fleet."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace

from testbed.kernel import features
from testbed.lab.distant import Distant
from testbed.model.offers import SCTP, SERVERS
from testbed.packets import native, scene
from testbed.packets.columns import parse
from testbed.packets.ground import There
from testbed.packets.kept import Kept
from testbed.packets.matrix import Stage
from testbed.packets.verdict import PASSED

CALLS = [sys.executable, "-m", "testbed.cli.main", "fleet", "calls"]
SECONDS = 300


def test_pods_that_are_called_through_the_api_see_what_this_machine_sees() -> None:
    """In a process of its own: a cluster inherits the standard streams of who brings it up."""
    done = subprocess.run(
        [sys.executable, __file__], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["unsettled"] == told["failed"] == []
    assert told["passed"] > 500
    assert told["kept"] == "answered"


def main() -> None:
    columns = parse("iptables", ["iptables"], "*")
    with native.staged("from-pods", columns, "", print) as (site, here), ExitStack() as stack:
        places = dict(here.places)
        for name in SERVERS:
            distant = Distant(site.kubeconfig, scene.pod_of(here.world, name), CALLS)
            ground = There(stack.enter_context(distant))
            places[name] = replace(places[name], ground=ground)
        stage = stack.enter_context(Stage(here.world, places))
        cases = [one for one in columns[0].cases if one.protocol != SCTP or features.has("sctp")]
        unsettled = stage.settle("iptables", {case.service for case in cases})
        verdicts = list(stage.verdicts("iptables", cases))
        from_a_pod = next(one for one in cases if one.actor in SERVERS and one.protocol == "TCP")
        with Kept(stage, from_a_pod) as kept:
            told = {"unsettled": unsettled, "kept": kept.speak()}
        told["failed"] = [one.case for one in verdicts if one.verdict != PASSED]
        told["passed"] = sum(one.verdict == PASSED for one in verdicts)
        print(json.dumps(told))


if __name__ == "__main__":
    main()
