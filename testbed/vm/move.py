"""Moving a run into a VM when the running kernel lacks what it needs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from testbed.kernel import features
from testbed.vm import job, kernels, qemu


def inside() -> bool:
    """True in the guest: what runs there takes the kernel as it is and never asks for another VM."""
    return os.environ.get(job.INSIDE) == "vm"


def needed(wanted: Iterable[str]) -> list[str]:
    """Those of the features `wanted` (names of `testbed.kernel.features`) for which a VM is needed; none
    inside one.
    """
    return [] if inside() else features.missing(wanted)


def move(wanted: Iterable[str], argv: Sequence[str], *, rw: Sequence[Path | str] = (), **options: int) -> int:
    """Say in one line on stderr why, run `argv` in a VM, and return its exit code. `options` as in
    `qemu.run`.
    """
    lacking = needed(wanted)
    because = f"kernel {features.kernel()} has no {', '.join(lacking)}" if lacking else "a VM was asked for"
    print(f"{because}: running in a VM ({described()})", file=sys.stderr, flush=True)
    return qemu.run(argv, rw=rw, **options)  # type: ignore[arg-type]


def translates() -> bool:
    """Whether a VM's code is translated here, for want of hardware virtualisation."""
    return qemu.best_accelerator() == "tcg"


def described() -> str:
    """The VM's engine and kernel, e.g. "QEMU TCG, Debian 6.1.0-56-amd64"."""
    return f"QEMU {qemu.best_accelerator().upper()}, {kernels.default()}"
