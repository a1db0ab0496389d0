"""Start one process from a single-threaded parent: namespaces, mounts, descriptors, then exec or a verb."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import termios
from collections.abc import Callable, Sequence
from pathlib import Path

from setproctitle import setproctitle

from testbed.errors import TestbedError
from testbed.kernel import cgroup, namespaces
from testbed.node import echo
from testbed.node.process import Mount, Process

PROGRAM = "testbed"
"""argv[0] of the project's own programs: forked, so that starting them costs milliseconds."""


def spawn(process: Process, descriptors: Sequence[int], fork: Callable[[], int] = os.fork) -> int:
    """Start `process` and return its pid. Returns once exec has happened, or the verb is about to run.

    `descriptors` are stdin, stdout and stderr; with none, stdin is empty and output goes to the log.
    Raises OSError when a namespace, a mount, a file or the program is missing.
    """
    read, write = os.pipe()
    other = process.pidns or process.enter
    own_pidns = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC) if other else -1
    try:
        if process.enter:
            namespaces.enter(process.enter, ("pid",))
        elif process.pidns:
            namespaces.unshare(("pid",))
        pid = fork()
        if pid == 0:
            os.close(read)
            _child(process, descriptors, write)
    finally:
        if own_pidns >= 0:
            namespaces.setns(own_pidns, "pid")
            os.close(own_pidns)
        os.close(write)
    with open(read, "rb") as channel:
        trouble = channel.read()
    if trouble:
        with contextlib.suppress(ChildProcessError):  # a sibling: our parent reaps it
            os.waitpid(pid, 0)
        errno, _, text = trouble.decode(errors="replace").partition(" ")
        raise OSError(int(errno), text)
    return pid


def _child(process: Process, descriptors: Sequence[int], report: int) -> None:
    code = 127
    try:
        os.setsid()
        if process.cgroup:
            cgroup.join(process.cgroup)
        _stdio(process, descriptors)
        if process.tty:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        if process.enter:
            _join(process.enter)
        _isolate(process)
        _reset_signals()
        kept = (*process.fds, report)
        _close_all_but(kept)
        os.chdir(process.cwd)
        if process.user:
            _become(process.user)
        if process.env is not None:
            os.environ.clear()
            os.environ.update(process.env)
        if process.argv[0] == PROGRAM:
            os.close(report)
            report = -1
            code = _verb(process.argv[1:])
        else:
            for descriptor in process.fds:
                os.set_inheritable(descriptor, True)
            os.execvp(process.argv[0], process.argv)
    except OSError as error:
        if report >= 0:
            text = f"{error.errno or 5} {process.argv[0]}: {error.strerror or error}"
            os.write(report, text.encode())
        else:
            print(error, file=sys.stderr)
    except TestbedError as error:
        print(f"{' '.join(process.argv)}: {error}", file=sys.stderr)
        code = error.exit_code
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _verb(words: Sequence[str]) -> int:
    # As Python itself starts: a peer that went away is an error to handle, not the end of the component.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    ports = echo.plain(words[1:]) if words[0] == "echo" else None
    if ports:
        setproctitle(" ".join(words))
        echo.serve(ports)
        return 0
    from testbed.cli.main import main

    # Fresh ones: those inherited know nothing of what these descriptors are by now.
    sys.stdin = open(0, closefd=False)
    sys.stdout = open(1, "w", closefd=False)
    sys.stderr = open(2, "w", buffering=1, closefd=False)
    return main(words)


def warm(verbs: Sequence[str]) -> None:
    """Load what these verbs' command lines need, for those that are forked from here to find."""
    from testbed.cli.main import parser

    for verb in verbs:
        parser(verb).parse_args([])


def _stdio(process: Process, descriptors: Sequence[int]) -> None:
    opened = list(descriptors)
    if not opened:
        opened = [os.open(os.devnull, os.O_RDONLY), _log(process.log)]
        opened.append(opened[1])
    # Copies above 2 first: the passed numbers may themselves be 0, 1 or 2.
    copies = [os.dup(descriptor) for descriptor in opened]
    while min(copies) <= 2:
        copies = [os.dup(copy) for copy in copies]
    for number, copy in enumerate(copies):
        os.dup2(copy, number, inheritable=True)


def _log(path: str) -> int:
    if not path:
        return os.open(os.devnull, os.O_WRONLY)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        return os.open(path, flags, 0o644)
    except FileNotFoundError:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, flags, 0o644)


def _join(pid: int) -> None:
    """Into the namespaces of a process; the mount namespace last, as /proc is another one from there on."""
    namespaces.enter(pid, ("net", "uts", "ipc", "mnt"))


def _isolate(process: Process) -> None:
    if process.netns:
        namespaces.enter(process.netns)
    own = [
        kind
        for kind, wanted in (
            ("mnt", process.pidns or process.netns or process.mounts or process.readonly),
            ("uts", process.hostname),
            ("ipc", process.pidns),
        )
        if wanted
    ]
    if own:
        namespaces.unshare(own)
    if "mnt" in own:
        namespaces.make_private()
    if process.pidns:
        namespaces.mount("proc", "/proc", "proc", namespaces.MS_NOSUID | namespaces.MS_NODEV)
    if process.netns:
        namespaces.mount("sysfs", "/sys", "sysfs", namespaces.MS_NOSUID | namespaces.MS_NODEV)
    if process.hostname:
        os_sethostname(process.hostname)
    for mount in process.mounts:
        _mount(mount)
    if process.readonly:
        namespaces.mount("none", "/", flags=namespaces.MS_REMOUNT | namespaces.MS_BIND | namespaces.MS_RDONLY)


def os_sethostname(name: str) -> None:
    import socket

    socket.sethostname(name)


def _mount(mount: Mount) -> None:
    target = Path(mount.target)
    if mount.kind == "bind" and not Path(mount.source).is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    else:
        target.mkdir(parents=True, exist_ok=True)
    if mount.kind == "tmpfs":
        namespaces.mount("tmpfs", mount.target, "tmpfs", namespaces.MS_NOSUID | namespaces.MS_NODEV)
    else:
        namespaces.bind(mount.source, mount.target, readonly=mount.readonly)


def _become(user: Sequence[int]) -> None:
    """That user, who may have low ports all the same, as with other container runtimes."""
    Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").write_text("0")
    os.setgroups(user[1:])
    os.setgid(user[1])
    os.setuid(user[0])


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _close_all_but(kept: Sequence[int]) -> None:
    start = 3
    for descriptor in sorted(kept):
        os.closerange(start, descriptor)
        start = descriptor + 1
    os.closerange(start, os.sysconf("SC_OPEN_MAX"))
