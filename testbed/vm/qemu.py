"""The QEMU engine: boots one machine, follows its output, returns the command's exit code.

QEMU is driven directly, not through virtme-ng: that (1.42) takes 10 s to run `true` under emulation, where
this takes 2.5 s; without a terminal it loses output and exit code; and it offers only 9p for the files
Python reads.
"""

from __future__ import annotations

import math
import os
import re
import selectors
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from testbed.errors import TestbedError, UsageError
from testbed.vm import accel, cache, image, initramfs, job, kernels

PROGRAM = "qemu-system-x86_64"
REQUIRED = {
    PROGRAM: "qemu-system-x86",
    "mksquashfs": "squashfs-tools",
    "depmod": "kmod",
    "setpriv": "util-linux",
}
MEMORY = 2048  # MiB
CPUS = 2
CLOCKS = ("wall", "instructions")
FOLLOW = 0.02  # s between two looks at the guest's output files
STUCK = 120  # s for which a guest's CPU goes round in circles before the machine is given up
LOOK = 1.0  # s between two looks at what the guest's kernel says of that

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

# Guest time counts instructions, one a nanosecond, whatever the host does meanwhile; an idle CPU's clock
# jumps to its next timer. Date, addresses and the TSC's rate are fixed, lest they differ from run to run.
COUNTING = ("-icount", "shift=0,sleep=off", "-rtc", "base=2026-01-01,clock=vm")
COUNTING_PARAMETERS = "norandmaps randomize_kstack_offset=off tsc_early_khz=1000000"
# Without a source of randomness the kernel's generator is ready at some moment or never; until it is, each
# random number that the network stack asks for costs some 2,000 instructions more.
COUNTING_CPU = ",rdrand=on"
COUNTING_ENVIRONMENT = {"PYTHONHASHSEED": "0"}


class Stuck(TestbedError):
    """The guest's kernel says that its CPUs hang. It is the emulator's fault: another machine may do well."""


def run(
    argv: Sequence[str],
    *,
    rw: Sequence[Path | str] = (),
    memory: int = MEMORY,
    cpus: int | None = None,
    clock: str = "wall",
    env: Mapping[str, str] | None = None,
    kernel: Path | str | None = None,
    accelerator: str = "",
    stdout: BinaryIO | None = None,
    stderr: BinaryIO | None = None,
    verbose: bool = False,
    timeout: float | None = None,
    watch: Callable[[], None] | None = None,
) -> int:
    """Run `argv` as root in a fresh VM, in the same directory, and return its exit code.

    The guest sees the host's files; what it writes stays in its memory, but for the working directory and the
    directories `rw`, which are the host's own. /tmp, /run and /var/lib/testbed begin empty. `env` is added
    to this process's environment. Memory is in MiB; there are CPUS CPUs unless told. With the `clock`
    "instructions" one CPU is emulated, and a nanosecond of its time is one instruction. stdin is empty.
    `stdout` and `stderr` default to this process's own. `watch` is called some fifty times a second while
    the machine runs. Raises UsageError when the machine lacks QEMU, TestbedError when the VM dies or has not
    ended after `timeout` seconds, Stuck when its CPUs hang.
    """
    _refuse(argv, rw)
    counting = _counting(clock, cpus, accelerator)
    chosen = kernels.named(Path(kernel)) if kernel else kernels.default()
    cwd = Path.cwd()
    shares = _outermost([cwd, *(Path(path).resolve() for path in rw)])
    images = image.images()
    engine = "tcg" if counting else accelerator or best_accelerator()
    with cache.job_directory() as room:
        job.write(
            room,
            argv,
            cwd=cwd,
            environ=job.environment(
                {**(COUNTING_ENVIRONMENT if counting else {}), **(env or {})}, str(chosen)
            ),
            shares=shares,
            images=[trees for _, trees in images],
            modules=chosen.modules.resolve(),
        )
        command = [
            *machine(
                chosen,
                engine,
                room / "console",
                memory=memory,
                cpus=1 if counting else cpus or CPUS,
                counting=counting,
            ),
            *_share("host", Path("/"), readonly=True),
            *_share("job", room),
            *(word for number, path in enumerate(shares) for word in _share(f"rw{number}", path)),
            *(word for path, _ in images for word in _disk(path)),
        ]
        streams = [
            (room / "stdout", stdout or sys.stdout.buffer),
            (room / "stderr", stderr or sys.stderr.buffer),
        ]
        complaint = _follow(command, streams, _watching(room / "console", watch), timeout)
        log = _text(room / "console") or complaint
        if verbose:
            print(log, file=sys.stderr, flush=True)
        status = _text(room / "status").strip()
    if not status:
        lines = [line for line in log.splitlines() if line.strip()]
        cause = [line for line in lines if "Kernel panic" in line] or lines[-3:] or ["no message"]
        raise TestbedError(f"the VM died before the command ended: {' / '.join(cause)}")
    return int(status)


