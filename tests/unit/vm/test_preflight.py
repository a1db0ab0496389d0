"""What a machine lacks to carry Vagrant's is one line with the remedy."""

from pathlib import Path

import pytest

from testbed.errors import UsageError
from testbed.vm import preflight, provider
from testbed.vm.preflight import LIBVIRT, VIRTUALBOX, fits

MEMINFO = "MemTotal: 9 kB\nMemAvailable:    2097152 kB\n"
"""2,048 MiB."""


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider, "running", lambda: True)
    monkeypatch.setattr(preflight.shutil, "which", lambda program: None)


def test_what_there_is_room_for_is_not_spoken_of() -> None:
    fits(LIBVIRT, 3, 2048 - 3 * 180, "tcg", MEMINFO)
    fits(LIBVIRT, 3, 2048 - 3 * 60, "kvm", MEMINFO)
    fits(LIBVIRT, 0, 0, "kvm", MEMINFO)


def test_too_little_memory() -> None:
    with pytest.raises(
        UsageError, match=r"3 machines more take 2,049 MiB .* 2,048 are free: .*TESTBED_NODES"
    ):
        fits(LIBVIRT, 3, 2049 - 3 * 180, "tcg", MEMINFO)


def test_no_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no VirtualBox: install it, or `vagrant up --provider=libvirt`"):
        fits(VIRTUALBOX, 1, 100, "kvm", MEMINFO)
    monkeypatch.setattr(provider, "running", lambda: False)
    with pytest.raises(UsageError, match="libvirt does not answer: as root, testbed vm provider up"):
        fits(LIBVIRT, 1, 100, "kvm", MEMINFO)


def test_this_machine_says_what_is_available() -> None:
    assert preflight.available(Path("/proc/meminfo").read_text()) > 0
