"""A service of the machine's own service manager, forked from the process that `testbed warm` is.

    python3 -S -m testbed.node.unit kube-proxy --kubeconfig …

starts `testbed kube-proxy …` in this process's control group, with its environment and output, and lives as
long: the service manager ends and restarts both as one. It imports next to nothing: a service starts at once.
"""

import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

SOCKET = "/run/testbed-warm.sock"
GROUPS = Path("/sys/fs/cgroup")
GONE = '{"error": "testbed-warm has ended"}'


def main(words: Sequence[str], path: str = SOCKET) -> int:
    """Run `testbed WORDS…` to its end: its exit code, or 128 and the signal's number. Raises OSError."""
    process = {
        "id": f"{words[0]}/{os.getpid()}",
        "argv": ["testbed", *words],
        "env": dict(os.environ),
        "cgroup": own_group(),
    }
    line = json.dumps({"do": "start", "process": process, "wait": True}).encode() + b"\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.connect(path)
        signal.signal(
            signal.SIGTERM, signal.SIG_IGN
        )  # it is sent to the whole group: this ends with its service
        socket.send_fds(channel, [line[:1]], [0, 1, 2])
        channel.sendall(line[1:])
        with channel.makefile("rb") as answers:
            begun = json.loads(answers.readline() or GONE)
            answer = begun if "error" in begun else json.loads(answers.readline() or GONE)
    if "error" in answer:
        print(f"{words[0]}: {answer['error']}", file=sys.stderr)
        return 1
    code = int(answer["status"]["exit_code"])
    return code if code >= 0 else 128 - code


def own_group() -> str:
    """The directory of this process's control group (cgroups(7)); "" where version 2 is not in use."""
    if not (GROUPS / "cgroup.controllers").exists():
        return ""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    return str(GROUPS / next(line for line in lines if line.startswith("0::")).removeprefix("0::/"))


def notify_ready() -> None:
    """Tell the service manager that this service is up (sd_notify(3)); nobody listens elsewhere."""
    if path := os.environ.pop("NOTIFY_SOCKET", ""):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(b"READY=1", "\0" + path[1:] if path.startswith("@") else path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
