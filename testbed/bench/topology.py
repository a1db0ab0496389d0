"""The picture of what was measured: clients on a node for each mode, one underlay, the backends' node."""

from __future__ import annotations

from testbed.bench.columns import DIRECT
from testbed.bench.record import Run
from testbed.bench.svg import element, text, title

WIDTH = 480
ROW = 58
LEFT_BOX, NODE, BRIDGE, RIGHT_BOX = 8, 240, 272, 316
HOW = {
    DIRECT: "no proxy",
    "iptables": "DNAT, list of rules",
    "iptables-legacy": "DNAT, list of rules",
    "iptables-nft": "DNAT, list of rules",
    "ipvs": "IPVS, hash table",
    "nftables": "DNAT, verdict map",
    "userspace": "proxy process",
    "userspace-haproxy": "HAProxy",
}
OWN = "your own command"


def picture(run: Run) -> str:
    """One row a mode at the left, the bridge of the underlay in the middle, the backends at the right."""
    height = ROW * len(run.modes) + 34
    middle = ROW * len(run.modes) / 2
    parts = []
    for number, mode in enumerate(run.modes):
        y = number * ROW + 4.0
        parts.append(_node(mode, y))
        parts.append(element("line", x1=LEFT_BOX + NODE, x2=BRIDGE, y1=y + 23, y2=y + 23, class_="wire"))
    parts.append(
        element("rect", x=BRIDGE, y=4, width=12, height=ROW * len(run.modes) - 12, rx=4, class_="bridge")
    )
    parts.append(text("underlay bridge", BRIDGE + 6, height - 22.0, "small", "middle"))
    parts.append(element("line", x1=BRIDGE + 12, x2=RIGHT_BOX, y1=middle, y2=middle, class_="wire"))
    parts.append(element("rect", x=RIGHT_BOX, y=middle - 42, width=156, height=84, rx=8, class_="box"))
    parts.append(text("node server", RIGHT_BOX + 78, middle - 24, "strong", "middle"))
    backends = run.method.get("backends", 1)
    for number in range(min(backends, 2)):
        y = middle - 14 + number * 25
        parts.append(element("rect", x=RIGHT_BOX + 18, y=y, width=120, height=21, rx=5, class_="pod"))
        parts.append(text("Pod nginx", RIGHT_BOX + 78, y + 15, "small", "middle"))
    return element(
        "svg",
        title(
            "Topology: a client Pod on a node for each mode, the underlay, backends on a node of their own"
        ),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {height}",
        role="img",
        class_="plot topology",
    )


def _node(mode: str, y: float) -> str:
    return element(
        "g",
        title(f"node {mode}: client Pod, {HOW.get(mode, OWN)}"),
        element("rect", x=LEFT_BOX, y=y, width=NODE, height=46, rx=8, class_="box"),
        element("rect", x=LEFT_BOX + 8, y=y + 12, width=74, height=22, rx=5, class_="pod"),
        text("Pod client", LEFT_BOX + 45, y + 27, "small", "middle"),
        text(mode, LEFT_BOX + 90, y + 20, f"strong c-{mode}"),
        text(HOW.get(mode, OWN), LEFT_BOX + 90, y + 36, "small"),
    )


def between(run: Run) -> str:
    """Two machines of a fleet: the client's at the left with the modes it ran, the backends' at the right."""
    modes = [mode for mode in run.modes if mode != DIRECT]
    height = 18.0 * len(modes) + 76
    middle = height / 2
    parts = [
        element("rect", x=LEFT_BOX, y=4, width=NODE, height=height - 12, rx=8, class_="box"),
        text(f"machine {run.method['client on']}", LEFT_BOX + NODE / 2, 24, "strong", "middle"),
        element("rect", x=LEFT_BOX + 8, y=middle - 7, width=74, height=22, rx=5, class_="pod"),
        text("Pod client", LEFT_BOX + 45, middle + 8, "small", "middle"),
        element("line", x1=LEFT_BOX + NODE, x2=RIGHT_BOX, y1=middle, y2=middle, class_="wire"),
        element("rect", x=RIGHT_BOX, y=4, width=156, height=height - 12, rx=8, class_="box"),
        text(f"machine {run.method['backends on']}", RIGHT_BOX + 78, 24, "strong", "middle"),
        element("rect", x=RIGHT_BOX + 18, y=middle - 7, width=120, height=21, rx=5, class_="pod"),
        text("Pods nginx", RIGHT_BOX + 78, middle + 8, "small", "middle"),
    ]
    for number, mode in enumerate(modes):
        parts.append(text(mode, LEFT_BOX + 110, 54.0 + 18 * number, f"strong c-{mode}"))
    return element(
        "svg",
        title("Topology: a client Pod on one machine, backends on another; one mode after the other"),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {height:g}",
        role="img",
        class_="plot topology",
    )
