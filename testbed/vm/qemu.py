"""The QEMU engine: boots one machine, follows its output, returns the command's exit code.

QEMU is driven directly, not through virtme-ng: that takes 10 s to run `true` under emulation (here 4 s),
mixes stdout with stderr and loses the exit code without a terminal, and knows only 9p for the files Python
reads.
"""

from __future__ import annotations

import os
import selectors
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from testbed.errors import TestbedError, UsageError
from testbed.vm import accel, cache, image, initramfs, job, kernels

PROGRAM = "qemu-system-x86_64"
MEMORY = 2048  # MiB
CPUS = 2
FOLLOW = 0.02  # s between two looks at the guest's output files

# A plain CPU is emulated faster than QEMU's `max` (15 against 18 s to import scapy: 5-level pages, SMAP and
# AVX cost); the extensions speed up checksums and TLS.
CPU_MODELS = {
    "kvm": "host",
    "tcg": "qemu64,aes=on,pclmulqdq=on,ssse3=on,sse4.1=on,sse4.2=on,popcnt=on,bmi1=on,bmi2=on,adx=on",
}

# Nothing of the guest's hardware is probed that isn't there, no message is printed but errors, a panic ends
# QEMU.
KERNEL_PARAMETERS = (
    "console=ttyS0 quiet loglevel=3 panic=-1 reboot=t mitigations=off nokaslr audit=0 nmi_watchdog=0 "
    "random.trust_cpu=on tsc=reliable no_timer_check raid=noautodetect cryptomgr.notests"
)


def run(
    argv: Sequence[str],
    *,
    rw: Sequence[Path | str] = (),
    memory: int = MEMORY,
    cpus: int = CPUS,
    env: Mapping[str, str] | None = None,
    kernel: Path | str | None = None,
    accelerator: str = "",
    stdout: BinaryIO | None = None,
    stderr: BinaryIO | None = None,
    verbose: bool = False,
) -> int:
    """Run `argv` as root in a fresh VM, in the same directory, and return its exit code.

    The guest sees the host's files; what it writes stays in its memory, but for the working directory and the
    directories `rw`, which are the host's own. /tmp, /run and /var/lib/testbed begin empty. `env` is added
    to this process's environment. Memory is in MiB. stdin is empty. `stdout` and `stderr` default to this
    process's own. Raises UsageError when the machine lacks QEMU, TestbedError when the VM dies.
    """
    if not argv:
        raise UsageError("no command for the VM: testbed vm run -- ARGV…")
    if shutil.which(PROGRAM) is None:
        raise UsageError(f"no {PROGRAM}: apt-get install qemu-system-x86")
    chosen = kernels.named(Path(kernel)) if kernel else kernels.default()
    cwd = Path.cwd()
    shares = _outermost([cwd, *(Path(path).resolve() for path in rw)])
    images = image.images()
    with cache.job_directory() as room:
        job.write(
            room,
            argv,
            cwd=cwd,
            environ=job.environment(env, str(chosen)),
            shares=shares,
            images=[trees for _, trees in images],
            modules=chosen.modules.resolve(),
        )
        command = [
            *machine(chosen, accelerator or best_accelerator(), room / "console", memory=memory, cpus=cpus),
            *_share("host", Path("/"), readonly=True),
            *_share("job", room),
            *(word for number, path in enumerate(shares) for word in _share(f"rw{number}", path)),
            *(word for path, _ in images for word in _disk(path)),
        ]
        return _follow(command, room, stdout or sys.stdout.buffer, stderr or sys.stderr.buffer, verbose)


def machine(
    kernel: kernels.Kernel, accelerator: str, console: Path, *, memory: int = 512, cpus: int = 1
) -> list[str]:
    """The QEMU command line of a machine without disks, network, display; its kernel writes to `console`."""
    return [
        PROGRAM, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-machine", "q35", "-cpu", CPU_MODELS[accelerator], "-smp", str(cpus), "-m", f"{memory}M",
        "-accel", accelerator, "-kernel", str(kernel.image), "-initrd", str(initramfs.build(kernel)),
        "-append", KERNEL_PARAMETERS, "-serial", f"file:{_escaped(console)}", "-nic", "none",
    ]  # fmt: skip


def best_accelerator() -> str:
    """KVM where it truly works, found once a boot of the host by booting a machine with it; TCG elsewhere."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"

    def attempt(answer: Path) -> None:
        with cache.job_directory() as room:
            command = machine(kernels.default(), "kvm", room / "console")
            command[command.index(KERNEL_PARAMETERS)] += " testbed_probe"
            answer.write_text("kvm" if accel.tried(command, room / "console") else "tcg")

    return cache.made(accel.remembered("kvm"), attempt).read_text()


def _share(tag: str, path: Path, *, readonly: bool = False) -> list[str]:
    options = f"local,id={tag},path={_escaped(path)},security_model=none,multidevs=remap"
    return [
        "-fsdev", options + (",readonly=on" if readonly else ""),
        "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}",
    ]  # fmt: skip


def _disk(path: Path) -> list[str]:
    return ["-drive", f"file={_escaped(path)},if=virtio,format=raw,readonly=on"]


def _escaped(path: Path) -> str:
    return str(path).replace(",", ",,")


def _outermost(paths: Sequence[Path]) -> list[Path]:
    """The paths without those that lie within another one. The root would hide the guest's own layer."""
    kept: list[Path] = []
    for path in sorted({path.resolve() for path in paths}, key=lambda path: len(path.parts)):
        if path != Path("/") and not any(path.is_relative_to(other) for other in kept):
            kept.append(path)
    return kept


@contextmanager
def _running(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """QEMU as a child that gets no Ctrl-C of its own and dies when this process does, whatever way."""
    words = ["setpriv", "--pdeathsig", "KILL", *command]
    child = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def _follow(command: Sequence[str], room: Path, stdout: BinaryIO, stderr: BinaryIO, verbose: bool) -> int:
    """Run QEMU to its end, copying what the guest writes as it comes; the command's exit code."""
    with _running(command) as child, (room / "stdout").open("rb") as out, (room / "stderr").open("rb") as err:
        sources: list[tuple[BinaryIO, BinaryIO]] = [(out, stdout), (err, stderr)]
        ended = os.pidfd_open(child.pid)
        with selectors.DefaultSelector() as selector:
            selector.register(ended, selectors.EVENT_READ)
            while not selector.select(FOLLOW):
                _copy(sources)
        os.close(ended)
        _copy(sources)
        complaint = child.stderr.read().decode(errors="replace") if child.stderr else ""
    console = (room / "console").read_text(errors="replace") if (room / "console").exists() else ""
    if verbose:
        stderr.write(console.encode())
        stderr.flush()
    try:
        return int((room / "status").read_text())
    except (FileNotFoundError, ValueError):
        last = [line for line in (console or complaint).splitlines() if line.strip()][-3:]
        raise TestbedError(
            f"the VM died before the command ended: {' / '.join(last) or 'no message'}"
        ) from None


def _copy(sources: Sequence[tuple[BinaryIO, BinaryIO]]) -> None:
    for source, target in sources:
        while piece := source.read(1 << 20):
            target.write(piece)
            target.flush()
