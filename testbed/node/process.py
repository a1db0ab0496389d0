"""What a machine's init is asked to start, and what it says of it: the words both sides speak."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Mount:
    """A mount in the process's own mount namespace: `bind` of source over target, or an empty `tmpfs`."""

    source: str
    target: str
    readonly: bool = False
    kind: str = "bind"


@dataclass(frozen=True)
class Process:
    """A process to start.

    argv     `testbed VERB …` is forked from init without a new interpreter, anything else is exec'ed
    env      the whole environment; None: the machine's
    log      a file that stdout and stderr are appended to; ignored where descriptors are passed
    netns    path of a network namespace file; empty: the machine's own
    pidns    its own pid namespace: when this process ends, the kernel ends all its descendants
    hostname its own host name; empty: the machine's
    mounts   made in its own mount namespace before it starts
    fds      descriptors of init's that it inherits under the same numbers
    restart  start it again when it ends, with back-off
    enter    pid of a process whose namespaces it joins, all of them; 0: none
    tty      its stdin is a terminal, and becomes its controlling one
    user     the user and group ids it runs as, and further groups; empty: init's own
    readonly its root file system is, but for what `mounts` adds
    cgroup   the control group that it is in; empty: init's own
    """

    id: str
    argv: tuple[str, ...]
    env: Mapping[str, str] | None = None
    cwd: str = "/"
    log: str = ""
    netns: str = ""
    pidns: bool = False
    hostname: str = ""
    mounts: tuple[Mount, ...] = ()
    fds: tuple[int, ...] = ()
    restart: bool = False
    enter: int = 0
    tty: bool = False
    user: tuple[int, ...] = ()
    readonly: bool = False
    cgroup: str = ""

    def to_json(self) -> dict[str, Any]:
        """Without dataclasses.asdict, which takes longer than all else that is done to ask for a process."""
        return {**vars(self), "mounts": [vars(mount) for mount in self.mounts]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Process:
        return cls(
            **{
                **data,
                "argv": tuple(data["argv"]),
                "mounts": tuple(Mount(**mount) for mount in data.get("mounts", ())),
                "fds": tuple(data.get("fds", ())),
                "user": tuple(data.get("user", ())),
            }
        )


@dataclass(frozen=True)
class Status:
    """A process as init knows it. `pid` is the machine's; times are seconds since the epoch.

    exit_code is None while it runs, negative for the signal that ended it.
    """

    id: str
    pid: int
    started: float
    exit_code: int | None = None
    finished: float | None = None
    restarts: int = 0

    @property
    def running(self) -> bool:
        return self.exit_code is None
