"""What the guest does: the script that mounts shares and images, runs one command, and says how it ended."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

INSIDE = "TESTBED_ENV"  # set to "vm" in the guest: what runs there never asks for another VM
KERNEL = "TESTBED_VM_KERNEL"  # the guest's kernel as the host calls it, e.g. "Debian 6.1.0-56-amd64"

# Of no meaning inside: files and sockets of the host that the guest does not see.
HOST_ONLY = ("DBUS_SESSION_BUS_ADDRESS", "SSH_AUTH_SOCK", "TMPDIR", "XDG_RUNTIME_DIR", "DISPLAY", "OLDPWD")

START = """\
b=/run/vm/busybox; job=/run/vm/job
{mounts}
$b ip link set lo up
$b mount -t cgroup2 none /sys/fs/cgroup && echo "+cpu +memory +pids" > /sys/fs/cgroup/cgroup.subtree_control
$b mkfifo /run/vm/out /run/vm/err
# The kernel patches its own code for the first of all groups. QEMU, emulating two CPUs, may keep what it has
# translated of a place that is just being patched, and who comes by it later is stuck: so while nothing runs.
$b mkdir /sys/fs/cgroup/first
# The command writes into pipes and not into the shared files, so that it can neither truncate nor seek in
# them.
$b cat /run/vm/out >> $job/stdout & out=$!
$b cat /run/vm/err >> $job/stderr & err=$!
$b setsid /bin/sh $job/command < /dev/null > /run/vm/out 2> /run/vm/err
code=$?
for process in /proc/[0-9]*; do
  pid=${{process#/proc/}}
  case $pid in 1|$$|$out|$err) ;; *) [ -e $process/exe ] && $b kill -9 $pid ;; esac
done 2> /dev/null
wait $out $err
echo $code > $job/status
$b sync
$b reboot -f
"""


def write(
    job: Path,
    argv: Sequence[str],
    *,
    cwd: Path,
    environ: Mapping[str, str],
    shares: Sequence[Path],
    images: Sequence[Sequence[Path]],
    modules: Path,
) -> None:
    """Write the guest's scripts into the shared directory `job`.

    `shares[i]` is the 9p share `rw<i>`, `images[i]` the paths inside the i-th virtio disk, `modules` the
    kernel's.
    """
    mounts: list[str] = []
    for number, share in enumerate(shares):
        mounts += _mount(share, f"-t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=mmap rw{number}")
    version = modules.name
    mounts += _mount(Path("/lib/modules") / version, f"--bind /run/vm/host{shlex.quote(str(modules))}")
    for number, trees in enumerate(images):
        disk = f"/run/vm/image{number}"
        mounts += _mount(Path(disk), f"-t squashfs -o ro /dev/vd{chr(ord('a') + number)}")
        mounts += [line for tree in trees for line in _mount(tree, f"--bind {shlex.quote(disk + str(tree))}")]
    (job / "start").write_text(START.format(mounts="\n".join(mounts)))
    (job / "command").write_text(_command(argv, cwd, environ))
    for name in ("stdout", "stderr"):
        (job / name).touch()


def environment(extra: Mapping[str, str] | None, kernel: str) -> dict[str, str]:
    """The environment inside: the host's, `extra`, and the marks that say where this is."""
    kept = {name: value for name, value in os.environ.items() if name not in HOST_ONLY}
    return {**kept, **(extra or {}), INSIDE: "vm", KERNEL: kernel}


def _mount(target: Path, what: str) -> list[str]:
    quoted = shlex.quote(str(target))
    # A mount point that the host has not (its root may lack /lib/modules) is made in the guest's layer.
    return [f"[ -e {quoted} ] || $b mkdir -p {quoted}", f"$b mount {what} {quoted}"]


def _command(argv: Sequence[str], cwd: Path, environ: Mapping[str, str]) -> str:
    exports = [f"{name}={shlex.quote(value)}" for name, value in environ.items()]
    # The host's own env: busybox would run its own `ip` or `sh` where the host's is meant.
    return (
        f"cd {shlex.quote(str(cwd))} || exit 1\nexec /usr/bin/env -i {' '.join(exports)} {shlex.join(argv)}\n"
    )