def _refuse(argv: Sequence[str], rw: Sequence[Path | str]) -> None:
    if not argv:
        raise UsageError("no command for the VM: testbed vm run -- ARGV…")
    if os.environ.get(job.INSIDE) == "vm":
        raise UsageError("this is a VM already: run the command as it is")
    for program, package in REQUIRED.items():
        if shutil.which(program) is None:
            raise UsageError(f"a VM needs {program}: apt-get install {package}, or make setup")
    for path in rw:
        if not Path(path).is_dir():
            raise UsageError(f"cannot share {path}: no such directory")


def _counting(clock: str, cpus: int | None, accelerator: str) -> bool:
    if clock not in CLOCKS:
        raise UsageError(f"unknown clock {clock!r}; a VM knows {', '.join(CLOCKS)}")
    if clock == "instructions" and cpus not in (None, 1):
        raise UsageError("--clock instructions counts those of one CPU: leave --cpus out")
    if clock == "instructions" and accelerator not in ("", "tcg"):
        raise UsageError("--clock instructions needs emulation (TCG): hardware does not count for the guest")
    return clock == "instructions"


def machine(
    kernel: kernels.Kernel,
    accelerator: str,
    console: Path,
    *,
    memory: int = 512,
    cpus: int = 1,
    counting: bool = False,
) -> list[str]:
    """The QEMU command line of a machine without disks, network, display; its kernel writes to `console`."""
    cpu = CPU_MODELS[accelerator] + (COUNTING_CPU if counting else "")
    parameters = f"{KERNEL_PARAMETERS} {COUNTING_PARAMETERS}" if counting else KERNEL_PARAMETERS
    return [
        PROGRAM, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-machine", "q35", "-cpu", cpu, "-smp", str(cpus), "-m", f"{memory}M",
        "-accel", accelerator, "-kernel", str(kernel.image), "-initrd", str(initramfs.build(kernel)),
        "-append", parameters, "-serial", f"file:{_escaped(console)}", "-nic", "none",
        *(COUNTING if counting else ()),
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
        if child.stderr:
            child.stderr.close()


def _follow(
    command: Sequence[str],
    streams: Sequence[tuple[Path, BinaryIO]],
    watch: Callable[[], None],
    timeout: float | None,
) -> str:
    """Run QEMU to its end, copying what the guest writes as it comes. Returns QEMU's own complaints."""
    end = time.monotonic() + timeout if timeout else math.inf
    with ExitStack() as stack:
        pairs = [(stack.enter_context(path.open("rb")), target) for path, target in streams]
        child = stack.enter_context(_running(command))
        ended = os.pidfd_open(child.pid)
        stack.callback(os.close, ended)
        selector = stack.enter_context(selectors.DefaultSelector())
        selector.register(ended, selectors.EVENT_READ)
        while not selector.select(FOLLOW):
            _copy(pairs)
            watch()
            if time.monotonic() > end:
                raise TestbedError(f"the VM had not ended after {timeout:.0f} s")
        _copy(pairs)
        watch()
        assert child.stderr is not None
        return child.stderr.read().decode(errors="replace")


def _watching(console: Path, watch: Callable[[], None] | None) -> Callable[[], None]:
    """`watch`, and a look at the console now and then. Raises Stuck."""
    following = time.monotonic() + LOOK

    def both() -> None:
        nonlocal following
        if watch:
            watch()
        if time.monotonic() >= following:
            following = time.monotonic() + LOOK
            if (seconds := stuck(_text(console))) >= STUCK:
                raise Stuck(f"the VM was given up: its processors hang, for {seconds} s; run it again")

    return both


def stuck(console: str) -> int:
    """For how many seconds a CPU has been stuck, as the kernel's watchdog says; 0 when it says nothing."""
    return max(map(int, re.findall(r"soft lockup - CPU#\d+ stuck for (\d+)s", console)), default=0)


def _copy(pairs: Sequence[tuple[BinaryIO, BinaryIO]]) -> None:
    for source, target in pairs:
        while piece := source.read(1 << 20):
            target.write(piece)
            target.flush()


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
